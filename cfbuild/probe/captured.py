"""A run that keeps what restored runs and attributions take from it: states, outputs of parts, keys and values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from cfbuild.lm.batch import Past, left_padded
from cfbuild.lm.forward import run, states_in
from cfbuild.lm.hooks import module_output
from cfbuild.lm.model import Ids, LanguageModel, Weight

EmbeddingChange = Callable[[Tensor], Tensor]
"""A function from a batch's token embeddings [rows, width, d_embedding] to changed ones."""


@dataclass(frozen=True, slots=True, eq=False)
class CapturedRun:
    """A finished run of rows that all end in the last column.

    real: [rows, width], False for fillers. states: the input of each layer and the output of the last, each [rows,
    width, d_model]. outputs: by part, such as mlp_out, its output in each layer, [rows, width, d_out] or flattened, as
    the family has it. ends: [rows, d_model], the finished state of the last token.
    """

    real: Tensor
    states: list[Tensor]
    outputs: dict[str, list[Tensor]]
    ends: Tensor

    def state(self, layer: int, at: Tensor) -> Tensor:
        """Return the input of `layer` at indices [n] of the flattened rows, [n, d_model]."""
        return self.states[layer].flatten(0, 1)[at]

    def output(self, part: str, layer: int, at: Tensor) -> Tensor:
        """Return the output of a part of `layer` at indices [n] of the flattened rows, [n, d_out]."""
        outputs = self.outputs[part][layer]
        return outputs.reshape(-1, outputs.shape[-1])[at]


def capture(
    lm: LanguageModel,
    rows: Sequence[Ids],
    change: EmbeddingChange | None = None,
    parts: Iterable[str] = (),
    past: Past | None = None,
) -> CapturedRun:
    """Return a run of `rows` with their embeddings changed, which captures the outputs of `parts`.

    past: an empty one with room for the longest row, in which the rows' keys and values are kept.
    """
    batch, real = left_padded(rows, lm)
    states: list[Tensor] = []
    outputs: dict[str, list[Tensor]] = {part: [] for part in parts}

    def keep_input(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        states.append(args[0] if args else kwargs["hidden_states"])

    def keep_output(part: str, _: Tensor, output: Tensor) -> Tensor:
        outputs[part].append(output)
        return output

    def keep_last(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        states.append(states_in(output))

    with lm.lock, ExitStack() as hooks:
        if change is not None:
            embeddings = lm.model.get_input_embeddings()
            hooks.callback(embeddings.register_forward_hook(lambda _, args, output: change(output)).remove)
        for index, layer in enumerate(lm.layers):
            hooks.callback(layer.register_forward_pre_hook(keep_input, with_kwargs=True).remove)
            for part in outputs:
                hooks.enter_context(module_output(lm, Weight(index, part), partial(keep_output, part)))
        hooks.callback(lm.layers[-1].register_forward_hook(keep_last).remove)
        ends = run(lm, batch, past=past)[:, -1]
    if past is not None:
        past.length += real.shape[1]
    return CapturedRun(real, states, outputs, ends)


@torch.no_grad()
def embedded(lm: LanguageModel, ids: Sequence[int]) -> Tensor:
    """Return the embeddings of the tokens `ids`, without positions, [n, d_embedding]."""
    vectors: Tensor = lm.model.get_input_embeddings()(torch.tensor([ids], device=lm.device))[0]
    return vectors
