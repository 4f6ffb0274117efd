"""The input of trained editors' networks: x and the gradient at the output of each edited matrix, by token.

Only the layers from the lowest edited one on run, forwards and backwards. A text's states below them never change, so
they are computed once and can be kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from cfbuild.data import Request
from cfbuild.edit.presets import trained_parts
from cfbuild.lm.batch import Packing, right_padded
from cfbuild.lm.forward import replay, replay_packed, trace_below, trace_packed
from cfbuild.lm.hooks import module_output
from cfbuild.lm.model import Ids, LanguageModel, Weight

LAYERS = 3
"""The number of edited layers, the model's last, as in every released configuration of MEND and KE."""
KEPT_BYTES = 1 << 30
"""The most bytes of texts' states that are kept; further ones are computed each time."""


@dataclass(frozen=True, slots=True)
class TargetedPrompt:
    """A prompt and the target that follows it, as tokens."""

    prompt: Ids
    target: Ids

    @property
    def ids(self) -> Ids:
        """Return the tokens that run: all but the target's last, after which nothing is predicted."""
        return self.prompt + self.target[:-1]

    @property
    def predicting(self) -> slice:
        """Return the slice of `ids` after each of which a target token should follow."""
        return slice(len(self.prompt) - 1, len(self.prompt) - 1 + len(self.target))


def targeted(lm: LanguageModel, request: Request) -> TargetedPrompt:
    """Return a request's prompt and target."""
    prompt, _ = lm.encode_subject(request.prompt, request.subject)
    return TargetedPrompt(prompt, lm.continuation(request.target_new))


@dataclass(frozen=True, slots=True)
class TextStates:
    """A text, and its states [len(ids), d_model]: the input of the lowest edited layer, and the finished ones."""

    ids: Ids
    states: Tensor
    finished: Tensor


@dataclass(frozen=True, slots=True)
class Tokens:
    """A matrix's inputs [T, d_in], and gradients [T, d_out] of the edits' losses at its output, for T tokens of edits.

    counts: the number of tokens of each edit.
    """

    inputs: Tensor
    gradients: Tensor
    counts: tuple[int, ...]

    @property
    def spans(self) -> list[slice]:
        """Return the slice of each edit's tokens."""
        return [slice(start, end) for start, end in pairwise((0, *accumulate(self.counts)))]


@dataclass(frozen=True, slots=True)
class Material:
    """A network's input for several edits.

    conditions: the prompt and target of each edit. tokens: of each edited matrix, those that a gradient reaches.
    losses: [edits], the mean NLL of each target in nats.
    """

    conditions: tuple[Ids, ...]
    tokens: Mapping[Weight, Tokens]
    losses: Tensor


def edited_weights(lm: LanguageModel) -> tuple[Weight, ...]:
    """Return the matrices that trained editors change, those of the last layers' MLPs, in the released order."""
    depth, parts = len(lm.layers), trained_parts(lm.preset, lm.family.parts)
    return tuple(Weight(layer, part) for layer in range(max(0, depth - LAYERS), depth) for part in parts)


class TopLayers:
    """The layers of a model from `start` on, and the states below them of up to `kept_bytes` of texts."""

    def __init__(self, lm: LanguageModel, start: int, kept_bytes: int = KEPT_BYTES) -> None:
        self.lm = lm
        self.start = start
        self._kept: dict[tuple[Ids, ...], list[TextStates]] = {}
        self._bytes_left = kept_bytes

    def rows(self, texts: tuple[Ids, ...]) -> list[TextStates]:
        """Return texts with their states, computed together, so that the same group of texts gives the same bits."""
        if (kept := self._kept.get(texts)) is not None:
            return kept
        batch, real = right_padded(texts, self.lm)
        packing, lengths = Packing.of(real), [*map(len, texts)]
        with torch.no_grad():
            traced, below = trace_packed(self.lm, batch, packing, self.start)
            everywhere = torch.arange(len(below), device=self.lm.device)
            finished = replay_packed(self.lm, traced, packing, below, everywhere, self.start)
        rows = [
            TextStates(*row)
            for row in zip(texts, torch.split(below, lengths), torch.split(finished, lengths), strict=True)
        ]
        size = 2 * below.numel() * below.element_size()
        if size <= self._bytes_left:
            self._bytes_left -= size
            self._kept[texts] = rows
        return rows

    def replay(self, rows: Sequence[TextStates]) -> Tensor:
        """Return the finished states of rows, padded on the right, [rows, width, d_model]; overlays and hooks apply."""
        batch, _ = right_padded([row.ids for row in rows], self.lm)
        # A single layer runs, to record the arguments that layers get at this width.
        traced = trace_below(self.lm, batch, self.start, min(self.start, 1))
        return replay(self.lm, traced, pad_sequence([row.states for row in rows], batch_first=True))


def target_nll(lm: LanguageModel, hidden: Tensor, examples: Sequence[TargetedPrompt]) -> Tensor:
    """Return the mean NLL in nats of each example's target, [rows]; hidden: [rows, width, d_model], finished."""
    states = [hidden[row, example.predicting] for row, example in enumerate(examples)]
    targets = torch.tensor([token for example in examples for token in example.target], device=lm.device)
    nll = -lm.logits(torch.cat(states)).log_softmax(dim=-1).gather(1, targets[:, None])[:, 0]
    return torch.stack([row.mean() for row in torch.split(nll, [len(example.target) for example in examples])])


def material(
    top: TopLayers, rows: Sequence[TextStates], examples: Sequence[TargetedPrompt], weights: Sequence[Weight]
) -> Material:
    """Return a network's input for the edits `examples`, whose states are `rows`; its tensors are detached."""
    inputs: dict[Weight, Tensor] = {}
    probes: dict[Weight, Tensor] = {}

    def add_probe(weight: Weight, given: Tensor, output: Tensor) -> Tensor:
        inputs[weight] = given.detach()
        probes[weight] = torch.zeros_like(output, requires_grad=True)
        return output + probes[weight]

    with torch.enable_grad(), ExitStack() as hooks:
        for weight in weights:
            hooks.enter_context(module_output(top.lm, weight, partial(add_probe, weight)))
        losses = target_nll(top.lm, top.replay(rows), examples)
        gradients = torch.autograd.grad(losses.sum(), [probes[weight] for weight in weights])
    tokens = {
        weight: _nonzero(inputs[weight], gradient, len(rows))
        for weight, gradient in zip(weights, gradients, strict=True)
    }
    return Material(tuple(example.prompt + example.target for example in examples), tokens, losses.detach())


def _nonzero(inputs: Tensor, gradients: Tensor, rows: int) -> Tokens:
    """Return the tokens whose x and gradient are not all zero, which leaves out fillers."""
    inputs, gradients = (tensor.reshape(rows, -1, tensor.shape[-1]).float() for tensor in (inputs, gradients))
    kept = (inputs != 0).any(dim=-1) & (gradients != 0).any(dim=-1)  # [rows, width]
    return Tokens(inputs[kept], gradients[kept], tuple(kept.sum(dim=1).tolist()))
