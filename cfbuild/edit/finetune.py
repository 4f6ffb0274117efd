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

import torch
from torch import Tensor

from cfbuild.data import Request
from cfbuild.edit.editor import Context, Edit, EditorSpec, unfinished
from cfbuild.errors import ConfigError
from cfbuild.lm.batch import Batch
from cfbuild.lm.delta import Delta, Dense
from cfbuild.lm.forward import Trace, replay, trace
from cfbuild.lm.hooks import projection_output
from cfbuild.lm.model import LanguageModel, Weight
from cfbuild.progress import no_progress

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


@dataclass(frozen=True, slots=True)
class _Scored:
    """A traced text of one row; the token at `at[i]` should be followed by `tokens[i]`."""

    traced: Trace
    at: Tensor
    tokens: Tensor


class FineTune:
    """The editor: it edits one request after the other, each from the original weights."""

    def __init__(self, lm: LanguageModel, options: FineTuneOptions) -> None:
        self.lm = lm
        self.options = options

    def edit(self, requests: Sequence[Request], done: Callable[[int], None] = no_progress) -> list[Edit]:
        """Return one edit for each request, in order; `done` gets their number as they come."""
        edits = []
        for place, request in enumerate(requests):
            edits.append(self._edit(place, request))
            done(len(edits))
        return edits

    def _edit(self, place: int, request: Request) -> Edit:
        lm, layer = self.lm, self.options.layer
        weight = Weight(layer)
        change = torch.zeros(lm.shape(weight)[::-1], device=lm.device, requires_grad=True)  # [d_in, d_out]
        trains_bias = self.options.as_released and lm.bias(weight) is not None
        bias = torch.zeros(change.shape[1], device=lm.device, requires_grad=True) if trains_bias else None
        scored = self._scored(request)

        def add(inputs: Tensor, outputs: Tensor) -> Tensor:
            added = inputs.float() @ change
            return outputs + (added if bias is None else added + bias).to(outputs)

        def loss() -> Tensor:
            with projection_output(lm, layer, add):
                hidden = replay(lm, scored.traced)[0, scored.at]
            return -lm.logits(hidden).log_softmax(dim=-1).gather(1, scored.tokens[:, None]).mean()

        updates, last_loss = self._train([change] if bias is None else [change, bias], loss)
        delta = Delta.of(layer, Dense(change.detach().T, None if bias is None else bias.detach()))
        measured = {"updates": updates, "target_nll_nats": last_loss, "delta_norm": delta.norm}
        if not all(map(math.isfinite, measured.values())):
            return unfinished((place,), measured)
        return Edit((place,), delta, statistics=measured)

    @torch.no_grad()
    def _scored(self, request: Request) -> _Scored:
        """Return the request's text, traced: only W changes, so nothing below its layer is computed again."""
        lm = self.lm
        prompt, targets = lm.encode_subject(request.prompt, request.subject)[0], lm.continuation(request.target_new)
        text = prompt if self.options.scores_at_prompt else prompt + targets[:-1]
        ids = torch.tensor([text], device=lm.device)
        at = torch.arange(len(prompt) - 1, len(text), device=lm.device)
        traced = trace(lm, Batch(ids, torch.arange(len(text), device=lm.device)[None], None), self.options.layer)
        return _Scored(traced, at.expand(len(targets)), torch.tensor(targets, device=lm.device))

    def _train(self, parameters: Sequence[Tensor], loss: Callable[[], Tensor]) -> tuple[int, float]:
        """Return the number of updates and the last loss, after Adam moved the changes until their loss was small."""
        options = self.options
        adam = torch.optim.Adam(parameters, options.learning_rate)
        for updates in range(options.steps + 1):
            now = loss()
            if updates == options.steps or not float(now.detach()) >= options.stop_loss:
                break
            adam.zero_grad()
            now.backward()  # type: ignore[no-untyped-call]
            adam.step()
            if options.norm_constraint is not None:
                with torch.no_grad():
                    for one in parameters:
                        one.clamp_(-options.norm_constraint, options.norm_constraint)
        return updates, float(now.detach())


def _make(context: Context[FineTuneOptions]) -> FineTune:
    return FineTune(context.lm, context.options)


FT = EditorSpec(FineTuneOptions, _make)
FT_L: EditorSpec[FineTuneOptions] = EditorSpec(BoundedFineTuneOptions, _make)
FT_M: EditorSpec[FineTuneOptions] = EditorSpec(MaskedFineTuneOptions, _make)
