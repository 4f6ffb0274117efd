"""Kernels for NVIDIA's GPUs, in Triton, which torch brings along for them: what torch does in several passes, in one.

Triton compiles a kernel when it is first called, for which it needs a C compiler; `gpu_kernels.py` tries it.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

COLUMNS = 1024
"""Numbers of a row that a program of `_split` takes."""
NUMBERS = 2048
"""Numbers of keys that a program of `_attend` takes at a time: some 16 a thread."""
LOWEST: tl.constexpr = tl.constexpr(-1e30)
"""A number of a mask below this hides a key. float16's lowest is above: such keys are read, and count for nothing."""


def split_rows(numbers: Tensor, target: Tensor) -> None:
    """Write (rest, head, head) of each row of float32 `numbers` [T, d] into bfloat16 `target` [T, 3 d and more]."""
    rows, width = numbers.shape
    grid = (rows, triton.cdiv(width, COLUMNS))
    with torch.cuda.device_of(numbers):  # type: ignore[no-untyped-call] # Triton starts kernels on the current device
        _split[grid](numbers, target, width, numbers.stride(0), target.stride(0), COLUMNS=COLUMNS)


@triton.jit  # type: ignore[untyped-decorator]
def _split(numbers, target, width, row_stride, target_stride, COLUMNS: tl.constexpr):  # type: ignore[no-untyped-def]
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < width
    number = tl.load(numbers + row * row_stride + column, mask=inside)
    head = number.to(tl.bfloat16)
    rest = (number - head.to(tl.float32)).to(tl.bfloat16)
    place = target + row * target_stride + column
    tl.store(place, rest, mask=inside)
    tl.store(place + width, head, mask=inside)
    tl.store(place + 2 * width, head, mask=inside)


def attend_from_one(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor, scaling: float) -> Tensor:
    """Return the attention of one token a row, [R, H, 1, d].

    query: [R, H, 1, d]. keys, values: [R, H, seen, d], contiguous. mask: [R or 1, 1, 1, seen], is added; blocks of keys
    that it hides are not read. scaling: of logits, before the mask. Sums are float32's.
    """
    rows, heads, seen, size = keys.shape
    output, mask_stride = query.new_empty(rows, heads, 1, size), mask.stride(0) if len(mask) > 1 else 0
    tensors, width = (query.reshape(-1, size).contiguous(), keys, values, mask, output), triton.next_power_of_2(size)
    with torch.cuda.device_of(query):  # type: ignore[no-untyped-call]
        _attend[(rows, heads)](*tensors, mask_stride, seen, size, scaling, WIDTH=width, BLOCK=max(16, NUMBERS // width))
    return output


@triton.jit  # type: ignore[untyped-decorator]
def _attend(  # type: ignore[no-untyped-def]
    query, keys, values, mask, output, mask_stride, seen, size, scaling, WIDTH: tl.constexpr, BLOCK: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    head = row * tl.num_programs(1) + tl.program_id(1)
    column = tl.arange(0, WIDTH)
    inside = column < size
    scaled = tl.load(query + head * size + column, mask=inside, other=0).to(tl.float32) * scaling
    most, norm, total = -float("inf"), 0.0, tl.zeros([WIDTH], tl.float32)
    for start in range(0, seen, BLOCK):
        place = start + tl.arange(0, BLOCK)
        hidden = tl.load(mask + row * mask_stride + place, mask=place < seen, other=-float("inf")).to(tl.float32)
        if tl.max(hidden) > LOWEST:
            number = (head * seen + place[:, None]) * size + column[None, :]
            both = (place < seen)[:, None] & inside[None, :]
            block = tl.load(keys + number, mask=both, other=0).to(tl.float32)
            logits = tl.sum(block * scaled[None, :], axis=1) + hidden
            higher = tl.maximum(most, tl.max(logits))
            weights, shrunk = tl.exp(logits - higher), tl.exp(most - higher)
            block = tl.load(values + number, mask=both, other=0).to(tl.float32)
            total = total * shrunk + tl.sum(block * weights[:, None], axis=0)
            norm, most = norm * shrunk + tl.sum(weights), higher
    tl.store(output + head * size + column, total / norm, mask=inside)
