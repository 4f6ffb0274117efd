"""The libraries that compute float32 products: for each kind of product the faster one.

On x86 torch calls MKL, and it carries oneDNN as well. Which of them is faster depends on the processor and on the kind
of product: oneDNN may take half of MKL's time at an output head, and 1.5 times as long for a gradient. So it is
measured, once a machine and version of torch. On a GPU it is cuBLAS, which multiplies float32 without the tensor cores;
large products of linear maps use them all the same, in three parts (`tensor_cores.py`).
"""

from __future__ import annotations

import json
import logging
import os
import platform
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cfbuild.errors import ConfigError, DataError
from cfbuild.lm.tensor_cores import bytes_of_parts, has_tensor_cores
from cfbuild.store.cache import cache_folder
from cfbuild.store.files import sha256_text
from cfbuild.store.jsonl import read_json, write_json

X86 = ("x86_64", "AMD64")
"""The names that systems have for x86 processors of 64 bits."""
PRODUCTS_VARIABLE = "CFBUILD_PRODUCTS"
MEASURED, ONEDNN, MKL, CUBLAS = "measured", "onednn", "mkl", "cublas"
"""The values of the environment variable PRODUCTS_VARIABLE: the faster library of each kind, or the same for all."""
TENSOR_CORES = "3xbf16"
"""The name of float32 products in three parts, as signatures have it, after NVIDIA's for those of TF32."""
USUAL = ONEDNN
"""The library of products that were not measured, which signatures do not name."""
WORTH_MEASURING = 20_000_000
"""Numbers in a model's weights from which on products are measured: with fewer, none takes long."""
ROWS, HEAD_ROWS, HEAD_FROM = 384, 96, 8
"""Rows of the products that are measured, as an edit has them: HEAD_ROWS for a weight with HEAD_FROM times as many
outputs as inputs, which is an output head's."""
COLD_BYTES, MOST_WEIGHTS = 32 << 20, 6
"""Weights are multiplied with in turn, as many as take COLD_BYTES, at most MOST_WEIGHTS: more than a processor's cache
holds, since a model's are never all in it."""
ROUNDS = 3
"""Measurements of each kind, of which the fastest counts: all kinds of a model take 3 to 5 seconds (docs/speed.md)."""
MARGIN = 0.97
"""The share of oneDNN's time that MKL may take at most to be chosen, so that ties end alike."""

_log = logging.getLogger(__name__)


class Kind(NamedTuple):
    """A kind of product inputs W^T.

    d_out, d_in: W's shape. along: whether the rows of W are contiguous in memory. sums: whether the product is added to
    a tensor. Signatures hold a digest of these names.
    """

    d_out: int
    d_in: int
    along: bool
    sums: bool

    def __str__(self) -> str:
        return f"{self.d_out}x{self.d_in}-{'along' if self.along else 'across'}{'-sum' if self.sums else ''}"


@dataclass(frozen=True, slots=True)
class Libraries:
    """The library of each kind of float32 product: on an x86 CPU `usual`, or the other one for the kinds in `others`.

    tensor_cores: whether large float32 products of linear maps use a GPU's. parts_bytes: what the parts of all weights
    take that these products keep; 0 if the memory has no room for them.
    """

    usual: str = USUAL
    others: frozenset[Kind] = frozenset()
    tensor_cores: bool = False
    parts_bytes: int = 0

    @property
    def signature(self) -> dict[str, str]:
        """Return the choice as signatures have it; empty where the usual library computes all."""
        if self.tensor_cores:
            return {"libraries": TENSOR_CORES}
        if not self.others:
            return {"libraries": self.usual} if self.usual != USUAL else {}
        digest = sha256_text(str(sorted(self.others)))[:8]
        return {"libraries": f"{self.usual} but for {len(self.others)} kinds ({digest})"}

    def multiply(self, inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return inputs W^T + bias: [..., d_in], [d_out, d_in], [d_out] -> [..., d_out].

        All have the same number format; there are no gradients.
        """
        if self._takes_onednn(weight, sums=False):
            return by_onednn(inputs, weight, bias)
        return nn.functional.linear(inputs, weight, bias)

    def multiply_and_add(self, inputs: Tensor, weight: Tensor, addend: Tensor) -> Tensor:
        """Return inputs W^T + addend: [T, d_in], [d_out, d_in], [T, d_out] -> [T, d_out]; no gradients."""
        if self._takes_onednn(weight, sums=True):
            return into_sum_by_onednn(inputs, weight, addend)
        return torch.addmm(addend, inputs, weight.T)

    def has_choice(self, weight: Tensor) -> bool:
        """Return whether products with a weight may be computed by another library than torch's own choice."""
        return has_onednn(weight) or (self.tensor_cores and weight.dtype == torch.float32)

    def _takes_onednn(self, weight: Tensor, sums: bool) -> bool:
        if not has_onednn(weight):
            return False
        d_out, d_in = weight.shape
        is_other = Kind(d_out, d_in, weight.is_contiguous(), sums) in self.others
        return is_other != (self.usual == ONEDNN)


def by_onednn(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return inputs W^T + bias, by oneDNN; shapes are as in `Libraries.multiply`."""
    outputs: Tensor = torch.ops.mkldnn._linear_pointwise.default(inputs, weight, bias, "none", [], "")
    return outputs


def into_sum_by_onednn(inputs: Tensor, weight: Tensor, addend: Tensor) -> Tensor:
    """Return inputs W^T + addend, by oneDNN; shapes are as in `Libraries.multiply_and_add`."""
    total: Tensor = torch.ops.mkldnn._linear_pointwise.binary(inputs, addend, weight, None, "add")
    return total


def has_onednn(weight: Tensor) -> bool:
    """Return whether torch has both libraries for a weight: float32 on an x86 CPU."""
    return (
        weight.dtype == torch.float32
        and weight.device.type == "cpu"
        and platform.machine() in X86
        and bool(getattr(torch.backends.mkldnn, "enabled", True))
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def libraries_for(model: nn.Module) -> Libraries:
    """Return the libraries for a model's products: as the environment says, or the faster ones on this machine.

    Raises ConfigError for an unknown value of PRODUCTS_VARIABLE.
    """
    choice = os.environ.get(PRODUCTS_VARIABLE, MEASURED)
    if choice not in (MEASURED, ONEDNN, MKL, CUBLAS):
        raise ConfigError(f"{PRODUCTS_VARIABLE} is {choice!r}; expected {MEASURED}, {ONEDNN}, {MKL} or {CUBLAS}")
    matrices = [matrix for module in model.modules() if (matrix := _matrix_of(module)) is not None]
    if matrices and has_tensor_cores(matrices[0].device):
        return Libraries() if choice == CUBLAS else _of_tensor_cores(model, matrices[0].device)
    if choice in (ONEDNN, MKL):
        return Libraries(choice)
    if sum(matrix.numel() for matrix in matrices) < WORTH_MEASURING or not has_onednn(matrices[0]):
        return Libraries()
    shapes = frozenset((matrix.shape[0], matrix.shape[1]) for matrix in matrices)
    return _measured_once(shapes, cache_folder() / "products")


def _of_tensor_cores(model: nn.Module, device: torch.device) -> Libraries:
    weights_bytes = sum(4 * weight.numel() for weight in model.parameters() if weight.dtype == torch.float32)
    return Libraries(tensor_cores=True, parts_bytes=bytes_of_parts(device, weights_bytes))


def _matrix_of(module: nn.Module) -> Tensor | None:
    """Return the matrix that a module multiplies by, as it is stored, or None."""
    weight = getattr(module, "weight", None)
    is_matrix = isinstance(weight, Tensor) and weight.ndim == 2 and not isinstance(module, nn.Embedding)
    return weight if is_matrix else None


@lru_cache(maxsize=4)
def _measured_once(shapes: frozenset[tuple[int, int]], folder: Path) -> Libraries:
    """Return the faster libraries for weights stored in these shapes: measured, or read from an earlier file.

    folder: where the measurements of this machine are kept.
    """
    measured_for = {"processor": processor(), "torch": torch.__version__, "shapes": sorted(map(list, shapes))}
    file = folder / f"{sha256_text(json.dumps(measured_for))[:32]}.json"
    try:
        return Libraries(USUAL, frozenset(Kind(*kind) for kind in read_json(file)["mkl"]))
    except (DataError, KeyError, TypeError):
        pass  # never measured, or the file was damaged
    seconds = {kind: measure(kind) for kind in kinds_of(shapes)}
    mkl = sorted(kind for kind, (onednn, mkl) in seconds.items() if mkl <= MARGIN * onednn)
    _log.info("products on this machine, measured once: MKL for %d of %d kinds", len(mkl), len(seconds))
    folder.mkdir(parents=True, exist_ok=True)
    times = {str(kind): list(pair) for kind, pair in seconds.items()}
    write_json(file, {**measured_for, "mkl": [list(kind) for kind in mkl], "seconds_onednn_mkl": times})
    return Libraries(USUAL, frozenset(mkl))


def kinds_of(shapes: Iterable[tuple[int, int]]) -> list[Kind]:
    """Return the kinds of products with weights stored in these shapes and with their transposes."""
    layouts = [((*shape, True), (*shape[::-1], False)) for shape in sorted(shapes)]
    return [Kind(*layout, sums) for pair in layouts for layout in pair for sums in (False, True)]


def processor() -> str:
    """Return the processor's name, if the system has it, and the widest instructions that torch uses."""
    name = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = (line.partition(":") for line in info.read_text(encoding="utf-8", errors="replace").splitlines())
        name = next((value.strip() for key, _, value in lines if key.strip() == "model name"), name)
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"


@torch.no_grad()
def measure(kind: Kind) -> tuple[float, float]:
    """Return the seconds that the same products of a kind take by oneDNN and by MKL: the best of ROUNDS each."""
    large, small = max(kind[:2]), min(kind[:2])
    rows = HEAD_ROWS if large >= HEAD_FROM * small else ROWS
    count = max(1, min(MOST_WEIGHTS, COLD_BYTES // (4 * large * small)))
    shape = kind[:2] if kind.along else (kind.d_in, kind.d_out)
    weights = [torch.ones(shape) if kind.along else torch.ones(shape).T for _ in range(count)]
    inputs, addend = torch.ones(rows, kind.d_in), torch.ones(rows, kind.d_out)

    def seconds(libraries: Libraries) -> float:
        started = time.perf_counter()
        for weight in weights:
            if kind.sums:
                libraries.multiply_and_add(inputs, weight, addend)
            else:
                libraries.multiply(inputs, weight)
        return time.perf_counter() - started

    rounds = [(seconds(Libraries(ONEDNN)), seconds(Libraries(MKL))) for _ in range(ROUNDS)]
    return min(onednn for onednn, _ in rounds), min(mkl for _, mkl in rounds)
