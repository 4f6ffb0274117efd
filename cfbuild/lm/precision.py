"""The widest number format of a device."""

from __future__ import annotations

import torch

from cfbuild.lm.notices import log_once

WITHOUT_FLOAT64 = ("mps",)
"""Kinds of devices that have no float64, by torch's documentation."""


def widest(device: torch.device) -> torch.dtype:
    """Return float64, or float32 on a device that has no float64."""
    if device.type in WITHOUT_FLOAT64:
        log_once(f"{device.type}: has no float64, so sums there are in float32")
        return torch.float32
    return torch.float64
