"""Memory: keep small what batches of many shapes leave behind, and measure the most that work takes."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import torch

KERNEL_CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
"""Environment variables for the most kernels that oneDNN keeps on a CPU, and that torch's binding to it keeps."""
KERNELS = "64"
"""Kernels to keep: a batch needs about 30. The default, 1,024 of 0.6 MB each, scatters 0.7 GB among freed memory."""
KEPT_BLOCK_BYTES, KEPT_BYTES = 32 << 20, 128 << 20
"""Tensors up to the first size, the most that glibc allows, come from the C library's heap, at whose end so much free
memory is kept. By itself glibc gives 64 MB back at once, which is what two parts of logits take: often a step of
writing 320 texts got them anew, page by page, 15,000 times a microsecond of some 380 ms."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""The numbers of these settings in glibc's malloc.h."""
MALLOC_VARIABLES = ("GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")
"""Environment variables by which a user sets the same."""
SAMPLED_EVERY_S = 0.005
"""Seconds between two readings of the process's memory; a reading takes about 20 µs."""


def bound_kernel_caches() -> None:
    """Let oneDNN keep only KERNELS kernels, unless the user's environment says otherwise.

    It has no effect after the process's first product.
    """
    for name in KERNEL_CACHES:
        os.environ.setdefault(name, KERNELS)


def keep_freed_memory() -> None:
    """Let the C library (glibc's) keep what large tensors leave for the next ones, up to KEPT_BYTES.

    A user's own settings by MALLOC_VARIABLES stay.
    """
    set_option = _of_c_library("mallopt")
    if set_option is not None and not any(name in os.environ for name in MALLOC_VARIABLES):
        set_option(M_MMAP_THRESHOLD, KEPT_BLOCK_BYTES)
        set_option(M_TRIM_THRESHOLD, KEPT_BYTES)


def give_back_freed_memory() -> None:
    """Return the process's freed memory to the system, if the C library can (glibc's).

    By itself it keeps what large tensors leave, in pieces that later batches of other shapes do not fit. It takes about
    40 ms a batch.
    """
    trim = _of_c_library("malloc_trim")
    if trim is not None:
        trim(0)


@lru_cache
def _of_c_library(name: str) -> Callable[..., int] | None:
    """Return a function of glibc's, or None where there is no such function."""
    try:
        function: Callable[..., int] = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):  # another C library; no library by that name; Windows
        return None
    return function


def wait_for(device: torch.device) -> None:
    """Wait until the device has done all that it was given, before a clock is read."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


class PeakMemory:
    """The most memory that is in use while the context is open, beyond what was in use at its beginning.

    rise_bytes: the result, once the context is closed. On an accelerator it is exact, by what torch has allocated. On a
    CPU it is that of the process's resident memory, read every SAMPLED_EVERY_S seconds, so shorter peaks are missed;
    None where it cannot be read (it can on Linux). Freed memory is returned to the system first, or work that takes it
    again would seem to take none.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.rise_bytes: int | None = None
        self._over = threading.Event()

    def __enter__(self) -> PeakMemory:
        if self._device.type == "cuda":
            self._before = torch.cuda.memory_allocated(self._device)
            torch.cuda.reset_peak_memory_stats(self._device)
            return self
        give_back_freed_memory()
        self._before = resident = _resident_bytes() or 0
        if resident:
            self._highest = resident
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._device.type == "cuda":
            self.rise_bytes = torch.cuda.max_memory_allocated(self._device) - self._before
        elif self._before:
            self._over.set()
            self._thread.join()
            self.rise_bytes = max(0, max(self._highest, _resident_bytes() or 0) - self._before)

    def _watch(self) -> None:
        while not self._over.wait(SAMPLED_EVERY_S):
            self._highest = max(self._highest, _resident_bytes() or 0)


def _resident_bytes() -> int | None:
    """Return the resident memory of this process, or None if the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
