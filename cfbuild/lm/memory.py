"""Memory that many batches of different shapes would leave behind, kept small."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import lru_cache

KERNEL_CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
"""Environment variables that bound the kernels oneDNN keeps, and those torch's binding to it keeps, on a CPU."""
KERNELS = "64"
"""Kernels to keep: a batch needs about 30. The usual 1,024 of 0.6 MB each take 0.7 GB, between freed memory."""


def bound_kernel_caches() -> None:
    """Bound the kernels kept to KERNELS unless the user's environment says otherwise.

    It has an effect until the process's first product.
    """
    for name in KERNEL_CACHES:
        os.environ.setdefault(name, KERNELS)


def give_back_freed_memory() -> None:
    """Let the C library return the memory that is free inside the process, where it can (glibc).

    By itself it keeps what large tensors leave, in pieces that later batches of other shapes do not fit. Giving it back
    takes some 40 ms a batch.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@lru_cache(maxsize=1)
def _malloc_trim() -> Callable[[int], int] | None:
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library; no library by that name; Windows
        return None
    return trim
