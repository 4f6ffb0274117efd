"""UltraEdit (Gu et al. 2025, arXiv 2505.14679): edits from one gradient, normalised over all edits so far.

The token rows of an edit are the positions that predict its target: of each edited matrix their inputs x and the
gradients g of the target's NLL at its outputs. Each coordinate of [x; g] is normalised by mean and deviation over the
rows of all edits, this batch's included. With X [n, d_in] the rows themselves and V the rows -lr |x^|^2 g^ of the
normalised ones, the update is the ridge regression Delta = V^T (X X^T + I)^-1 X. Nothing is optimised.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from cfbuild.data import Request
from cfbuild.edit.editor import Context, Edit, EditorSpec, State
from cfbuild.edit.memit import solved_with
from cfbuild.errors import ConfigError
from cfbuild.lm.batch import Batch, Packing, pad
from cfbuild.lm.batching import in_batches
from cfbuild.lm.delta import Change, Delta, LowRank, compact
from cfbuild.lm.families import VALUE_PROJECTION
from cfbuild.lm.forward import replay_packed, trace_packed
from cfbuild.lm.fused import fused_layers
from cfbuild.lm.hooks import module_output
from cfbuild.lm.memory import give_back_freed_memory
from cfbuild.lm.model import Ids, LanguageModel, Weight
from cfbuild.progress import no_progress

RIDGE = 1.0
"""The ridge added to the diagonal of X X^T (released code)."""
TINY = 1e-7
"""The number added to a deviation before it divides, as in MEND's normalisation."""
COST_OF_GRADIENT = 8
"""The memory of a token in a pass with gradients, in tokens of one without: each layer keeps its activations."""
TOO_FEW = "UltraEdit needs two target tokens before it can normalise; give it more records at a time (--batch)"
SOURCE = re.compile(r"(\w+):(\d+)(?:-(\d+))?\Z")
SHARES = (18 / 28, 26 / 28)
"""The depth of the lowest and the highest edited layer where no preset names any: GPT-J's layers 18 to 26 of 28."""


@dataclass(frozen=True, slots=True)
class UltraEditOptions:
    """UltraEdit's settings. `weights` are the edited matrices, such as "mlp_gate:11-15,mlp_up:18-24" (both ends in)."""

    weights: str = ""
    learning_rate: float = 1e-6

    def __post_init__(self) -> None:
        if not self.learning_rate > 0:
            raise ConfigError(f"learning_rate is {self.learning_rate}; expected more than 0")


@dataclass(frozen=True, slots=True)
class _Rows:
    """A matrix's inputs [n, d_in] and gradients at its outputs [n, d_out], of the tokens that predict a target."""

    inputs: Tensor
    gradients: Tensor


@dataclass(frozen=True, slots=True)
class _Text:
    """A prompt and all of its target but the last token, which nothing is predicted from; `targets` is all of it."""

    ids: Ids
    targets: Ids


class UltraEdit:
    """The editor: it answers all requests of a call by one low-rank change of each matrix.

    Its state is the count, mean and summed square deviation of [x; g] over all rows so far, by matrix, in float64.
    """

    def __init__(self, lm: LanguageModel, options: UltraEditOptions) -> None:
        self.lm = lm
        self.options = options
        self.weights = parse_weights(options.weights, lm)

    def edit(self, requests: Sequence[Request], done: Callable[[int], None] = no_progress) -> list[Edit]:
        """Return one edit for all requests, normalised over these alone."""
        return self.edit_after({}, requests, done)[0]

    def edit_after(
        self, state: State, requests: Sequence[Request], done: Callable[[int], None] = no_progress
    ) -> tuple[list[Edit], State]:
        """Return the edit of a batch that follows others, and the statistics with its rows.

        `done` gets the number of requests whose gradients are there.
        """
        places = tuple(range(len(requests)))
        rows, loss = self.rows(requests, done)
        after: dict[str, Tensor] = {}
        changes: dict[Weight, Change] = {}
        for weight, found in rows.items():
            moments = _Moments.of(state, weight).joined(torch.cat((found.inputs, found.gradients), dim=1).double())
            if not moments.is_finite:
                return [Edit(places, None, fault="the gradients are not finite")], state
            after |= moments.state(weight)
            if moments.count >= 2:
                changes[weight] = self._change(found, moments)
        if not changes:
            return [Edit(places, None, fault=TOO_FEW)], after
        delta = Delta(changes)
        measured = {"together": len(places), "delta_norm": delta.norm, "target_nll_nats": loss}
        return [Edit(places, delta, statistics=measured)], after

    def _change(self, rows: _Rows, moments: _Moments) -> Change:
        """Return the change of one matrix; all of it is as small as the tokens are few, so it is made in float64."""
        exact = rows.inputs.double()
        normalised = moments.normalised(torch.cat((exact, rows.gradients.double()), dim=1))
        inputs, gradients = normalised[:, : exact.shape[1]], normalised[:, exact.shape[1] :]
        values = -self.options.learning_rate * inputs.square().sum(dim=1, keepdim=True) * gradients
        both = (solved_with(exact, None, RIDGE), values)
        directions, values = (one.float().to(self.lm.device) for one in both)
        return compact(LowRank(directions, values))

    def rows(
        self, requests: Sequence[Request], done: Callable[[int], None] = no_progress
    ) -> tuple[dict[Weight, _Rows], float]:
        """Return the token rows by matrix, in the requests' order, and the mean NLL of a target token in nats.

        The gradient is of the sum over tokens: what a mean would divide by, the normalisation takes out again.
        """
        texts = []
        for request in requests:
            prompt, _ = self.lm.encode_subject(request.prompt, request.subject)
            targets = self.lm.continuation(request.target_new)
            texts.append(_Text(prompt + targets[:-1], targets))
        with fused_layers(self.lm):
            found = in_batches(self.lm, texts, self._gradients, lambda text: COST_OF_GRADIENT * len(text.ids), done)
        give_back_freed_memory()
        columns = zip(*(rows for rows, _ in found), strict=True)
        joined = [
            _Rows(torch.cat([one.inputs for one in column]), torch.cat([one.gradients for one in column]))
            for column in columns
        ]
        loss = sum(nll for _, nll in found) / sum(len(text.targets) for text in texts)
        return dict(zip(self.weights, joined, strict=True)), loss

    def _gradients(self, texts: Sequence[_Text]) -> list[tuple[list[_Rows], float]]:
        """Return each text's rows by matrix, on the CPU, and the sum of its target tokens' NLL in nats.

        Layers below the lowest edited one run without a gradient.
        """
        lm = self.lm
        ids, real = pad([text.ids for text in texts], lm)
        batch = Batch(ids, torch.arange(ids.shape[1], device=lm.device).expand(len(texts), -1), None)
        row, column, target = (torch.tensor(one, device=lm.device) for one in zip(*_predicting(texts), strict=True))
        packing = Packing.of(real)
        at = packing.source.view(real.shape)[row, column]
        start = min(weight.layer for weight in self.weights)
        with torch.no_grad():
            traced, below = trace_packed(lm, batch, packing, start)
        inputs: dict[Weight, Tensor] = {}
        outputs: dict[Weight, Tensor] = {}

        def listen(weight: Weight, given: Tensor, output: Tensor) -> Tensor:
            inputs[weight] = given.detach().reshape(*ids.shape, -1)[row, column].float()
            # Where nothing below needs a gradient, the output is the first that does.
            outputs[weight] = output if output.requires_grad else output.detach().requires_grad_()
            return outputs[weight]

        with ExitStack() as hooks:
            for weight in self.weights:
                hooks.enter_context(module_output(lm, weight, partial(listen, weight)))
            states = replay_packed(lm, traced, packing, below, at, start)
        log_p = lm.logits(states).log_softmax(dim=-1)
        nll = -log_p.gather(1, target[:, None])[:, 0]
        counts = [len(text.targets) for text in texts]
        by_weight = []
        gradients = torch.autograd.grad(nll.sum(), [outputs[weight] for weight in self.weights])
        for weight, gradient in zip(self.weights, gradients, strict=True):
            both = inputs[weight], gradient.reshape(*ids.shape, -1)[row, column].float()
            of_texts = (torch.split(one.cpu(), counts) for one in both)
            by_weight.append([_Rows(*some) for some in zip(*of_texts, strict=True)])
        losses = [float(part.sum()) for part in torch.split(nll.detach(), counts)]
        return list(zip(map(list, zip(*by_weight, strict=True)), losses, strict=True))


def _predicting(texts: Sequence[_Text]) -> Iterator[tuple[int, int, int]]:
    """Yield (row, column, target token) of each position that predicts a target token."""
    for row, text in enumerate(texts):
        first = len(text.ids) - len(text.targets)
        for place, token in enumerate(text.targets):
            yield row, first + place, token


@dataclass(frozen=True, slots=True)
class _Moments:
    """Count, mean [n] and summed square deviation [n] of rows, joined batch by batch (Chan et al. 1983)."""

    count: int
    mean: Tensor
    square: Tensor

    @classmethod
    def of(cls, state: State, weight: Weight) -> _Moments:
        """Return a matrix's moments out of the state; without any, those of no rows."""
        names = [f"{weight.layer}/{weight.part}/{name}" for name in ("count", "mean", "square")]
        if names[0] not in state:
            return cls(0, torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64))
        count, mean, square = (state[name] for name in names)
        return cls(int(count), mean, square)

    def state(self, weight: Weight) -> dict[str, Tensor]:
        """Return the moments as a part of the editor's state."""
        values = {"count": torch.tensor(self.count), "mean": self.mean, "square": self.square}
        return {f"{weight.layer}/{weight.part}/{name}": value for name, value in values.items()}

    def joined(self, rows: Tensor) -> _Moments:
        """Return the moments of these rows and more, [k, n]."""
        count = self.count + len(rows)
        mean = rows.mean(dim=0)
        apart = mean - self.mean
        square = self.square + (rows - mean).square().sum(dim=0) + apart.square() * (self.count * len(rows) / count)
        return _Moments(count, self.mean + apart * (len(rows) / count), square)

    @property
    def is_finite(self) -> bool:
        """True if every number of it is finite."""
        return bool(torch.isfinite(self.square).all())

    def normalised(self, rows: Tensor) -> Tensor:
        """Return rows with each coordinate's mean taken off and divided by its deviation."""
        return (rows - self.mean) / ((self.square / (self.count - 1)).sqrt() + TINY)


def parse_weights(text: str, lm: LanguageModel) -> tuple[Weight, ...]:
    """Return the matrices that a setting such as "mlp_gate:11-15,mlp_out:18" names, the lowest layer first.

    Raises ConfigError for another form, and for matrices that the model does not have.
    """
    found = set()
    for part in text.split(","):
        match = SOURCE.match(part.strip())
        if match is None:
            raise ConfigError(f"weights={text!r}: {part!r} has not the form PART:LAYER or PART:FIRST-LAST")
        name, first, last = match[1], int(match[2]), int(match[3] or match[2])
        if name not in lm.family.parts or not first <= last < len(lm.layers):
            raise ConfigError(
                f"weights={text!r}: {lm.name} has no {part}; it has the layers 0 to {len(lm.layers) - 1} and the parts "
                f"{', '.join(lm.family.parts)}"
            )
        found |= {Weight(layer, name) for layer in range(first, last + 1)}
    return tuple(sorted(found))


def usual_weights(lm: LanguageModel) -> str:
    """Return the matrices that are edited where neither a preset nor the user names any: W of upper layers.

    Gated MLPs too: on SmolLM2-135M their gate and up matrices, which the released settings for Llama-3-8B edit, wrote
    fewer facts at the same damage to neighbours.
    """
    last = len(lm.layers) - 1
    low, high = (min(last, int(share * len(lm.layers))) for share in SHARES)
    return f"{VALUE_PROJECTION}:{low}-{high}"


def _make(context: Context[UltraEditOptions]) -> UltraEdit:
    options = context.options
    if not options.weights:
        options = replace(options, weights=usual_weights(context.lm))
    return UltraEdit(context.lm, options)


ULTRAEDIT = EditorSpec(UltraEditOptions, _make, together=True)
