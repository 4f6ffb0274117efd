"""Masks for sliding windows: layers whose tokens see only a limited number of tokens back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cfbuild.lm.model import LanguageModel

FULL, SLIDING = "full_attention", "sliding_attention"
"""The names that transformers gives the two kinds of layers; it takes a mask for each."""


def window_of(config: Any) -> int | None:
    """Return the tokens that a token sees in the sliding layers of a `config`, itself included; None without any."""
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    return None if not window or (kinds is not None and SLIDING not in kinds) else int(window)


def windowed(lm: LanguageModel, mask: Tensor | None, longest: int) -> Tensor | dict[str, Tensor] | None:
    """Return a mask with the windows of the model's layers, which transformers puts into its own masks only.

    mask: additive [batch, 1, width, seen], or None for the causal one, which transformers makes. longest: tokens of the
    longest row, past included.
    """
    window = window_of(lm.model.config)
    if mask is None or window is None or longest <= window:
        return mask
    # What a token sees is in the order of positions, so the number of columns behind is the distance.
    later = (mask == 0).flip(-1).cumsum(-1).flip(-1)
    near = mask.masked_fill(later > window, torch.finfo(mask.dtype).min)
    kinds = getattr(lm.model.config, "layer_types", None)
    return near if kinds is None or set(kinds) == {SLIDING} else {FULL: mask, SLIDING: near}
