"""Clocks, the machine's matrix-product peak, counted operations and peak memory."""

from __future__ import annotations

import math
import platform
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.utils.flop_counter import FlopCounterMode

from cfbuild.lm.libraries import Libraries
from cfbuild.lm.linear import LinearMap
from cfbuild.lm.memory import wait_for
from cfbuild.lm.products import narrow_is_fast
from cfbuild.lm.tensor_cores import has_tensor_cores

T = TypeVar("T")
PEAK_SIZES = ((2048, 2048, 2048), (2048, 576, 1536), (1024, 1024, 4096))
LARGE_PEAK_SIZES = ((8192, 8192, 8192), (16384, 4096, 4096))
"""Rows, inner and outer size of products whose best rate is called the peak, on a CPU and on any other device."""
PEAK_REPEATS = 8


@dataclass(frozen=True, slots=True)
class Timed:
    """A result and the seconds it took."""

    result: Any
    seconds: float


def timed(work: Callable[[], T], device: torch.device) -> Timed:
    """Run `work` once and wait until the device is done."""
    wait_for(device)
    started = time.perf_counter()
    result = work()
    wait_for(device)
    return Timed(result, time.perf_counter() - started)


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Return the best rate of a large matrix product here, in operations a second (a product and its sum are two).

    The best of torch's own products and of the package's, which may take another library, or a GPU's tensor cores.
    """
    best, libraries = 0.0, Libraries(tensor_cores=has_tensor_cores(device), parts_bytes=1)
    for rows, inner, outer in PEAK_SIZES if device.type == "cpu" else LARGE_PEAK_SIZES:
        left = torch.randn(rows, inner, device=device, dtype=dtype)
        right = torch.randn(inner, outer, device=device, dtype=dtype)
        for product in (
            partial(torch.matmul, left, right),
            partial(LinearMap(right.T.contiguous(), None, libraries), left),
        ):
            took = min(timed(product, device).seconds for _ in range(PEAK_REPEATS))
            best = max(best, 2 * rows * inner * outer / took)
    return best


def count_flops(work: Callable[[], object]) -> int:
    """Operations of the matrix products and attention in `work`."""

    def linear(inputs: Sequence[int], *_: object, out_shape: Sequence[int], **__: object) -> int:
        return 2 * math.prod(inputs) * out_shape[-1]

    unknown = {torch.ops.mkldnn._linear_pointwise: linear}  # the counter knows products by their usual names only
    with FlopCounterMode(display=False, custom_mapping=unknown) as counter:
        work()
    return int(counter.get_total_flops())


def peak_memory_bytes(device: torch.device) -> int:
    """Most memory so far: of this process on a CPU, of the device's tensors elsewhere."""
    if device.type != "cpu":
        return int(torch.accelerator.max_memory_allocated(device))
    status = Path("/proc/self/status")
    if status.is_file():  # on Linux a process inherits the other number from the one that started it
        lines = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines())
        return 1024 * int(lines["VmHWM"].split()[0])
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def machine(device: torch.device) -> dict[str, Any]:
    """Return the machine: cores, threads, versions and the two peaks."""
    return {
        "machine": platform.machine(),
        "device": str(device),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "peak_float32_gflops": round(peak_flops(device, torch.float32) / 1e9, 1),
        # A CPU without instructions for bfloat16 takes minutes for one such product.
        "peak_bfloat16_gflops": round(peak_flops(device, torch.bfloat16) / 1e9, 1) if narrow_is_fast(device) else None,
    }
