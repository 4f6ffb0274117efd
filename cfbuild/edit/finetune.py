"""Fine-tuning one MLP matrix on one request: the paper's baselines FT and FT+L (section 3.4, appendix E.1).

Adam on the target's NLL until it is small. FT+L keeps every number of the matrix within a distance of the original.
The released code scores a target of several tokens at the prompt's last position only; here each token is predicted
where it stands.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from cfbuild.data import Request
from cfbuild.edit.editor import Setting
from cfbuild.edit.presets import finetune_settings
from cfbuild.errors import ConfigError
from cfbuild.lm.batch import Batch
from cfbuild.lm.delta import Delta, Edit
from cfbuild.lm.forward import replay, trace
from cfbuild.lm.hooks import projection_output
from cfbuild.lm.model import LanguageModel

NORM_CONSTRAINT = 5e-4
"""FT+L's distance where no preset has one: the released one for GPT-2 XL."""


@dataclass(frozen=True, slots=True)
class FineTuneOptions:
    """Hyperparameters; the defaults are the released ones. `norm_constraint` is the largest change of any number of
    the matrix, None for any."""

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


class FineTune:
    """The editor: one request after the other, each from the original weights."""

    def __init__(self, lm: LanguageModel, options: FineTuneOptions, name: str = "ft") -> None:
        self.lm = lm
        self.options = options
        self.name = name

    @property
    def signature(self) -> dict[str, Any]:
        """All that affects an edit beside the model."""
        return {"editor": self.name, **asdict(self.options)}

    def edit(self, requests: Sequence[Request], done: Callable[[int], None] = lambda count: None) -> list[Edit]:
        """One edit a request, in order; `done` is told how many there are as they come."""
        edits = []
        for request in requests:
            edits.append(self._edit(request))
            done(len(edits))
        return edits

    def _edit(self, request: Request) -> Edit:
        lm, options = self.lm, self.options
        prompt, targets = lm.encode_subject(request.prompt, request.subject)[0], lm.continuation(request.target_new)
        ids = torch.tensor([prompt + targets[:-1]], device=lm.device)
        with torch.no_grad():
            # Only W changes, so nothing below its layer is computed again.
            traced = trace(lm, Batch(ids, torch.arange(ids.shape[1], device=lm.device)[None], None), options.layer)
        weight = lm.projection(options.layer).weight
        assert isinstance(weight, Tensor)
        shape = weight.shape if lm.family.projection_is_transposed else weight.shape[::-1]
        change = torch.zeros(shape, device=lm.device, requires_grad=True)  # [d_in, d_out]
        adam = torch.optim.Adam([change], options.learning_rate)
        wanted, updates = torch.tensor(targets, device=lm.device), 0

        def changed(inputs: Tensor, outputs: Tensor) -> Tensor:
            return outputs + (inputs.float() @ change).to(outputs.dtype)

        while True:
            with projection_output(lm, options.layer, changed):
                hidden = replay(lm, traced)[0, len(prompt) - 1 :]
            loss = -lm.logits(hidden).log_softmax(dim=-1).gather(1, wanted[:, None]).mean()
            if updates == options.steps or not float(loss.detach()) >= options.stop_loss:
                break
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
            if options.norm_constraint is not None:
                with torch.no_grad():
                    change.clamp_(-options.norm_constraint, options.norm_constraint)
            updates += 1
        return _finished(Delta(options.layer, None, change.detach()), updates, float(loss.detach()))


def _finished(delta: Delta, updates: int, loss: float) -> Edit:
    measured = {"updates": updates, "target_nll_nats": loss, "delta_norm": delta.norm}
    if all(map(math.isfinite, measured.values())):
        return Edit(delta, measured)
    return Edit(
        None, {name: value for name, value in measured.items() if math.isfinite(value)}, "the edit is not finite"
    )


def load(setting: Setting) -> FineTune:
    """`--editor ft` and `--editor ft-l`, which is `ft` held close to the original weights."""
    usual = finetune_settings(setting.lm.preset, setting.editor)
    layer = setting.layer(usual.pop("layer", None))
    if setting.editor == "ft-l":
        usual = {"norm_constraint": NORM_CONSTRAINT, **usual}
    return FineTune(setting.lm, setting.options(FineTuneOptions, layer=layer, **usual), setting.editor)
