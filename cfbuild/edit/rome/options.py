"""ROME's hyperparameters, exact and fast."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from cfbuild.edit import TOKENS
from cfbuild.edit.rome.layout import SHARE_OF_BUDGET
from cfbuild.errors import ConfigError
from cfbuild.lm.products import narrow_is_fast, note_slow_format

Settings = TypeVar("Settings", bound="RomeOptions")

KEY_MODES = ("reference", "consistent")
AUTO = "auto"
FAST_TAKES_EVERY = 3
"""`rome-fast` takes every third context."""


@dataclass(frozen=True, slots=True)
class RomeOptions:
    """ROME's hyperparameters; the defaults are the released ones. `contexts` are put before the prompt (appendix E.5).

    `key_mode`: `reference` averages the key over contexts for u but not for u . k0, as released; `consistent` uses the
    average in both places (R-ROME, arXiv 2403.07175). `token` (a key of TOKENS) is the prompt's token at which keys and
    values are taken, and at which the KL term reads. `products` is the number format of the matrix products in the
    value optimisation (`auto`: bfloat16 where the device is fast at it); keys, values and everything else are float32
    either way.
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
        if self.steps < 1:
            raise ConfigError(f"{self.steps} optimisation steps; expected at least 1")


@dataclass(frozen=True, slots=True)
class FastRomeOptions(RomeOptions):
    """ROME's hyperparameters as `rome-fast` has them: products in whatever format the device is fast at."""

    products: str = AUTO


def fast(options: RomeOptions, device: torch.device) -> RomeOptions:
    """Return options that take every third context, and products in bfloat16 where the device is fast at them."""
    return on_device(replace(options, contexts=options.contexts[::FAST_TAKES_EVERY], products=AUTO), device)


def on_device(options: Settings, device: torch.device) -> Settings:
    """Return the options with the number format that `auto` means on a device; log a format that it is slow at."""
    if options.products != AUTO:
        if options.products == "bfloat16":
            note_slow_format("--set products=bfloat16", device, torch.bfloat16)
        return options
    return replace(options, products="bfloat16" if narrow_is_fast(device) else "float32")
