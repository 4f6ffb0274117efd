"""The hyperparameters of ROME and `rome-fast`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from cfbuild.edit import TOKENS
from cfbuild.edit.rome.layout import SHARE_OF_BUDGET
from cfbuild.errors import ConfigError, check_least
from cfbuild.lm.products import narrow_is_fast, note_slow_format

Settings = TypeVar("Settings", bound="RomeOptions")
KEY_MODES = ("reference", "consistent")
AUTO = "auto"
FAST_TAKES_EVERY = 3
"""`rome-fast` takes every third context (docs/speed.md has its scores)."""


@dataclass(frozen=True, slots=True)
class RomeOptions:
    """ROME's hyperparameters; the defaults are the released ones.

    `contexts` are put before the prompt (appendix E.5). `stop_loss` is in nats. `clamp_norm_factor` limits the norm of
    the change of W's output, as a multiple of the output's. `key_mode`: `reference` takes the mean key over contexts
    for u but not for u . k0, as released; `consistent` takes it for both (R-ROME, arXiv 2403.07175). `token`, a key of
    TOKENS, is the prompt's token at which keys and values are taken and the KL term is read. `products` is the number
    format of the matrix products of the optimisation (`auto`: bfloat16 where the device is fast at it); everything else
    is float32.
    """

    layer: int
    contexts: tuple[str, ...] = ()
    steps: int = 20
    learning_rate: float = 0.5
    stop_loss: float = 0.05
    kl_factor: float = 0.0625
    weight_decay: float = 0.5
    clamp_norm_factor: float = 4.0
    key_mode: str = "reference"
    products: str = "float32"
    token: str = "subject_last"

    def __post_init__(self) -> None:
        formats = (AUTO, *SHARE_OF_BUDGET)
        if self.products not in formats:
            raise ConfigError(f"products in {self.products!r} do not exist; expected one of {', '.join(formats)}")
        if self.key_mode not in KEY_MODES:
            raise ConfigError(f"key mode {self.key_mode!r} does not exist; expected one of {', '.join(KEY_MODES)}")
        if self.token not in TOKENS:
            raise ConfigError(f"token {self.token!r} does not exist; expected one of {', '.join(TOKENS)}")
        check_least(self, steps=1)


@dataclass(frozen=True, slots=True)
class FastRomeOptions(RomeOptions):
    """ROME's hyperparameters as `rome-fast` has them: products in the format that the device is fast at."""

    products: str = AUTO


def on_device(options: Settings, device: torch.device) -> Settings:
    """Return options with a number format in place of `auto`; log a format that the device is slow at."""
    if options.products != AUTO:
        if options.products == "bfloat16":
            note_slow_format("--set products=bfloat16", device, torch.bfloat16)
        return options
    return replace(options, products="bfloat16" if narrow_is_fast(device) else "float32")
