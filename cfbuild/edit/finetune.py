"""Fine-tuning one MLP matrix on one request: the paper's baselines FT and FT+L (section 3.4, appendix E.1).

Adam on the target's NLL until it is small. FT+L keeps every number of the matrix within a distance of the original. The
released code scores a target of several tokens at the prompt's last position only; here each token is predicted at its
own position.
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
from cfbuild.lm.forward import replay, trace
from cfbuild.lm.hooks import projection_output
from cfbuild.lm.model import LanguageModel, Weight
from cfbuild.progress import no_progress

NORM_CONSTRAINT = 5e-4
"""FT+L's distance where no preset has one: the released one for GPT-2 XL."""


@dataclass(frozen=True, slots=True)
class FineTuneOptions:
    """Hyperparameters of FT; the defaults are the released ones.

    `norm_constraint` is the largest change of any number of the matrix (None: no limit), `stop_loss` an NLL in nats.
    """

    layer: int
    steps: int = 25
    learning_rate: float = 5e-4
    stop_loss: float = 1e-2
    norm_constraint: float | None = None

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
        prompt, targets = lm.encode_subject(request.prompt, request.subject)[0], lm.continuation(request.target_new)
        ids = torch.tensor([prompt + targets[:-1]], device=lm.device)
        with torch.no_grad():
            # Only W changes, so nothing below its layer is computed again.
            traced = trace(lm, Batch(ids, torch.arange(ids.shape[1], device=lm.device)[None], None), layer)
        asked = torch.tensor(targets, device=lm.device)
        change = torch.zeros(lm.shape(Weight(layer))[::-1], device=lm.device, requires_grad=True)  # [d_in, d_out]

        def loss() -> Tensor:
            with projection_output(lm, layer, lambda inputs, outputs: outputs + (inputs.float() @ change).to(outputs)):
                hidden = replay(lm, traced)[0, len(prompt) - 1 :]
            return -lm.logits(hidden).log_softmax(dim=-1).gather(1, asked[:, None]).mean()

        updates, last_loss = self._train(change, loss)
        delta = Delta.of(layer, Dense(change.detach().T))
        measured = {"updates": updates, "target_nll_nats": last_loss, "delta_norm": delta.norm}
        if not all(map(math.isfinite, measured.values())):
            return unfinished((place,), measured)
        return Edit((place,), delta, statistics=measured)

    def _train(self, change: Tensor, loss: Callable[[], Tensor]) -> tuple[int, float]:
        """Return the number of updates and the last loss, after Adam moved `change` until its loss was small."""
        options = self.options
        adam = torch.optim.Adam([change], options.learning_rate)
        for updates in range(options.steps + 1):
            now = loss()
            if updates == options.steps or not float(now.detach()) >= options.stop_loss:
                break
            adam.zero_grad()
            now.backward()  # type: ignore[no-untyped-call]
            adam.step()
            if options.norm_constraint is not None:
                with torch.no_grad():
                    change.clamp_(-options.norm_constraint, options.norm_constraint)
        return updates, float(now.detach())


def _make(context: Context[FineTuneOptions]) -> FineTune:
    return FineTune(context.lm, context.options)


FT = EditorSpec(FineTuneOptions, _make)
FT_L: EditorSpec[FineTuneOptions] = EditorSpec(BoundedFineTuneOptions, _make)
