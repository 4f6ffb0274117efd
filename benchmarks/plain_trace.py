"""The baseline of causal traces, in the released code's way: every restored state is a run of the whole model.

A batch is the clean row and ten corrupted ones. The module whose output is restored is heard, and the logits of every
position are computed, of which the last ones are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cfbuild.data import Record
from cfbuild.lm.model import LanguageModel, Weight

ROWS, WINDOW, SEED = 10, 10, 1
"""Corrupted rows, layers of a window, and the seed of the noise, as released."""
PARTS = {"mlp": "mlp_out", "attention": "attention_out"}


@dataclass(frozen=True, slots=True)
class PlainTrace:
    """A trace by the baseline: the probability of the answer in the clean and the corrupted run, and by
    kind with that restored, [tokens, layers]."""

    high: float
    low: float
    scores: dict[str, np.ndarray]


def trace(lm: LanguageModel, record: Record, level: float) -> PlainTrace:
    """Return the trace of a record's rewrite prompt under noise of deviation `level`, for all three kinds."""
    ids, first, last = lm.subject_span(record.prompt.text, record.subject.label)
    batch = torch.tensor([ids] * (ROWS + 1), device=lm.device)
    embeddings: Any = lm.model.get_input_embeddings()
    drawn = np.random.RandomState(SEED).randn(ROWS, last + 1 - first, embeddings.weight.shape[1])
    noise = torch.from_numpy(level * drawn).float().to(lm.device)

    def corrupt(vectors: Tensor) -> Tensor:
        vectors[1:, first : last + 1] += noise
        return vectors

    def run(token: int, modules: Sequence[Any]) -> Tensor:
        def restore(output: Tensor) -> Tensor:
            output[1:, token] = output[0, token]
            return output

        with torch.inference_mode(), ExitStack() as hooks:
            hooks.enter_context(_heard(embeddings, corrupt))
            for module in modules:
                hooks.enter_context(_heard(module, restore))
            probabilities: Tensor = lm.model(input_ids=batch).logits[:, -1].softmax(dim=-1)
        return probabilities

    whole = run(0, ())
    answer = int(whole[0].argmax())
    scores = {
        kind: np.array(
            [
                [float(run(token, _restored(lm, kind, layer))[1:, answer].mean()) for layer in range(len(lm.layers))]
                for token in range(len(ids))
            ]
        )
        for kind in ("state", *PARTS)
    }
    return PlainTrace(float(whole[0, answer]), float(whole[1:, answer].mean()), scores)


def _restored(lm: LanguageModel, kind: str, layer: int) -> list[Any]:
    if kind == "state":
        return [lm.layers[layer]]
    window = range(max(0, layer - WINDOW // 2), min(len(lm.layers), layer + WINDOW // 2))
    return [lm.module(Weight(each, PARTS[kind])) for each in window]


@contextmanager
def _heard(module: Any, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    def put(_: object, args: object, output: Any) -> Any:
        change(output[0] if isinstance(output, tuple) else output)

    hook = module.register_forward_hook(put)
    try:
        yield
    finally:
        hook.remove()
