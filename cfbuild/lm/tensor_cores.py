"""Float32 products by a GPU's tensor cores, which multiply a narrower format several times as fast.

A float32 number is about the sum of two in TF32, which has its exponent and 11 of its 24 bits: a head, and the rest. Of
the four products of heads and rests, that of the rests is lost in rounding anyway, so three are enough: they are right
to about 21 bits, and sums are float32's. NVIDIA calls this 3xTF32.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

FIRST_WITH_TF32 = (8, 0)
"""The first compute capability of NVIDIA's GPUs whose tensor cores multiply TF32."""
OPERATIONS_WORTH_SPLITTING = 3e9
"""Operations of a product from which on three products take less time: on an H200 a product of so many takes 60 us, as
long as starting the kernels of the three."""
BITS_OF_REST = 13
"""Bits of a float32 that TF32 does not have."""


def has_tensor_cores(device: torch.device) -> bool:
    """Return whether the device is a GPU of NVIDIA's that multiplies TF32."""
    is_nvidia = device.type == "cuda" and torch.version.hip is None
    return is_nvidia and torch.cuda.get_device_capability(device) >= FIRST_WITH_TF32


def by_tensor_cores(inputs: Tensor, weight: Tensor, addend: Tensor | None = None) -> Tensor:
    """Return inputs W^T + addend: [T, d_in], [d_out, d_in], [T, d_out] or [d_out] -> [T, d_out].

    All are float32 on a GPU that `has_tensor_cores`; there are no gradients. The small products are summed first.
    """
    head, rest = split(inputs)
    weight_head, weight_rest = split(weight)
    with _narrow_products():
        total = rest @ weight_head.T if addend is None else torch.addmm(addend, rest, weight_head.T)
        return total.addmm_(head, weight_rest.T).addmm_(head, weight_head.T)


def split(numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Return two tensors whose sum is `numbers` (float32): the nearest numbers of TF32, and the rest of each."""
    rounded = numbers.view(torch.int32) + (1 << (BITS_OF_REST - 1))
    head = rounded.bitwise_and_(-(1 << BITS_OF_REST)).view(torch.float32)
    return head, numbers - head


@contextmanager
def _narrow_products() -> Iterator[None]:
    """Multiply float32 as TF32 while open, whatever the process has chosen."""
    products = torch.backends.cuda.matmul
    before = products.fp32_precision
    products.fp32_precision = "tf32"
    try:
        yield
    finally:
        products.fp32_precision = before
