"""Float32 products in three parts of bfloat16, as tensor cores take them."""

from __future__ import annotations

import pytest
import tiny
import torch

from cfbuild.lm import tensor_cores
from cfbuild.lm.libraries import TENSOR_CORES, Libraries
from cfbuild.lm.likelihood import Question, score
from cfbuild.lm.linear import LinearMap
from cfbuild.lm.products import fast_products
from cfbuild.lm.tensor_cores import MEMORY_TO_KEEP, PARTS_SHARE, bytes_of_parts, in_three_parts, parts_of_weight

KEPT, NOT_KEPT = Libraries(tensor_cores=True, parts_bytes=1), Libraries(tensor_cores=True)


def normal(*shape: int) -> torch.Tensor:
    """Return numbers of about one size."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def draw(*shape: int) -> torch.Tensor:
    """Return numbers of many sizes."""
    maker = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, generator=maker) * 10 ** torch.randn(*shape, generator=maker)


def test_three_parts_are_a_product_to_16_bits() -> None:
    inputs, weight, bias = draw(64, 300), draw(43, 300), draw(43)
    exact = inputs.double() @ weight.double().T + bias
    scale = inputs.double().abs() @ weight.double().abs().T + bias.abs()
    made = in_three_parts(inputs, parts_of_weight(weight, bias), 43)
    assert float(((made - exact).abs() / scale).max()) < 2**-15
    alone = inputs.bfloat16().double() @ weight.bfloat16().double().T + bias
    assert float(((alone - exact).abs() / scale).max()) > 2**-10, "one product is not enough"


def test_a_bias_keeps_all_its_bits() -> None:
    weight, bias = torch.zeros(43, 8), draw(43)
    assert torch.equal(in_three_parts(torch.zeros(1, 8), parts_of_weight(weight, bias), 43)[0], bias)


@pytest.mark.parametrize("libraries", (KEPT, NOT_KEPT))
def test_large_products_take_three_parts_and_small_ones_one(
    libraries: Libraries, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WORTH_SPLITTING", "WORTH_SPLITTING_A_WEIGHT"):
        monkeypatch.setattr(tensor_cores, name, 2 * 24 * 40 * 60)
    rows, in_parts = list[int](), tensor_cores.in_three_parts
    monkeypatch.setattr(
        tensor_cores, "in_three_parts", lambda *given: (rows.append(given[0].numel() // 24), in_parts(*given))[1]
    )
    weight, bias = normal(40, 24), normal(40)
    ours, plain = (LinearMap(weight, bias, one) for one in (libraries, Libraries()))
    without, plain_without = (LinearMap(weight, None, one) for one in (libraries, Libraries()))
    for count in (59, 60):
        inputs, addend, gradient = normal(count, 24), normal(count, 40), normal(count, 40)
        total, before = normal(count, 24), rows[:]
        pairs = [
            (ours(inputs), plain(inputs)),
            (ours(inputs[None]), plain(inputs[None])),
            (without.add_to(inputs, addend), plain_without.add_to(inputs, addend)),
            (ours.back(gradient), plain.back(gradient)),
            (ours.back(gradient, total), plain.back(gradient, total)),
        ]
        for mine, expected in pairs:
            torch.testing.assert_close(mine, expected, rtol=1e-4, atol=5e-4)
        assert rows[len(before) :] == ([] if count == 59 else [60, 60, 60, 100, 100])


def test_a_change_of_weight_or_bias_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensor_cores, "WORTH_SPLITTING", 0)
    lm = tiny.make("gpt2")
    lm.__dict__["libraries"] = KEPT
    question = Question(lm.encode("Rome lies in"), (lm.continuation("Germany"),))
    projection = lm.projection(1)
    for tensor in (projection.weight, projection.bias):
        with fast_products(lm, range(len(lm.layers))), torch.no_grad():
            before = score(lm, [question])[0][0].nll_nats
            tensor += torch.randn_like(tensor)
            after = score(lm, [question])[0][0].nll_nats
        assert abs(after - before) > 1e-3
        assert abs(after - score(lm, [question])[0][0].nll_nats) < 1e-5


def test_parts_are_kept_where_the_memory_has_room_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for memory, expected in ((100 * MEMORY_TO_KEEP, 100 * PARTS_SHARE), (100 * MEMORY_TO_KEEP - 1, 0), (None, 0)):
        monkeypatch.setattr(tensor_cores, "total_memory", lambda device, memory=memory: memory)
        assert bytes_of_parts(torch.device("cpu"), 100) == expected
    assert KEPT.signature == NOT_KEPT.signature == {"libraries": TENSOR_CORES}
