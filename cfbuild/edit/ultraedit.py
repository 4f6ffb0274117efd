"""UltraEdit (Gu et al. 2025, arXiv 2505.14679): edits from one gradient, normalised over all edits so far.

A row is a token that predicts a target token: in each edited matrix its input x, and the gradient g of the NLL at the
matrix's output. x^ and g^ are normalised by mean and deviation over the rows of all edits, this batch's included. With
X [n, d_in] the rows x and V the rows -lr |x^|^2 g^, the update is Delta = V^T (X X^T + I)^-1 X. Nothing is optimised.
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
from cfbuild.edit.trained.material import TargetedPrompt, targeted
from cfbuild.errors import ConfigError, check_positive
from cfbuild.lm.batch import Packing, right_padded
from cfbuild.lm.batching import in_batches
from cfbuild.lm.delta import Change, Delta, LowRank, compact
from cfbuild.lm.families import VALUE_PROJECTION
from cfbuild.lm.forward import replay_packed, trace_packed
from cfbuild.lm.fused import fused_layers
from cfbuild.lm.hooks import module_output
from cfbuild.lm.memory import give_back_freed_memory
from cfbuild.lm.model import LanguageModel, Weight
from cfbuild.progress import no_progress

RIDGE = 1.0
"""The ridge added to the diagonal of X X^T (released code)."""
TINY = 1e-7
"""The number added to a deviation before it divides, as in MEND's normalisation."""
COST_OF_GRADIENT = 8
"""The memory of a token in a pass with gradients, in tokens of a pass without: each layer keeps its activations."""
TOO_FEW = "UltraEdit needs two target tokens before it can normalise; give it more records at a time (--batch)"
"""The fault of a first batch with a single target token."""
WEIGHTS_FORM = re.compile(r"(\w+):(\d+)(?:-(\d+))?\Z")
"""The form of an entry of the option `weights`: PART:LAYER or PART:FIRST-LAST."""
SHARES = (18 / 28, 26 / 28)
"""The shares of the depth between which layers are edited if no preset names any: GPT-J's layers 18 to 26 of 28."""


@dataclass(frozen=True, slots=True)
class UltraEditOptions:
    """UltraEdit's settings: `weights` are the edited matrices, such as "mlp_gate:11-15,mlp_in:18" (both ends in)."""

    weights: str = ""
    learning_rate: float = 1e-6

    def __post_init__(self) -> None:
        check_positive(self, "learning_rate")


@dataclass(frozen=True, slots=True)
class _Rows:
    """A matrix's inputs [n, d_in], and the gradients at its outputs [n, d_out], of tokens that predict a target."""

    inputs: Tensor
    gradients: Tensor


class UltraEdit:
    """The editor: it answers all requests of a call by one low-rank change of each matrix.

    Its state has the count, mean and summed square deviation of [x; g] over all rows so far, by matrix, in float64.
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
        """Return the edit of a batch that follows others, and `state` with the batch's rows."""
        places = tuple(range(len(requests)))
        rows, loss = self.rows(requests, done)
        after: dict[str, Tensor] = {}
        changes: dict[Weight, Change] = {}
        for weight, of_weight in rows.items():
            both = torch.cat((of_weight.inputs, of_weight.gradients), dim=1)
            moments = _Moments.of(state, weight).joined(both.double())
            if not moments.is_finite:
                return [Edit(places, None, fault="the gradients are not finite")], state
            after |= moments.state(weight)
            if moments.count >= 2:
                changes[weight] = self._change(of_weight, moments)
        if not changes:
            return [Edit(places, None, fault=TOO_FEW)], after
        delta = Delta(changes)
        measured = {"together": len(places), "delta_norm": delta.norm, "target_nll_nats": loss}
        return [Edit(places, delta, statistics=measured)], after

    def _change(self, rows: _Rows, moments: _Moments) -> Change:
        """Return the change of a matrix, computed in float64."""
        exact = rows.inputs.double()
        normalised = moments.normalised(torch.cat((exact, rows.gradients.double()), dim=1))
        inputs, gradients = normalised[:, : exact.shape[1]], normalised[:, exact.shape[1] :]
        values = -self.options.learning_rate * inputs.square().sum(dim=1, keepdim=True) * gradients
        directions = solved_with(exact, None, RIDGE)
        return compact(LowRank(directions.float().to(self.lm.device), values.float().to(self.lm.device)))

    def rows(
        self, requests: Sequence[Request], done: Callable[[int], None] = no_progress
    ) -> tuple[dict[Weight, _Rows], float]:
        """Return the rows by matrix, in the requests' order, and the mean NLL of a target token in nats."""
        texts = [targeted(self.lm, request) for request in requests]
        with fused_layers(self.lm):
            found = in_batches(self.lm, texts, self._gradients, lambda text: COST_OF_GRADIENT * len(text.ids), done)
        give_back_freed_memory()
        joined = {}
        for weight, of_texts in zip(self.weights, zip(*(rows for rows, _ in found), strict=True), strict=True):
            inputs, gradients = ([rows.inputs for rows in of_texts], [rows.gradients for rows in of_texts])
            joined[weight] = _Rows(torch.cat(inputs), torch.cat(gradients))
        return joined, sum(nll for _, nll in found) / sum(len(text.target) for text in texts)

    def _gradients(self, texts: Sequence[TargetedPrompt]) -> list[tuple[list[_Rows], float]]:
        """Return each text's rows of each matrix, on the CPU, and the sum of its target tokens' NLL in nats.

        The gradient is of the sum over tokens; a mean would divide it by a number that normalising takes out again.
        """
        lm = self.lm
        batch, real = right_padded([text.ids for text in texts], lm)
        places = zip(*_predicting(texts), strict=True)
        row, column, target = (torch.tensor(numbers, device=lm.device) for numbers in places)
        packing = Packing.of(real)
        at = packing.source.view(real.shape)[row, column]
        start = min(weight.layer for weight in self.weights)
        with torch.no_grad():
            traced, below = trace_packed(lm, batch, packing, start)
        inputs: dict[Weight, Tensor] = {}
        outputs: dict[Weight, Tensor] = {}

        def listen(weight: Weight, given: Tensor, output: Tensor) -> Tensor:
            inputs[weight] = given.detach().reshape(*real.shape, -1)[row, column].float()
            # If nothing below needs a gradient, this output is the first that does.
            outputs[weight] = output if output.requires_grad else output.detach().requires_grad_()
            return outputs[weight]

        with ExitStack() as hooks:
            for weight in self.weights:
                hooks.enter_context(module_output(lm, weight, partial(listen, weight)))
            states = replay_packed(lm, traced, packing, below, at, start)
        log_p = lm.logits(states).log_softmax(dim=-1)
        nll = -log_p.gather(1, target[:, None])[:, 0]
        counts = [len(text.target) for text in texts]
        by_weight = []
        gradients = torch.autograd.grad(nll.sum(), [outputs[weight] for weight in self.weights])
        for weight, gradient in zip(self.weights, gradients, strict=True):
            both = inputs[weight], gradient.reshape(*real.shape, -1)[row, column].float()
            of_texts = zip(*(torch.split(tensor.cpu(), counts) for tensor in both), strict=True)
            by_weight.append([_Rows(*tensors) for tensors in of_texts])
        losses = [float(token_losses.sum()) for token_losses in torch.split(nll.detach(), counts)]
        return list(zip(map(list, zip(*by_weight, strict=True)), losses, strict=True))


def _predicting(texts: Sequence[TargetedPrompt]) -> Iterator[tuple[int, int, int]]:
    """Yield (row, column, target token) of each position that predicts a target token."""
    for row, text in enumerate(texts):
        for place, token in enumerate(text.target, text.predicting.start):
            yield row, place, token


@dataclass(frozen=True, slots=True)
class _Moments:
    """The count, mean [n] and summed square deviation [n] of rows, joined batch by batch (Chan et al. 1983)."""

    count: int
    mean: Tensor
    square: Tensor

    @classmethod
    def of(cls, state: State, weight: Weight) -> _Moments:
        """Return a matrix's moments in the state; if it has none, those of no rows."""
        names = [f"{weight.layer}/{weight.part}/{name}" for name in ("count", "mean", "square")]
        if names[0] not in state:
            return cls(0, torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64))
        count, mean, square = (state[name] for name in names)
        return cls(int(count), mean, square)

    def state(self, weight: Weight) -> dict[str, Tensor]:
        """Return the moments as tensors of the editor's state."""
        values = {"count": torch.tensor(self.count), "mean": self.mean, "square": self.square}
        return {f"{weight.layer}/{weight.part}/{name}": value for name, value in values.items()}

    def joined(self, rows: Tensor) -> _Moments:
        """Return the moments with `rows` [k, n] added."""
        count = self.count + len(rows)
        mean = rows.mean(dim=0)
        distance = mean - self.mean
        between = distance.square() * (self.count * len(rows) / count)
        square = self.square + (rows - mean).square().sum(dim=0) + between
        return _Moments(count, self.mean + distance * (len(rows) / count), square)

    @property
    def is_finite(self) -> bool:
        """Return True if every number is finite."""
        return bool(torch.isfinite(self.square).all())

    def normalised(self, rows: Tensor) -> Tensor:
        """Return rows less their mean, divided by their deviation, by coordinate."""
        return (rows - self.mean) / ((self.square / (self.count - 1)).sqrt() + TINY)


def parse_weights(text: str, lm: LanguageModel) -> tuple[Weight, ...]:
    """Return the matrices that `text`, such as "mlp_gate:11-15,mlp_out:18", names, the lowest layer first.

    Raises ConfigError for another form, and for matrices that the model does not have.
    """
    found = set()
    for part in text.split(","):
        match = WEIGHTS_FORM.match(part.strip())
        if match is None:
            raise ConfigError(f"weights={text!r}: {part!r} is not of the form PART:LAYER or PART:FIRST-LAST")
        name, first, last = match[1], int(match[2]), int(match[3] or match[2])
        if name not in lm.family.parts or not first <= last < len(lm.layers):
            raise ConfigError(
                f"weights={text!r}: {lm.name} has no {part}; it has the layers 0 to {len(lm.layers) - 1} and the parts "
                f"{', '.join(lm.family.parts)}"
            )
        found |= {Weight(layer, name) for layer in range(first, last + 1)}
    return tuple(sorted(found))


def usual_weights(lm: LanguageModel) -> str:
    """Return the matrices that are edited if neither a preset nor the user names any: W of upper layers.

    It is W in gated MLPs too: on SmolLM2-135M gate and up matrices, which the released settings for Llama-3-8B edit,
    gave a lower ES for the same NS (docs/editors.md).
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
