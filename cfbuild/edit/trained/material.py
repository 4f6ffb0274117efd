"""The raw material of trained editors: of every edited matrix the input x and the gradient at the output, by token.

Only the layers from the lowest edited one on are run, forwards and backwards; what lies below is computed once a text
and can be kept, since nothing there ever changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from cfbuild.edit.presets import trained_parts
from cfbuild.lm.batch import Batch, Packing, pad
from cfbuild.lm.forward import replay, replay_packed, trace_below, trace_packed
from cfbuild.lm.hooks import module_output
from cfbuild.lm.model import Ids, LanguageModel, Weight

LAYERS = 3
"""Edited layers, the last of the model, as in every released configuration of MEND and KE."""
KEPT_BYTES = 1 << 30
"""Memory for the states of texts that are seen again; those beyond it are computed each time."""


@dataclass(frozen=True, slots=True)
class TargetedPrompt:
    """A prompt and the target that follows it, as tokens."""

    prompt: Ids
    target: Ids

    @property
    def ids(self) -> Ids:
        """The tokens that are run: the last of the target predicts nothing."""
        return self.prompt + self.target[:-1]


@dataclass(frozen=True, slots=True)
class TextStates:
    """A text and its states, [len(ids), d_model]: the input of the lowest edited layer, and what the model finishes."""

    ids: Ids
    states: Tensor
    finished: Tensor


@dataclass(frozen=True, slots=True)
class Tokens:
    """One matrix's tokens of several edits, one edit after another.

    inputs: [T, d_in]; gradients: [T, d_out], of the edit's loss at the matrix's output; counts: tokens of each edit.
    """

    inputs: Tensor
    gradients: Tensor
    counts: tuple[int, ...]

    @property
    def spans(self) -> list[slice]:
        """The place of each edit's tokens."""
        return [slice(start, end) for start, end in pairwise((0, *accumulate(self.counts)))]


@dataclass(frozen=True, slots=True)
class Material:
    """The raw material of several edits, as a network gets it.

    conditions: prompt and target of each; tokens: those of each edited matrix that a gradient reaches; losses: [edits],
    the mean NLL of each target in nats.
    """

    conditions: tuple[Ids, ...]
    tokens: Mapping[Weight, Tokens]
    losses: Tensor


def edited_weights(lm: LanguageModel) -> tuple[Weight, ...]:
    """Return the matrices that trained editors change: the MLPs of the last layers, in the released order."""
    depth, parts = len(lm.layers), trained_parts(lm.preset, lm.family.parts)
    return tuple(Weight(layer, part) for layer in range(max(0, depth - LAYERS), depth) for part in parts)


class TopLayers:
    """The layers of a model from `start` on, to be run again and again on texts whose states below are known."""

    def __init__(self, lm: LanguageModel, start: int, kept_bytes: int = KEPT_BYTES) -> None:
        self.lm = lm
        self.start = start
        self._kept: dict[tuple[Ids, ...], list[TextStates]] = {}
        self._room = kept_bytes

    def rows(self, texts: tuple[Ids, ...]) -> list[TextStates]:
        """Return texts with their states, which are computed together: the same texts give the same bits."""
        found = self._kept.get(texts)
        if found is not None:
            return found
        ids, real = pad(texts, self.lm)
        positions = torch.arange(ids.shape[1], device=self.lm.device).expand_as(ids)
        packing, lengths = Packing.of(real), [*map(len, texts)]
        with torch.no_grad():
            traced, below = trace_packed(self.lm, Batch(ids, positions, None), packing, self.start)
            everywhere = torch.arange(len(below), device=self.lm.device)
            finished = replay_packed(self.lm, traced, packing, below, everywhere, self.start)
        rows = [
            TextStates(*row)
            for row in zip(texts, torch.split(below, lengths), torch.split(finished, lengths), strict=True)
        ]
        size = 2 * below.numel() * below.element_size()
        if size <= self._room:
            self._room -= size
            self._kept[texts] = rows
        return rows

    def replay(self, rows: Sequence[TextStates]) -> Tensor:
        """Return the finished hidden states of rows, padded on the right, [rows, width, d_model].

        Hooks that are set now act, and gradients flow as autograd is set.
        """
        lm = self.lm
        ids, _ = pad([row.ids for row in rows], lm)
        positions = torch.arange(ids.shape[1], device=lm.device).expand_as(ids)
        # One layer runs, to show what a layer is called with at this width; the others only note it.
        traced = trace_below(lm, Batch(ids, positions, None), self.start, min(self.start, 1))
        return replay(lm, traced, pad_sequence([row.states for row in rows], batch_first=True))


def target_nll(lm: LanguageModel, hidden: Tensor, examples: Sequence[TargetedPrompt]) -> Tensor:
    """Return the mean NLL in nats of each example's target, [rows]; hidden: [rows, width, d_model], finished."""
    states = [
        hidden[row, len(example.prompt) - 1 : len(example.prompt) - 1 + len(example.target)]
        for row, example in enumerate(examples)
    ]
    wanted = torch.tensor([token for example in examples for token in example.target], device=lm.device)
    nll = -lm.logits(torch.cat(states)).log_softmax(dim=-1).gather(1, wanted[:, None])[:, 0]
    return torch.stack([part.mean() for part in torch.split(nll, [len(example.target) for example in examples])])


def material(
    top: TopLayers, rows: Sequence[TextStates], examples: Sequence[TargetedPrompt], weights: Sequence[Weight]
) -> Material:
    """Return what a network sees of some edits, each by its own loss; the tokens are detached."""
    inputs: dict[Weight, Tensor] = {}
    probes: dict[Weight, Tensor] = {}

    def probing(weight: Weight) -> Callable[[Tensor, Tensor], Tensor]:
        def add(given: Tensor, output: Tensor) -> Tensor:
            inputs[weight] = given.detach()
            probes[weight] = torch.zeros_like(output, requires_grad=True)
            return output + probes[weight]

        return add

    with torch.enable_grad(), ExitStack() as hooks:
        for weight in weights:
            hooks.enter_context(module_output(top.lm, weight, probing(weight)))
        losses = target_nll(top.lm, top.replay(rows), examples)
        gradients = torch.autograd.grad(losses.sum(), [probes[weight] for weight in weights])
    tokens = {
        weight: _kept(inputs[weight], gradient, len(rows)) for weight, gradient in zip(weights, gradients, strict=True)
    }
    return Material(tuple(one.prompt + one.target for one in examples), tokens, losses.detach())


def _kept(inputs: Tensor, gradients: Tensor, rows: int) -> Tokens:
    """Return the tokens of which neither x nor the gradient is all zero: fillers and what no gradient reaches go."""
    inputs, gradients = (one.reshape(rows, -1, one.shape[-1]).float() for one in (inputs, gradients))
    kept = (inputs != 0).any(dim=-1) & (gradients != 0).any(dim=-1)  # [rows, width]
    return Tokens(inputs[kept], gradients[kept], tuple(kept.sum(dim=1).tolist()))
