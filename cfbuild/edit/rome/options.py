"""ROME's hyperparameters."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from cfbuild.edit.rome.layout import SHARE_OF_BUDGET
from cfbuild.errors import ConfigError
from cfbuild.lm.products import narrow_is_fast

KEY_MODES = ("reference", "consistent")


FAST_TAKES_EVERY = 3


@dataclass(frozen=True, slots=True)
class RomeOptions:
    """Hyperparameters; the defaults are the released ones. `contexts` are texts put before the prompt (appendix E.5).

    `key_mode`: `reference` averages the key over contexts for u but not for u . k0, as released; `consistent` uses the
    average in both places (R-ROME, arXiv 2403.07175). `products` is the number format of the matrix products in the
    value optimisation; keys, values and everything else are float32 either way.
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

    def __post_init__(self) -> None:
        if self.products not in SHARE_OF_BUDGET:
            raise ConfigError(
                f"products in {self.products!r} do not exist; expected one of {', '.join(SHARE_OF_BUDGET)}"
            )
        if self.key_mode not in KEY_MODES:
            raise ConfigError(f"key mode {self.key_mode!r} does not exist; expected one of {', '.join(KEY_MODES)}")
        if self.steps < 1:
            raise ConfigError(f"{self.steps} optimisation steps; expected at least 1")


def fast(options: RomeOptions, device: torch.device) -> RomeOptions:
    """The `fast` preset: every third context, and products in bfloat16 where the device is fast at them."""
    products = "bfloat16" if narrow_is_fast(device) else "float32"
    return replace(options, contexts=options.contexts[::FAST_TAKES_EVERY], products=products)
