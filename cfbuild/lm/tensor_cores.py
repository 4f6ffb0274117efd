"""Float32 products by a GPU's tensor cores, which multiply a narrower format some fifteen times as fast.

A float32 number is about the sum of two in bfloat16, which has its exponent and 8 of its 24 bits: a head, and the
nearest to the rest. Of the four products of heads and rests, that of the rests is lost in rounding anyway. The other
three are one product with three times as many columns: (rest, head, head) by (head, rest, head) of the weight. Numbers
are right to about 16 bits and sums are float32's, in all some 5e-6 of a product; TF32 alone is off by 3e-4.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from cfbuild.lm.gpu_kernels import gpu_kernels
from cfbuild.lm.room import total_memory

FIRST_WITH_BFLOAT16 = (8, 0)
"""The first compute capability of NVIDIA's GPUs whose tensor cores multiply bfloat16."""
WORTH_SPLITTING, WORTH_SPLITTING_A_WEIGHT = 3e8, 1e10
"""Operations of a product from which on the three take less time, on an H100: for fewer, starting the kernels that
split its inputs takes as long as the product; and of one for which the weight is split as well."""
ALIGNED, BIAS_PARTS = 8, 3
"""The number by which a product's sides should be divisible: kernels for others take several times as long. Numbers of
bfloat16 whose sum is a bias, to the last bit."""
PARTS_SHARE = 3
"""The memory of a weight's parts as a multiple of the weight's: three numbers of half the size for each of its, and as
many of its transpose, for gradients."""
MEMORY_TO_KEEP = 6
"""The device's memory as a multiple of the model's weights from which on parts are kept while a context is open. With
less, they are made for each product."""


def has_tensor_cores(device: torch.device) -> bool:
    """Return whether the device is a GPU of NVIDIA's that multiplies bfloat16 into sums of float32."""
    is_nvidia = device.type == "cuda" and torch.version.hip is None
    return is_nvidia and torch.cuda.get_device_capability(device) >= FIRST_WITH_BFLOAT16


def bytes_of_parts(device: torch.device, weights_bytes: int) -> int:
    """Return what the parts of all weights take, or 0 if the device's whole memory has no room to keep them.

    weights_bytes: of a model's weights in float32.
    """
    memory = total_memory(device)
    return PARTS_SHARE * weights_bytes if memory is not None and memory >= MEMORY_TO_KEEP * weights_bytes else 0


class SplitMap:
    """A frozen linear map in float32 whose large products are computed in three parts.

    weight: [d_out, d_in]. keeps_parts: whether the weight's parts are kept once they are made.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, keeps_parts: bool) -> None:
        self._weight, self._bias, self._keeps_parts = weight, bias, keeps_parts

    def pays(self, inputs: Tensor) -> bool:
        """Return whether a product of the inputs, either way, is large enough to gain."""
        operations = 2 * self._weight.numel() * (inputs.numel() // max(1, inputs.shape[-1]))
        return operations >= (WORTH_SPLITTING if self._keeps_parts else WORTH_SPLITTING_A_WEIGHT)

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return inputs W^T + bias: [..., d_in] -> [..., d_out]."""
        parts = self._parts if self._keeps_parts else parts_of_weight(self._weight, self._bias)
        return in_three_parts(inputs, parts, len(self._weight))

    def back(self, gradient: Tensor) -> Tensor:
        """Return gradient W: [..., d_out] -> [..., d_in]."""
        parts = self._parts_of_transpose if self._keeps_parts else parts_of_weight(self._weight.T)
        return in_three_parts(gradient, parts, self._weight.shape[1])

    @cached_property
    def _parts(self) -> Tensor:
        return parts_of_weight(self._weight, self._bias)

    @cached_property
    def _parts_of_transpose(self) -> Tensor:
        return parts_of_weight(self._weight.T)


def parts_of_weight(weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return (head, rest, head) of each row of a weight, then its bias as three numbers that sum up to it, if any.

    [d_out, d_in] float32 -> [d_out filled up, 3 d_in + 3 filled up], bfloat16; what fills up is zero.
    """
    d_out, d_in = weight.shape
    parts = weight.new_zeros(_aligned(d_out), _aligned(3 * d_in + BIAS_PARTS), dtype=torch.bfloat16)
    head, rest, again = parts[:d_out, : 3 * d_in].view(d_out, 3, d_in).unbind(1)
    head.copy_(weight)
    again.copy_(head)
    torch.sub(weight, head, out=rest)
    if bias is not None:
        for column in range(3 * d_in, 3 * d_in + BIAS_PARTS):
            parts[:d_out, column] = bias
            bias = bias - parts[:d_out, column]
    return parts


def _aligned(count: int) -> int:
    return -(-count // ALIGNED) * ALIGNED


@torch.no_grad()
def in_three_parts(inputs: Tensor, parts: Tensor, d_out: int) -> Tensor:
    """Return the product of inputs and the weight, and bias, of which there are `parts`.

    [..., d_in], [d_out filled up, 3 d_in + 3 filled up] -> [..., d_out].
    """
    width = inputs.shape[-1]
    flat = inputs.reshape(-1, width)
    sides = flat.new_empty(len(flat), parts.shape[1], dtype=torch.bfloat16)
    sides[:, 3 * width :] = 1  # by which the bias is multiplied
    kernels = gpu_kernels(flat.device)
    if kernels is not None and flat.stride(1) == 1:
        kernels.split_rows(flat, sides)
    else:
        rest_and_heads = sides[:, : 3 * width].view(len(flat), 3, width)
        rest_and_heads[:, 1:] = flat[:, None]
        torch.sub(flat, rest_and_heads[:, 1], out=rest_and_heads[:, 0])
    outputs = into_float32(sides, parts.T)[:, :d_out]
    return outputs if inputs.ndim == 2 else outputs.reshape(*inputs.shape[:-1], d_out)


def into_float32(left: Tensor, right: Tensor) -> Tensor:
    """Return the product of `left` [n, k] and `right` [k, m], in bfloat16, with sums in float32: [n, m]."""
    if left.device.type == "cuda":
        return torch.mm(left, right, out_dtype=torch.float32)
    return left.float() @ right.float()
