"""Steps of writing over tensors that stay where they are, which a GPU records, against steps that grow."""

from __future__ import annotations

import pytest
import tiny
import torch

from cfbuild.lm import sample
from cfbuild.lm.batch import Past
from cfbuild.lm.delta import Delta, Dense, LowRank
from cfbuild.lm.likelihood import Question, first_tokens, score
from cfbuild.lm.model import LanguageModel, Weight
from cfbuild.lm.products import LOGITS_BYTES
from cfbuild.lm.sample import answer, generate
from cfbuild.lm.steps import GrowingStep, RecordedStep, step_for

PROMPTS = ("Berlin lies in", "Rome lies in", "She speaks", "The mother tongue of Danielle Darrieux is", "In")
TOTALS = (12, 30, 20, 40, 9)
"""Rows end at different times, so that a past is copied for those that are left."""


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Take recorded steps on the CPU, where they run without a record; how many rows went on without others."""
    counts: list[int] = []

    class Counted(RecordedStep):
        def keep(self, rows: torch.Tensor) -> RecordedStep:
            counts.append(len(rows))
            return super().keep(rows)

    monkeypatch.setattr(sample, "step_for", Counted)
    return counts


@pytest.mark.parametrize("family", ["gpt2", "gptj", "gpt_neox", "opt", "llama", "gemma2", "qwen3"])
def test_recorded_steps_write_the_texts_of_growing_ones(family: str, kept: list[int]) -> None:
    lm = tiny.make(family)
    draw = torch.Generator().manual_seed(1)
    height, width = lm.shape(Weight(1))
    low = Delta({Weight(1): LowRank(torch.randn(2, width, generator=draw), torch.randn(2, height, generator=draw))})
    dense = Delta({Weight(1): Dense(torch.randn(height, width, generator=draw) * 0.1)})
    prompts, keys = [lm.encode(prompt) for prompt in PROMPTS], list("abcde")
    deltas = [low, dense, None, dense, low]
    with pytest.MonkeyPatch.context() as growing:
        growing.setattr(sample, "step_for", GrowingStep)
        expected = generate(lm, prompts, keys, TOTALS, deltas)
        answers = answer(lm, prompts, 12, lambda text: "e" in text, deltas)
    assert generate(lm, prompts, keys, TOTALS, deltas) == expected
    assert answer(lm, prompts, 12, lambda text: "e" in text, deltas) == answers
    assert kept, "half of the rows ended before the others"


def test_texts_too_long_for_the_model_are_written_by_steps_that_notice() -> None:
    class Elsewhere(LanguageModel):
        device = torch.device("cuda")

    lm, real = tiny.make("gpt2"), torch.ones(2, 4, dtype=torch.bool)
    there = Elsewhere(lm.model, lm.tokenizer, lm.family, lm.name, None, lm.revision)
    assert isinstance(step_for(there, Past(len(lm.layers), lm.max_tokens + 1), real), GrowingStep)
    assert isinstance(step_for(lm, Past(len(lm.layers), 8), real), GrowingStep), "on a CPU"


def test_the_head_is_called_for_a_few_states_at_a_time_with_the_same_texts_and_likelihoods(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lm, calls = tiny.make("llama"), []
    lm.model.get_output_embeddings().register_forward_pre_hook(lambda _, args: calls.append(len(args[0])))
    prompts, keys = [lm.encode(prompt) for prompt in PROMPTS], list("abcde")
    questions = [Question(prompt, (lm.continuation("Italy"), lm.continuation("Paris"))) for prompt in prompts]
    results = []
    for size in (1 << 25, 2 * 4 * lm.model.config.vocab_size):
        monkeypatch.setitem(LOGITS_BYTES, "cpu", size)
        calls.clear()
        results.append((generate(lm, prompts, keys, 20), score(lm, questions), first_tokens(lm, prompts)))
    assert max(calls) == 2
    (texts, likelihoods, first), (texts_again, likelihoods_again, first_again) = results
    assert (texts, first) == (texts_again, first_again)
    for before, after in zip(likelihoods, likelihoods_again, strict=True):
        assert [one.nll_nats for one in before] == pytest.approx([one.nll_nats for one in after], abs=1e-6)
