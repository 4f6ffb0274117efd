"""The devices of a machine for models: processor, threads, memory, accelerators, and how fast they multiply."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from cfbuild.lm.libraries import Libraries, processor
from cfbuild.lm.products import FAST_AT, narrow_is_fast
from cfbuild.lm.room import free_memory, total_memory

SIZE = 1024
"""Rows and columns of the matrices whose product is timed: they do not fit the caches, and take some hundredths of a
second."""
TRIES = 5
"""Products that are timed; the fastest counts."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device that computes.

    device: torch's name for it. gflops: the speed of a float32 product of SIZE^3, in 10^9 operations a second. fast:
    number formats in which products are fast. Bytes of memory are None where the system does not say.
    """

    device: str
    name: str
    gflops: float
    fast: tuple[str, ...]
    total_bytes: int | None
    free_bytes: int | None


def devices() -> Iterator[Device]:
    """Yield the CPU, and each accelerator that torch sees."""
    yield _described(torch.device("cpu"), f"{processor()}, {torch.get_num_threads()} threads", _cpu_memory())
    kind = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    for device in [torch.device(kind.type, index) for index in range(torch.accelerator.device_count())] if kind else []:
        name_of = getattr(getattr(torch, device.type, None), "get_device_name", None)
        name = str(name_of(device)) if name_of else platform.machine()
        yield _described(device, name, (total_memory(device), free_memory(device)))


def _described(device: torch.device, name: str, memory: tuple[int | None, int | None]) -> Device:
    fast = tuple(str(dtype).removeprefix("torch.") for dtype in FAST_AT if narrow_is_fast(device, dtype))
    return Device(str(device), name, round(_gflops(device), 1), ("float32", *fast), *memory)


@torch.no_grad()
def _gflops(device: torch.device) -> float:
    left, right = (torch.ones(SIZE, SIZE, device=device) for _ in range(2))
    seconds = []
    for _ in range(TRIES):
        started = time.perf_counter()
        float(Libraries().multiply(left, right)[0, 0])  # reading a number waits for the device
        seconds.append(time.perf_counter() - started)
    return 2 * SIZE**3 / min(seconds) / 1e9


def _cpu_memory() -> tuple[int | None, int | None]:
    """Return the bytes of the machine's memory, and those that are free; None for what the system does not say."""
    try:
        lines = (line.split() for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
        kilobytes = {words[0]: int(words[1]) for words in lines if len(words) > 1}
        return 1024 * kilobytes["MemTotal:"], 1024 * kilobytes["MemAvailable:"]
    except (OSError, KeyError, ValueError):
        pages = os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names else None
        return (None if pages is None else pages * os.sysconf("SC_PAGE_SIZE")), None
