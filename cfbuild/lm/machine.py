"""A machine's means for models: processor, threads, memory, accelerators, and the rate at which it multiplies."""

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


@dataclass(frozen=True, slots=True)
class Device:
    """A device that computes.

    gflops: the rate of a float32 product of SIZE^3, in 10^9 operations a second. fast: the number formats in which
    products save time there. total and free are bytes of memory, None where nobody tells.
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
        told = getattr(getattr(torch, device.type, None), "get_device_name", None)
        name = str(told(device)) if told else platform.machine()
        yield _described(device, name, (total_memory(device), free_memory(device)))


def _described(device: torch.device, name: str, memory: tuple[int | None, int | None]) -> Device:
    fast = tuple(str(numbers).removeprefix("torch.") for numbers in FAST_AT if narrow_is_fast(device, numbers))
    return Device(str(device), name, round(_gflops(device), 1), ("float32", *fast), *memory)


@torch.no_grad()
def _gflops(device: torch.device) -> float:
    left, right = (torch.ones(SIZE, SIZE, device=device) for _ in range(2))
    seconds = []
    for _ in range(TRIES):
        started = time.perf_counter()
        # Reading a number waits for the device.
        float(Libraries().multiply(left, right)[0, 0])
        seconds.append(time.perf_counter() - started)
    return 2 * SIZE**3 / min(seconds) / 1e9


def _cpu_memory() -> tuple[int | None, int | None]:
    """Return the bytes of the machine's memory and those that are free, where the system tells (Linux)."""
    try:
        lines = (line.split() for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
        kilobytes = {words[0]: int(words[1]) for words in lines if len(words) > 1}
        return 1024 * kilobytes["MemTotal:"], 1024 * kilobytes["MemAvailable:"]
    except (OSError, KeyError, ValueError):
        pages = os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names else None
        return (None if pages is None else pages * os.sysconf("SC_PAGE_SIZE")), None
