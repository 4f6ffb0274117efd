"""Fine-tuning one MLP matrix on one request: the paper's FT and FT+L (section 3.4, appendix E.1), and EasyEdit's FT-M.

Adam takes steps on the target's NLL until it is small. FT+L keeps each number of the matrix within a distance of the
original. FT-M (Zhang et al. 2024, arXiv 2401.01286) masks the prompt out of the loss; as FT does so too here, the two
differ in the layer only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import ClassVar

import torch
from torch import Tensor

from cfbuild.data import Request
from cfbuild.edit.editor import Context, Edit, EditorSpec, failed_edit
from cfbuild.edit.trained.material import targeted
from cfbuild.errors import check_least, check_positive
from cfbuild.lm.batch import Packing, right_padded
from cfbuild.lm.batching import halving
from cfbuild.lm.delta import Delta, Dense
from cfbuild.lm.forward import Trace, replay_packed, trace_packed
from cfbuild.lm.fused import fused_layers
from cfbuild.lm.hooks import projection_output
from cfbuild.lm.model import LanguageModel, Weight
from cfbuild.progress import no_progress

MOST_TOGETHER, BYTES_TOGETHER, NUMBERS_EACH = 16, 1 << 30, 4
"""The most requests trained side by side, and the most bytes of their changes, gradients and Adam's two means."""
NORM_CONSTRAINT = 5e-4
"""FT+L's distance if no preset has one: the released one for GPT-2 XL."""


@dataclass(frozen=True, slots=True)
class FineTuneOptions:
    """FT's hyperparameters; the defaults are the released ones.

    `stop_loss` is an NLL in nats. `norm_constraint` is the largest change of any number of the matrix (None: no limit).
    `as_released` trains the bias too, if there is one, and scores all target tokens at the prompt's last position,
    unless they are `always_in_place`.
    """

    layer: int
    steps: int = 25
    learning_rate: float = 5e-4
    stop_loss: float = 1e-2
    norm_constraint: float | None = None
    as_released: bool = False
    always_in_place: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_least(self, steps=1)
        check_positive(self, "learning_rate", "norm_constraint")


@dataclass(frozen=True, slots=True)
class BoundedFineTuneOptions(FineTuneOptions):
    """FT+L's hyperparameters: FT's with a distance."""

    norm_constraint: float | None = NORM_CONSTRAINT


@dataclass(frozen=True, slots=True)
class MaskedFineTuneOptions(FineTuneOptions):
    """FT-M's hyperparameters: FT's, whose values EasyEdit took over; each token is scored at its own position."""

    always_in_place: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, eq=False)
class _Texts:
    """The requests' texts, a row each, run up to the edited layer; `below` [T, d_model] is its input for all tokens.

    The token of index `at[i]` should be followed by `targets[i]`; `rows[i]` is its text, `shares[i]` its weight in
    that text's mean.
    """

    traced: Trace
    packing: Packing
    below: Tensor
    at: Tensor
    targets: Tensor
    rows: Tensor
    shares: Tensor


class _TrainedChange:
    """A change of the matrix [d_in, d_out], and of its bias [d_out] if that is trained, with an Adam of its own."""

    def __init__(self, lm: LanguageModel, options: FineTuneOptions) -> None:
        weight = Weight(options.layer)
        self.change = torch.zeros(lm.shape(weight)[::-1], device=lm.device, requires_grad=True)
        trains_bias = options.as_released and lm.bias(weight) is not None
        self.bias = torch.zeros(self.change.shape[1], device=lm.device, requires_grad=True) if trains_bias else None
        self.updates, self.nll = 0, math.nan
        self._parameters = [self.change] if self.bias is None else [self.change, self.bias]
        self._adam = torch.optim.Adam(self._parameters, options.learning_rate)
        self._bound = options.norm_constraint

    def added(self, inputs: Tensor) -> Tensor:
        """Return what the change adds to the output of `inputs` [width, d_in], [width, d_out]."""
        added = inputs.float() @ self.change
        return added if self.bias is None else added + self.bias

    def step(self) -> None:
        """Take a step of Adam along the gradients, then clamp every number to the norm constraint."""
        self._adam.step()
        self._adam.zero_grad()
        self.updates += 1
        if self._bound is not None:
            with torch.no_grad():
                for parameter in self._parameters:
                    parameter.clamp_(-self._bound, self._bound)

    def delta(self, layer: int) -> Delta:
        bias = None if self.bias is None else self.bias.detach()
        return Delta.of(layer, Dense(self.change.detach().T, bias))


class FineTune:
    """The editor: it trains many requests side by side, each with a change of its own of the original weights."""

    def __init__(self, lm: LanguageModel, options: FineTuneOptions) -> None:
        self.lm = lm
        self.options = options

    def edit(self, requests: Sequence[Request], done: Callable[[int], None] = no_progress) -> list[Edit]:
        """Return one edit for each request, in order."""
        edits: list[Edit] = []

        def work(places: Sequence[int]) -> list[Edit]:
            batch = [requests[place] for place in places]
            return self._edit(batch, places[0], lambda finished: done(places[0] + finished))

        with fused_layers(self.lm):
            while len(edits) < len(requests):
                places = range(len(requests))[len(edits) :][: self._most_together]
                edits += halving(work, places, self.lm.room)
                done(len(edits))
        return edits

    @property
    def _most_together(self) -> int:
        """Return the number of requests to train side by side, by MOST_TOGETHER, BYTES_TOGETHER and the free memory."""
        d_out, d_in = self.lm.shape(Weight(self.options.layer))
        fitting = min(MOST_TOGETHER, BYTES_TOGETHER // (NUMBERS_EACH * 4 * d_out * d_in))
        return max(1, fitting >> self.lm.room.halvings)

    def _edit(self, requests: Sequence[Request], first: int, done: Callable[[int], None]) -> list[Edit]:
        """Return the edits of requests that are trained side by side, of which the first has the index `first`.

        done: gets the number of finished requests, estimated by the share of the steps that were taken.
        """
        trained = [_TrainedChange(self.lm, self.options) for _ in requests]
        active = list(range(len(requests)))
        texts = self._texts(requests)
        for updates in range(self.options.steps + 1):
            losses = self._losses(texts, [trained[place] for place in active])
            for place, nll in zip(active, losses.tolist(), strict=True):
                trained[place].nll = nll
            unfinished = [row for row, place in enumerate(active) if trained[place].nll >= self.options.stop_loss]
            if updates == self.options.steps or not unfinished:
                break
            losses[unfinished].sum().backward()  # type: ignore[no-untyped-call]
            for row in unfinished:
                trained[active[row]].step()
            if len(unfinished) < len(active):
                active = [active[row] for row in unfinished]
                texts = self._texts([requests[place] for place in active])
            done(max(len(requests) - len(active), len(requests) * updates // (self.options.steps + 1)))
        return [self._as_edit(first + place, change) for place, change in enumerate(trained)]

    def _as_edit(self, place: int, trained: _TrainedChange) -> Edit:
        delta = trained.delta(self.options.layer)
        measured = {"updates": trained.updates, "target_nll_nats": trained.nll, "delta_norm": delta.norm}
        if not all(map(math.isfinite, measured.values())):
            return failed_edit((place,), measured)
        return Edit((place,), delta, statistics=measured)

    @torch.no_grad()
    def _texts(self, requests: Sequence[Request]) -> _Texts:
        """Return the requests' texts, run up to the edited layer."""
        lm, at_prompt = self.lm, self.options.as_released and not self.options.always_in_place
        examples = [targeted(lm, request) for request in requests]
        texts = [example.prompt if at_prompt else example.ids for example in examples]
        batch, real = right_padded(texts, lm)
        packing = Packing.of(real)
        traced, below = trace_packed(lm, batch, packing, self.options.layer)
        starts = accumulate(map(len, texts), initial=0)
        table = [
            (start + example.predicting.start + (0 if at_prompt else step), token, row, 1 / len(example.target))
            for row, (start, example) in enumerate(zip(starts, examples, strict=False))
            for step, token in enumerate(example.target)
        ]
        columns = (torch.tensor(column, device=lm.device) for column in zip(*table, strict=True))
        return _Texts(traced, packing, below, *columns)

    def _losses(self, texts: _Texts, trained: Sequence[_TrainedChange]) -> Tensor:
        """Return each text's loss under its own change: the mean NLL of its target in nats, [rows]."""

        def add(inputs: Tensor, outputs: Tensor) -> Tensor:
            rows = inputs.reshape(len(trained), -1, inputs.shape[-1])
            added = torch.stack([change.added(row) for change, row in zip(trained, rows, strict=True)])
            return outputs + added.reshape(outputs.shape).to(outputs)

        lm = self.lm
        with projection_output(lm, self.options.layer, add):
            states = replay_packed(lm, texts.traced, texts.packing, texts.below, texts.at, self.options.layer)
        nll = -lm.logits(states).log_softmax(dim=-1).gather(1, texts.targets[:, None])[:, 0]
        return torch.zeros(len(trained), device=lm.device).index_add(0, texts.rows, nll.float() * texts.shares)


def _make(context: Context[FineTuneOptions]) -> FineTune:
    return FineTune(context.lm, context.options)


FT = EditorSpec(FineTuneOptions, _make)
FT_L: EditorSpec[FineTuneOptions] = EditorSpec(BoundedFineTuneOptions, _make)
FT_M: EditorSpec[FineTuneOptions] = EditorSpec(MaskedFineTuneOptions, _make)
