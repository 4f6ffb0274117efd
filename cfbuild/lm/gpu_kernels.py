"""Our kernels for GPUs, where there is a compiler for them."""

from __future__ import annotations

from functools import lru_cache
from types import ModuleType

import torch

from cfbuild.lm.notices import log_once


def gpu_kernels(device: torch.device) -> ModuleType | None:
    """Return the kernels of `triton_kernels`, or None on other devices than NVIDIA's and where they do not compile."""
    return _compiled() if device.type == "cuda" and torch.version.hip is None else None


@lru_cache(maxsize=1)
def _compiled() -> ModuleType | None:
    try:
        from cfbuild.lm import triton_kernels

        numbers, parts = torch.ones(1, 8, device="cuda"), torch.empty(1, 24, device="cuda", dtype=torch.bfloat16)
        triton_kernels.split_rows(numbers, parts)
        keys = numbers.view(1, 1, 1, 8)
        triton_kernels.attend_from_one(keys, keys, keys, keys[..., :1], 1.0)
    except Exception as error:  # noqa: BLE001 - whatever a compiler raises: torch does the same in several passes
        log_once(f"Triton's kernels cannot be used, which is slower: {type(error).__name__}: {error}")
        return None
    return triton_kernels
