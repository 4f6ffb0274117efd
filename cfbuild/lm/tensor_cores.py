"""Float32 products by a GPU's tensor cores, which multiply a narrower format several times as fast.

A number is the sum of two in TF32, which has float32's exponent and 11 of its 24 bits: its head, and what is left of
it. Of the four products of heads and rests that of the rests is beyond rounding, so three make a product whose numbers
are right to about 21 bits, and sums are float32's. NVIDIA calls it 3xTF32.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

FIRST_WITH_TF32 = (8, 0)
"""The first compute capability whose tensor cores know TF32."""
OPERATIONS_WORTH_SPLITTING = 3e9
"""Operations of a product from which on three products and their splits take less time than it: on an H200, where
starting their kernels takes 60 us, and a product of so many operations as long."""
BITS_OF_REST = 13
"""Bits of a float32 that TF32 has no room for."""


def has_tensor_cores(device: torch.device) -> bool:
    """Return True for a GPU of NVIDIA's that multiplies TF32."""
    is_nvidia = device.type == "cuda" and torch.version.hip is None
    return is_nvidia and torch.cuda.get_device_capability(device) >= FIRST_WITH_TF32


def by_tensor_cores(inputs: Tensor, weight: Tensor, addend: Tensor | None = None) -> Tensor:
    """Return inputs W^T, plus what is added: [T, d_in], [d_out, d_in], [T, d_out] or [d_out] -> [T, d_out].

    All are float32 on a GPU that `has_tensor_cores`; there are no gradients. The small products are summed first.
    """
    head, rest = split(inputs)
    weight_head, weight_rest = split(weight)
    with _narrow_products():
        total = rest @ weight_head.T if addend is None else torch.addmm(addend, rest, weight_head.T)
        return total.addmm_(head, weight_rest.T).addmm_(head, weight_head.T)


def split(numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Return two tensors whose sum is float32 `numbers`: the nearest numbers of TF32, and what is left of each."""
    rounded = numbers.view(torch.int32) + (1 << (BITS_OF_REST - 1))
    head = rounded.bitwise_and_(-(1 << BITS_OF_REST)).view(torch.float32)
    return head, numbers - head


@contextmanager
def _narrow_products() -> Iterator[None]:
    """Let products of float32 take TF32 while open, whatever the process has chosen."""
    products = torch.backends.cuda.matmul
    before = products.fp32_precision
    products.fp32_precision = "tf32"
    try:
        yield
    finally:
        products.fp32_precision = before
