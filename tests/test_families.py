"""Every supported family, on tiny random models: scoring, sampling, editing, and that no weight ever changes."""

from __future__ import annotations

import math

import pytest
import tiny
import torch

from cfbuild.data import Request
from cfbuild.edit.covariance import second_moments
from cfbuild.edit.presets import check_layer, preset_settings
from cfbuild.edit.rome import Rome
from cfbuild.edit.rome.options import RomeOptions
from cfbuild.errors import ConfigError, ModelError
from cfbuild.lm import likelihood
from cfbuild.lm.batch import Batch
from cfbuild.lm.delta import Delta, LowRank, applied
from cfbuild.lm.families import FAMILIES, family_of
from cfbuild.lm.forward import replay, trace, trace_below
from cfbuild.lm.likelihood import Question, score, score_before_and_after
from cfbuild.lm.model import LanguageModel
from cfbuild.lm.sample import generate, sample_contexts

REQUESTS = (
    Request("The mother tongue of {} is", "Danielle Darrieux", "English"),
    Request("{} lies in", "Berlin", "New Zealand"),  # subject first, several target tokens
    Request("The capital city of France is {}", "Rome", "Paris"),  # subject ends the prompt
)
PROMPTS = ("The capital city of France is", "Rome lies in", "She speaks", "The mother tongue of Danielle Darrieux is")
TARGETS = ("Paris", "French", "New Zealand English", "New Zealand", "Spanish")
ALIKE = (
    "The capital city of France is",
    "The capital city of Rome is",
    "The capital city",
    "The capital city of France is",
)
CONTEXTS = ("She speaks. ", "The actor of Rome is. ")

families = pytest.mark.parametrize("family", tiny.CONFIGS)


@pytest.fixture(params=[(False, "right"), (True, "left")], ids=["plain", "bos-and-left-padding"])
def lm(request: pytest.FixtureRequest, family: str) -> LanguageModel:
    adds_bos, side = request.param
    return tiny.make(family, adds_bos=adds_bos, padding_side=side)


def test_every_supported_model_type_is_tried() -> None:
    assert {name for family in FAMILIES for name in family.model_types} == set(tiny.CONFIGS)


def plain_nll(lm: LanguageModel, prompt: str, target: str) -> tuple[float, bool]:
    """Return what the slow, obvious way gives: one row, all logits, the last tokens read off."""
    ids = lm.encode(f"{prompt} {target}")
    count = len(ids) - len(lm.encode(prompt))
    with torch.no_grad():
        logits = lm.model(torch.tensor([ids])).logits[0, -count - 1 : -1]
    expected = torch.tensor(ids[-count:])
    nll = torch.nn.functional.cross_entropy(logits, expected)
    return float(nll), bool((logits.argmax(-1) == expected).all())


def questions(lm: LanguageModel) -> list[Question]:
    return [Question(lm.encode(prompt), tuple(map(lm.continuation, TARGETS))) for prompt in PROMPTS]


@families
def test_tries_score_like_one_row_a_target(lm: LanguageModel) -> None:
    for prompt, answers in zip(PROMPTS, score(lm, questions(lm)), strict=True):
        for target, answer in zip(TARGETS, answers, strict=True):
            nll, is_argmax = plain_nll(lm, prompt, target)
            assert answer.nll_nats == pytest.approx(nll, abs=1e-4)
            assert answer.is_argmax == is_argmax


@families
def test_batch_and_single_scores_agree(lm: LanguageModel) -> None:
    together = score(lm, questions(lm))
    for question, answers in zip(questions(lm), together, strict=True):
        alone = score(lm, [question])[0]
        assert [one.nll_nats for one in alone] == pytest.approx([one.nll_nats for one in answers], abs=1e-4)


@families
def test_prompts_that_begin_alike_score_as_if_alone(lm: LanguageModel) -> None:
    first, second = random_delta(lm, 1), random_delta(lm, 2)
    texts = [*ALIKE, *ALIKE[::-1]]
    deltas = [(first, second)[place % 2] for place in range(len(texts))]
    batch = [Question(lm.encode(text), tuple(map(lm.continuation, TARGETS))) for text in texts]
    both = score_before_and_after(lm, batch, deltas)
    for place, (text, delta) in enumerate(zip(texts, deltas, strict=True)):
        before, after = ([one.nll_nats for one in answers] for answers in both[place])
        assert before == pytest.approx([plain_nll(lm, text, target)[0] for target in TARGETS], abs=1e-4)
        with applied(lm, delta):
            assert after == pytest.approx([plain_nll(lm, text, target)[0] for target in TARGETS], abs=1e-4)
        assert after != pytest.approx(before, abs=1e-4)


@families
def test_tokens_are_one_where_all_that_they_see_and_their_edit_are(lm: LanguageModel) -> None:
    batch = [Question(lm.encode(text), tuple(map(lm.continuation, TARGETS))) for text in (*ALIKE, *ALIKE)]
    rows = likelihood._rows_of(batch)
    texts = [[question.prompt + tokens[:-1] for tokens in question.continuations] for question in batch]
    seen = [{text[:end] for text in each for end in range(1, 1 + len(text))} for each in texts]
    first, second = ([random_delta(lm, seed)] * len(ALIKE) for seed in (1, 2))
    once, twice = likelihood._merge(lm, rows), likelihood._merge(lm, rows, first + second)
    assert len(once.packing.real) == len(set.union(*seen)) < sum(map(len, seen)) / 2
    assert len(twice.packing.real) == 2 * len(once.packing.real)
    assert len(once.at) < sum(1 + len(row.trie.tokens) for row in rows)
    assert len(once.predictions.order) == sum(len(one) for question in batch for one in question.continuations)


@families
def test_every_tensor_is_made_on_the_models_device(lm: LanguageModel) -> None:
    """Check that no tensor is made without naming its device: here it would land on another one, and fail."""
    options = RomeOptions(layer=1, contexts=CONTEXTS, steps=3)
    with torch.device("meta"):
        moments, _ = second_moments(lm, [1], PROMPTS, 20)
        matrix = moments[1]
        edits = Rome(lm, options).edit(REQUESTS)
        deltas = [edit.delta for edit in edits if edit.delta is not None]
        batch = [Question(lm.encode(PROMPTS[0]), tuple(map(lm.continuation, TARGETS)))] * len(deltas)
        both = score_before_and_after(lm, batch, deltas)
        texts = generate(lm, [one.prompt for one in batch], [str(i) for i in range(len(batch))], 12, deltas)
    assert matrix.device == lm.device and len(deltas) == len(REQUESTS) == len(texts)
    assert all(math.isfinite(answer.nll_nats) for pair in both for answers in pair for answer in answers)


@families
def test_an_edit_raises_its_target_and_changes_no_weight(lm: LanguageModel) -> None:
    before = tiny.digest(lm)
    # Random MLPs say little, so a clamp or decay relative to what they say would leave no room to move; and without
    # contexts the bare prompt is all that is optimised, so it must get better.
    options = RomeOptions(layer=1, clamp_norm_factor=50, weight_decay=0, kl_factor=0, learning_rate=0.05)
    editor = Rome(lm, options)
    edits = editor.edit(REQUESTS)
    assert all(edit.fault is None for edit in edits)
    batch = [
        Question(lm.encode(request.prompt.replace("{}", request.subject)), (lm.continuation(request.target_new),))
        for request in REQUESTS
    ]
    scored = score_before_and_after(lm, batch, [edit.delta for edit in edits if edit.delta is not None])
    for (was,), (now,) in scored:
        assert now.nll_nats < was.nll_nats - 1e-3  # tens of times what batches differ by
    assert tiny.digest(lm) == before


@families
def test_edits_do_not_depend_on_the_batch(lm: LanguageModel) -> None:
    editor = Rome(lm, RomeOptions(layer=1, contexts=CONTEXTS, steps=8))
    for request, edit in zip(REQUESTS, editor.edit(REQUESTS), strict=True):
        alone = editor.edit([request])[0]
        assert edit.delta is not None and alone.delta is not None
        assert torch.allclose(edit.delta.only.matrix(), alone.delta.only.matrix(), rtol=1e-3, atol=1e-4)


@families
def test_contexts_are_run_once_for_the_records_of_a_batch(lm: LanguageModel) -> None:
    editor = Rome(lm, RomeOptions(layer=1, contexts=CONTEXTS, steps=2))
    fed: list[tuple[int, ...]] = []
    lm.model.get_input_embeddings().register_forward_pre_hook(lambda _, args: fed.append(tuple(args[0].shape)))
    editor.edit(REQUESTS[:1])
    alone = fed[-2:]  # the past and the rest of the record's rows
    fed.clear()
    editor.edit([REQUESTS[0]] * 3)
    assert fed == [alone[0], (3 * alone[1][0], alone[1][1])]
    fed.clear()
    editor.edit([REQUESTS[0], Request("Some say that {} is", "Danielle Darrieux", "English")])
    contexts, own, _ = fed
    longest = max(len(lm.encode(context)) for context in CONTEXTS)
    assert contexts[0] == len(CONTEXTS) + 2 and contexts[1] <= longest + 1
    assert own[0] == 2 * contexts[0] and own[1] < alone[0][1]


@families
def test_an_overlaid_edit_is_the_edited_model(lm: LanguageModel) -> None:
    before = tiny.digest(lm)
    delta = random_delta(lm, 1)
    overlaid = [after for _, after in score_before_and_after(lm, questions(lm), [delta] * len(PROMPTS))]
    with applied(lm, delta):
        edited = score(lm, questions(lm))
        assert tiny.digest(lm) != before
    assert tiny.digest(lm) == before
    for found, expected in zip(overlaid, edited, strict=True):
        assert [answer.nll_nats for answer in found] == pytest.approx(
            [answer.nll_nats for answer in expected], abs=1e-4
        )


@families
def test_texts_do_not_depend_on_the_batch(lm: LanguageModel) -> None:
    """Read prompts that come twice once, and let rows leave that have all their tokens."""
    prompts = [*PROMPTS, PROMPTS[0], PROMPTS[0]]
    ids, count = [lm.encode(prompt) for prompt in prompts], range(len(prompts))
    keys, totals = [f"key {index}" for index in count], [24 if index % 2 else 16 for index in count]
    deltas = [random_delta(lm, index) for index in range(len(PROMPTS))]
    for edits in (None, [*deltas, deltas[0], None]):
        together = generate(lm, ids, keys, totals, edits)
        alone = [generate(lm, [ids[i]], [keys[i]], totals[i], [edits[i]] if edits else None)[0] for i in count]
        assert together == alone
        assert all(text.startswith(prompt) for text, prompt in zip(together, prompts, strict=True))


@families
@pytest.mark.parametrize("stop", [0, 1])
def test_a_layer_that_only_notes_its_call_is_replayed_as_one_that_ran(lm: LanguageModel, stop: int) -> None:
    ids = torch.randint(3, 200, (2, 6), generator=torch.Generator().manual_seed(0))
    batch = Batch(ids, torch.arange(6).expand(2, -1), None)
    with torch.no_grad():
        whole = trace(lm, batch, stop)
        torch.testing.assert_close(replay(lm, trace_below(lm, batch, stop, stop)), whole.hidden)
    assert not any("forward" in layer.__dict__ for layer in lm.layers)


@families
def test_a_text_written_under_an_edit_is_the_edited_models(lm: LanguageModel) -> None:
    ids, delta = [lm.encode(PROMPTS[0])], random_delta(lm, 3)
    overlaid = generate(lm, ids, ["key"], 32, [delta])
    with applied(lm, delta):
        assert generate(lm, ids, ["key"], 32) == overlaid


@families
def test_narrow_products_edit_nearly_alike_and_are_gone_afterwards(lm: LanguageModel) -> None:
    before, scores = tiny.digest(lm), score(lm, questions(lm))
    exact, narrow = (
        Rome(lm, RomeOptions(layer=1, contexts=CONTEXTS, products=products, learning_rate=0.05)).edit(REQUESTS)
        for products in ("float32", "bfloat16")
    )
    for wide, rough in zip(exact, narrow, strict=True):
        assert wide.delta is not None and rough.delta is not None
        assert torch.equal(wide.delta.only.keys, rough.delta.only.keys)
        assert not torch.equal(wide.delta.only.values, rough.delta.only.values)
        assert float(torch.cosine_similarity(wide.delta.only.values[0], rough.delta.only.values[0], dim=0)) > 0.9
    assert tiny.digest(lm) == before and score(lm, questions(lm)) == scores


def random_delta(lm: LanguageModel, seed: int) -> Delta:
    generator = torch.Generator().manual_seed(seed)
    width = lm.model.get_input_embeddings().embedding_dim if lm.model.config.model_type != "opt" else 32
    keys = torch.randn(2, lm.key_width(1), generator=generator) * 0.3
    return Delta.of(1, LowRank(keys, torch.randn(2, width, generator=generator) * 0.3))


def test_weights_come_back_when_an_edit_is_interrupted() -> None:
    lm = tiny.make("llama")
    before = tiny.digest(lm)
    with pytest.raises(KeyboardInterrupt), applied(lm, random_delta(lm, 0)):
        raise KeyboardInterrupt
    assert tiny.digest(lm) == before


def test_the_norm_of_a_delta_is_its_matrix_norm() -> None:
    delta = random_delta(tiny.make("gpt2"), 5)
    assert delta.norm == pytest.approx(float(delta.only.matrix().norm()), rel=1e-5)


def test_consistent_keys_edit_too_and_differ() -> None:
    lm = tiny.make("gpt2")
    kinds = [
        Rome(lm, RomeOptions(layer=1, contexts=CONTEXTS, key_mode=mode)).edit(REQUESTS[:1])[0].delta
        for mode in ("reference", "consistent")
    ]
    assert kinds[0] is not None and kinds[1] is not None
    assert not torch.allclose(kinds[0].only.values, kinds[1].only.values)
    # With the averaged key in both places the update maps that key, not the bare one, onto its value.
    assert torch.allclose(kinds[0].only.keys, kinds[1].only.keys, atol=1e-6)


def test_an_edit_that_is_not_finite_is_a_fault_not_a_crash() -> None:
    lm = tiny.make("gpt2")
    with torch.no_grad():
        lm.model.get_output_embeddings().weight[5] = float("nan")
    good = Rome(lm, RomeOptions(layer=1)).edit(REQUESTS)
    assert all(edit.delta is None and edit.fault and "not finite" in edit.fault for edit in good)


def test_contexts_are_seeded_and_end_in_a_full_stop() -> None:
    lm = tiny.make("llama")
    assert sample_contexts(lm, 0) == sample_contexts(lm, 0) != sample_contexts(lm, 1)
    assert len(sample_contexts(lm, 0)) == 20
    assert all(text.endswith(". ") and "{" not in text for text in sample_contexts(lm, 0))


@pytest.mark.parametrize(
    ("prompt", "subject", "prefix"),
    [
        ("The mother tongue of {} is", "Danielle Darrieux", ""),
        ("{}'s capital city is", "France", "She speaks. "),
        ("{}, the actor", "St. Paris!", ""),
        ("She is {}", "Zoë Ångström", "x. "),
    ],
)
def test_the_subjects_last_token_holds_its_last_character(prompt: str, subject: str, prefix: str) -> None:
    for adds_bos in (False, True):
        lm = tiny.make("llama", adds_bos=adds_bos)
        ids, last = lm.encode_subject(prompt, subject, prefix)
        before = lm.tokenizer.decode(ids[:last], skip_special_tokens=True)
        until = lm.tokenizer.decode(ids[: last + 1], skip_special_tokens=True)
        whole = prefix + prompt.partition("{}")[0] + subject
        assert len(before) < len(whole) <= len(until)
        assert ids == lm.encode(prefix + prompt.replace("{}", subject))


def test_a_leading_token_comes_once_and_never_before_a_continuation() -> None:
    plain, with_bos = tiny.make("gpt2"), tiny.make("gpt2", adds_bos=True)
    assert with_bos.encode("Paris") == (0, *plain.encode("Paris"))
    assert with_bos.continuation("Paris") == plain.continuation("Paris")


def test_unknown_families_and_layers_are_refused() -> None:
    with pytest.raises(ModelError, match="bert"):
        family_of("bert")
    with pytest.raises(ConfigError, match="layer 9"):
        check_layer(9, 4)
    assert preset_settings("rome", "gpt2-xl", 48)["layer"] == 17
    assert preset_settings("ft", "gpt2-xl", 48)["layer"] == 1
    assert preset_settings("rome", None, 20)["layer"] == 4


def test_a_text_longer_than_the_model_is_refused_by_length() -> None:
    lm = tiny.make("gpt2")
    with pytest.raises(ModelError, match=f"has {lm.max_tokens + 1} tokens, and tiny-gpt2 has positions for"):
        score(lm, [Question((5,) * (lm.max_tokens + 1), ((7,),))])
