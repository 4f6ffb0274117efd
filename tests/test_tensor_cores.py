"""Float32 products in three parts, as tensor cores take them."""

from __future__ import annotations

import pytest
import torch

from cfbuild.lm import libraries
from cfbuild.lm.libraries import TENSOR_CORES, Libraries
from cfbuild.lm.tensor_cores import BITS_OF_REST, split


def as_tf32(numbers: torch.Tensor) -> torch.Tensor:
    """Return the numbers as tensor cores read them: without the bits that TF32 has no room for."""
    return (numbers.view(torch.int32) & -(1 << BITS_OF_REST)).view(torch.float32)


def test_three_products_of_heads_and_rests_are_a_product_to_21_bits() -> None:
    draw = torch.Generator().manual_seed(0)
    left, right = (torch.randn(64, 300, generator=draw) * 10 ** torch.randn(64, 300, generator=draw) for _ in range(2))
    parts = [tuple(as_tf32(part).double() for part in split(side)) for side in (left, right)]
    (head, rest), (other_head, other_rest) = parts
    product = head @ other_head.T + head @ other_rest.T + rest @ other_head.T
    exact = left.double() @ right.double().T
    scale = left.double().abs() @ right.double().abs().T
    assert float(((product - exact).abs() / scale).max()) < 2**-21
    assert float(((head @ other_head.T - exact).abs() / scale).max()) > 2**-14, "one product alone is not enough"
    assert all(torch.equal(sum(split(side)), side) for side in (left, right))


def test_large_products_take_three_parts_and_small_ones_one(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = torch.Generator().manual_seed(0)
    three, plain, split_up = Libraries(tensor_cores=True), Libraries(), list[int]()
    monkeypatch.setattr(libraries, "OPERATIONS_WORTH_SPLITTING", 2 * 24 * 40 * 60)
    by_tensor_cores = libraries.by_tensor_cores
    monkeypatch.setattr(
        libraries, "by_tensor_cores", lambda *given: (split_up.append(len(given[0])), by_tensor_cores(*given))[1]
    )
    weight, bias = torch.randn(40, 24, generator=draw), torch.randn(40, generator=draw)
    for rows in (59, 60):
        inputs, addend = torch.randn(rows, 24, generator=draw), torch.randn(rows, 40, generator=draw)
        pairs = [
            (three.multiply(inputs, weight, bias), plain.multiply(inputs, weight, bias)),
            (three.multiply(inputs[None], weight), plain.multiply(inputs[None], weight)),
            (three.multiply_and_add(inputs, weight, addend), plain.multiply_and_add(inputs, weight, addend)),
        ]
        for ours, expected in pairs:
            torch.testing.assert_close(ours, expected)
    assert split_up == [60, 60, 60]
    assert three.signature == {"libraries": TENSOR_CORES}
    assert torch.backends.cuda.matmul.fp32_precision != "tf32", "what the process has chosen is restored"
