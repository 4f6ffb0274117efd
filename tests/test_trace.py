"""Causal traces against the same written plainly (hooks, whole runs, one state at a time) and the released numbers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from torch import Tensor

from cfbuild.errors import ConfigError, DataError
from cfbuild.lm.model import Ids, LanguageModel, Weight
from cfbuild.probe.corruption import noise_level
from cfbuild.probe.effects import AverageEffects, CausalTrace, Untraced
from cfbuild.probe.settings import BOTH, DIFFERENCE, KINDS, SEVERED, SWAP, TraceSettings
from cfbuild.probe.tracer import TracedFact, Tracer

FAMILIES = ("gpt2", "gptj", "gpt_neox", "llama", "gemma", "opt", "gemma2")
OTHERS = tuple((letter, None) for letter in "SBZPQ")
FACTS = (
    TracedFact(0, "P1", "The mother tongue of {} is", "Berlin"),
    TracedFact(1, "P1", "{} lies in", "R", others=OTHERS),
    TracedFact(2, "P1", "She speaks {}", "French", others=(("German", None), ("English", None))),
)
SMALL = TraceSettings(window=3, rows=2, noise=0.4)
PARTS = {"mlp": "mlp_out", "attention": "attention_out"}


# ---------------------------------------------------------------------------------------------------- the plain way


class Plain:
    """The released code's way: the clean row and the corrupted rows in one batch, all of it run for every state."""

    def __init__(self, lm: LanguageModel, trace: CausalTrace, rows: list[Ids], noise: np.ndarray | None) -> None:
        self.lm, self.trace, self.noise = lm, trace, noise
        self.ids = torch.tensor([trace.ids, *rows])
        self.answer = int(self.run()[0].argmax())

    def run(self, changes: Mapping[tuple[str, int], Callable[[Tensor], Tensor]] = {}) -> Tensor:  # noqa: B006
        """Logits of the last token, [rows, vocabulary]; `changes` get a module's output [rows, width, d]."""
        with ExitStack() as hooks, torch.no_grad():
            hooks.enter_context(self._hooked(self.lm.model.get_input_embeddings(), self._corrupt))
            for (kind, layer), change in changes.items():
                module = self.lm.layers[layer] if kind == "state" else self.lm.module(Weight(layer, PARTS[kind]))
                hooks.enter_context(self._hooked(module, change))
            logits: Tensor = self.lm.model(input_ids=self.ids).logits[:, -1]
        return logits

    def metric(self, logits: Tensor) -> float:
        """The mean over the corrupted rows."""
        return float(self.of(logits[1:]).mean())

    def of(self, logits: Tensor) -> Tensor:
        if self.against is None:
            return logits.softmax(-1)[:, self.answer]
        return logits[:, self.answer] - logits[:, self.against]

    against: int | None = None

    def _corrupt(self, vectors: Tensor) -> Tensor:
        begin, end = self.trace.subject
        if self.noise is not None:
            vectors = vectors.clone()
            vectors[1:, begin:end] += torch.from_numpy(self.noise).float()
        return vectors

    @contextmanager
    def _hooked(self, module: Any, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
        def put(_: Any, args: Any, output: Any) -> Any:
            states = output[0] if isinstance(output, tuple) else output
            changed = change(states.reshape(*self.ids.shape, -1)).reshape(states.shape)
            return (changed, *output[1:]) if isinstance(output, tuple) else changed

        hook = module.register_forward_hook(put)
        try:
            yield
        finally:
            hook.remove()

    def restored(self, token: int, modules: list[tuple[str, int]], hold: str | None = None) -> float:
        """The metric with the clean row's outputs of some modules at a token; a kind's stay corrupted if it is held."""
        changes: dict[tuple[str, int], Callable[[Tensor], Tensor]] = {}
        if hold is not None:
            first: dict[int, Tensor] = {}
            self.run({(hold, layer): partial(self._note, first, layer) for layer in range(len(self.lm.layers))})
            changes = {(hold, layer): partial(self._put, token, first[layer]) for layer in first}
        return self.metric(self.run({**changes, **{module: partial(self._restore, token) for module in modules}}))

    def _note(self, kept: dict[int, Tensor], layer: int, output: Tensor) -> Tensor:
        kept[layer] = output.clone()
        return output

    def _put(self, token: int, values: Tensor, output: Tensor) -> Tensor:
        output = output.clone()
        output[1:, token] = values[1:, token]
        return output

    def _restore(self, token: int, output: Tensor) -> Tensor:
        output = output.clone()
        output[1:, token] = output[:1, token]
        return output

    def scores(self, settings: TraceSettings) -> dict[str, np.ndarray]:
        depth = len(self.lm.layers)
        windows = {
            layer: range(max(0, layer - settings.window // 2), min(depth, layer - (-settings.window // 2)))
            for layer in range(depth)
        }
        found = {}
        for kind in KINDS:
            found[kind] = np.array(
                [
                    [
                        self.restored(
                            token, [(kind, each) for each in ((layer,) if kind == "state" else windows[layer])]
                        )
                        for layer in range(depth)
                    ]
                    for token in range(len(self.trace.tokens))
                ]
            )
        last = self.trace.subject[1] - 1
        for hold in PARTS:
            found[f"severed_{hold}"] = np.array(
                [self.restored(last, [("state", layer)], hold) for layer in range(depth)]
            )
        return found


def plain_way(lm: LanguageModel, trace: CausalTrace, settings: TraceSettings) -> Plain:
    """The plain way of a trace, from what the trace says was traced."""
    if trace.swapped is not None:
        text = next(fact.prompt for fact in FACTS if fact.case_id == trace.case_id).replace("{}", trace.swapped)
        return Plain(lm, trace, [lm.encode(text)], None)
    begin, end = trace.subject
    width = lm.model.get_input_embeddings().weight.shape[1]
    noise = settings.noise * np.random.RandomState(settings.seed).randn(settings.rows, end - begin, width)
    return Plain(lm, trace, [trace.ids] * settings.rows, noise)


def traces(
    lm: LanguageModel, settings: TraceSettings = SMALL, facts: tuple[TracedFact, ...] = FACTS
) -> list[CausalTrace]:
    made = Tracer.of(lm, settings, ()).trace(facts)
    return [one for one in made if isinstance(one, CausalTrace)]


# --------------------------------------------------------------------------------------------------------- equality


@pytest.mark.parametrize("family", FAMILIES)
def test_every_kind_equals_whole_runs_one_state_at_a_time(family: str) -> None:
    lm = tiny.make(family, adds_bos=family in ("llama", "opt"))
    before = tiny.digest(lm)
    found = traces(lm)
    assert [trace.case_id for trace in found] == [0, 1, 2] and tiny.digest(lm) == before
    assert {trace.subject[1] - trace.subject[0] == 1 for trace in found} == {True, False}, "short and long subjects"
    for trace in found:
        plain = plain_way(lm, trace, SMALL)
        clean = plain.run()
        assert trace.high == pytest.approx(float(plain.of(clean)[0]), abs=1e-5)
        assert trace.low == pytest.approx(plain.metric(clean), abs=1e-5)
        expected = plain.scores(SMALL)
        assert trace.scores.keys() == expected.keys()
        for kind, values in expected.items():
            np.testing.assert_allclose(trace.scores[kind], values, atol=1e-5, rtol=0, err_msg=f"{family} {kind}")
            assert np.ptp(values) > 1e-4, f"{family} {kind}: a test that could not fail"
