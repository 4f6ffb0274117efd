"""Fine-tuning one MLP matrix on one request: the paper's baselines FT and FT+L (section 3.4, appendix E.1), and FT-M.

Adam on the target's NLL until it is small. FT+L keeps every number of the matrix within a distance of the original.

The code released with the paper trains all parameters whose name contains the module's, so the bias too (and FT+L
clamps it), and scores all tokens of a target at the prompt's last position; here the matrix alone is trained, and each
token is predicted at its own position. `as_released` restores both.

FT-M (EasyEdit; Zhang et al. 2024, arXiv 2401.01286) is the cross-entropy of the target with the prompt masked out. That
is the objective that FT has here; learning rate, steps and stop are the same as well. What differs is the layer, in the
upper half (21 of LLaMA-7B's 32), where FT+L's is the first: for a model on which FT's layer is set to the same,
`ft` and `ft-m` are one editor. It has no distance to keep, and under `as_released` its bias is trained (EasyEdit takes
parameters by name too) and its objective stays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from cfbuild.data import Request
from cfbuild.edit.editor import Context, Edit, EditorSpec, unfinished
from cfbuild.errors import ConfigError
from cfbuild.lm.batch import Batch, Packing, pad
from cfbuild.lm.batching import halving
from cfbuild.lm.delta import Delta, Dense
from cfbuild.lm.forward import Trace, replay_packed, trace_packed
from cfbuild.lm.fused import fused_layers
from cfbuild.lm.hooks import projection_output
from cfbuild.lm.model import Ids, LanguageModel, Weight
from cfbuild.progress import no_progress

MOST_TOGETHER, BYTES_TOGETHER, NUMBERS_EACH = 16, 1 << 30, 4
"""Most requests trained side by side, and most bytes of their changes, gradients and Adam's two means, in float32."""
NORM_CONSTRAINT = 5e-4
"""FT+L's distance where no preset has one: the released one for GPT-2 XL."""


@dataclass(frozen=True, slots=True)
class FineTuneOptions:
    """Hyperparameters of FT; the defaults are the released ones.

    `norm_constraint` is the largest change of any number of the matrix (None: no limit), `stop_loss` an NLL in nats.
    `as_released` trains the bias too, where there is one, and scores all target tokens at the prompt's last position.
    """

    layer: int
    steps: int = 25
    learning_rate: float = 5e-4
    stop_loss: float = 1e-2
    norm_constraint: float | None = None
    as_released: bool = False

    @property
    def scores_at_prompt(self) -> bool:
        """True if all tokens of the target are scored at the prompt's last position."""
        return self.as_released

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"{self.steps} optimisation steps; expected at least 1")
        for name in ("learning_rate", "norm_constraint"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name} is {value}; expected more than 0")


@dataclass(frozen=True, slots=True)
class BoundedFineTuneOptions(FineTuneOptions):
    """FT+L's hyperparameters: FT's, and a distance, which without a preset is the released one for GPT-2 XL."""

    norm_constraint: float | None = NORM_CONSTRAINT


@dataclass(frozen=True, slots=True)
class MaskedFineTuneOptions(FineTuneOptions):
    """FT-M's hyperparameters: FT's, whose values EasyEdit took over; a token is always scored at its own position."""

    @property
    def scores_at_prompt(self) -> bool:
        """False: the prompt is masked out, and the target is predicted token by token."""
        return False


@dataclass(frozen=True, slots=True, eq=False)
class _Texts:
    """Traced texts, a row a request, up to the changed layer's input `below` [T, d_model] of their T packed tokens.

    The packed token `at[i]` should be followed by `tokens[i]`; `rows[i]` is its text, `shares[i]` its weight in that
    text's mean.
    """

    traced: Trace
    packing: Packing
    below: Tensor
    at: Tensor
    tokens: Tensor
    rows: Tensor
    shares: Tensor


class _Trained:
    """A change of the matrix [d_in, d_out], and of its bias [d_out] if it is trained, under Adam of its own."""

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
        """Return what the change adds to the output of inputs [width, d_in]: [width, d_out]."""
        added = inputs.float() @ self.change
        return added if self.bias is None else added + self.bias

    def step(self) -> None:
        """Take a step of Adam along the gradients, then clamp every number to the norm constraint, if there is one."""
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
    """The editor: each request changes the original weights, and many are trained side by side, each under its own."""

    def __init__(self, lm: LanguageModel, options: FineTuneOptions) -> None:
        self.lm = lm
        self.options = options

    def edit(self, requests: Sequence[Request], done: Callable[[int], None] = no_progress) -> list[Edit]:
        """Return one edit for each request, in order; `done` gets the number of finished ones."""
        edits: list[Edit] = []

        def work(places: Sequence[int]) -> list[Edit]:
            part = [requests[place] for place in places]
            return self._edit(part, places[0], lambda finished: done(places[0] + finished))

        with fused_layers(self.lm):
            while len(edits) < len(requests):
                part = range(len(requests))[len(edits) :][: self._together]
                edits += halving(work, part, self.lm.room)
                done(len(edits))
        return edits

    @property
    def _together(self) -> int:
        """Requests that are trained side by side: as many as MOST_TOGETHER and BYTES_TOGETHER allow."""
        d_out, d_in = self.lm.shape(Weight(self.options.layer))
        fitting = min(MOST_TOGETHER, BYTES_TOGETHER // (NUMBERS_EACH * 4 * d_out * d_in))
        return max(1, fitting >> self.lm.room.halvings)

    def _edit(self, requests: Sequence[Request], first: int, done: Callable[[int], None]) -> list[Edit]:
        """Return the edits of requests that are trained side by side; the first one's place is `first`.

        done: gets the number of requests that as many updates would finish as are made.
        """
        trained = [_Trained(self.lm, self.options) for _ in requests]
        going = list(range(len(requests)))
        texts = self._texts(requests)
        for updates in range(self.options.steps + 1):
            losses = self._losses(texts, [trained[place] for place in going])
            for place, nll in zip(going, losses.tolist(), strict=True):
                trained[place].nll = nll
            left = [row for row, place in enumerate(going) if trained[place].nll >= self.options.stop_loss]
            if updates == self.options.steps or not left:
                break
            losses[left].sum().backward()  # type: ignore[no-untyped-call]
            for row in left:
                trained[going[row]].step()
            if len(left) < len(going):
                going = [going[row] for row in left]
                texts = self._texts([requests[place] for place in going])
            done(max(len(requests) - len(going), len(requests) * updates // (self.options.steps + 1)))
        return [self._as_edit(first + place, one) for place, one in enumerate(trained)]

    def _as_edit(self, place: int, trained: _Trained) -> Edit:
        delta = trained.delta(self.options.layer)
        measured = {"updates": trained.updates, "target_nll_nats": trained.nll, "delta_norm": delta.norm}
        if not all(map(math.isfinite, measured.values())):
            return unfinished((place,), measured)
        return Edit((place,), delta, statistics=measured)

    @torch.no_grad()
    def _texts(self, requests: Sequence[Request]) -> _Texts:
        """Return the requests' texts, traced: only W changes, so nothing below its layer is computed again."""
        lm, ends = self.lm, []
        texts: list[Ids] = []
        tokens: list[Ids] = []
        for request in requests:
            prompt, targets = lm.encode_subject(request.prompt, request.subject)[0], lm.continuation(request.target_new)
            texts.append(prompt if self.options.scores_at_prompt else prompt + targets[:-1])
            tokens.append(targets)
            ends.append(len(prompt) - 1)
        ids, real = pad(texts, lm)
        packing = Packing.of(real)
        batch = Batch(ids, torch.arange(ids.shape[1], device=lm.device).expand(len(texts), -1), None)
        traced, below = trace_packed(lm, batch, packing, self.options.layer)
        starts = accumulate((len(text) for text in texts), initial=0)
        asked = [
            (start + end + (0 if self.options.scores_at_prompt else step), token, row, 1 / len(targets))
            for row, (start, end, targets) in enumerate(zip(starts, ends, tokens, strict=False))
            for step, token in enumerate(targets)
        ]
        at, wanted, rows, shares = (torch.tensor(column, device=lm.device) for column in zip(*asked, strict=True))
        return _Texts(traced, packing, below, at, wanted, rows, shares)

    def _losses(self, texts: _Texts, trained: Sequence[_Trained]) -> Tensor:
        """Return each text's loss under its own change: the mean NLL of its target in nats, [rows]."""

        def add(inputs: Tensor, outputs: Tensor) -> Tensor:
            rows = inputs.reshape(len(trained), -1, inputs.shape[-1])
            added = torch.stack([one.added(row) for one, row in zip(trained, rows, strict=True)])
            return outputs + added.reshape(outputs.shape).to(outputs)

        lm = self.lm
        with projection_output(lm, self.options.layer, add):
            states = replay_packed(lm, texts.traced, texts.packing, texts.below, texts.at, self.options.layer)
        nll = -lm.logits(states).log_softmax(dim=-1).gather(1, texts.tokens[:, None])[:, 0]
        return torch.zeros(len(trained), device=lm.device).index_add(0, texts.rows, nll.float() * texts.shares)


def _make(context: Context[FineTuneOptions]) -> FineTune:
    return FineTune(context.lm, context.options)


FT = EditorSpec(FineTuneOptions, _make)
FT_L: EditorSpec[FineTuneOptions] = EditorSpec(BoundedFineTuneOptions, _make)
FT_M: EditorSpec[FineTuneOptions] = EditorSpec(MaskedFineTuneOptions, _make)
