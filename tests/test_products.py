"""Matrix products by another library are torch's own, and what batches leave behind is bounded."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import tiny
import torch
from torch import Tensor, nn

from cfbuild.lm import memory, products
from cfbuild.lm.model import LanguageModel

pytestmark = pytest.mark.filterwarnings("ignore:TF32 acceleration")  # of Intel GPUs: torch's switch speaks of them too
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture(params=("onednn", "plain"))
def library(request: pytest.FixtureRequest) -> Iterator[str]:
    """Both ways to a product; where torch has no oneDNN they are one."""
    with torch.backends.mkldnn.flags(enabled=request.param == "onednn"):
        yield request.param


def _draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape) + sum(shape)))


def _ways(rows: int) -> dict[str, Tensor]:
    """[rows, 24] inputs as they come: dense, every other column of a wider one, transposed."""
    return {"dense": _draw(rows, 24), "strided": _draw(rows, 48)[:, ::2], "transposed": _draw(24, rows).T}


@pytest.mark.parametrize("rows", (0, 1, 7))
@pytest.mark.parametrize("way", ("dense", "strided", "transposed"))
@pytest.mark.parametrize("flipped", (False, True))
def test_a_product_is_torchs_whatever_lies_how_in_memory(library: str, rows: int, way: str, flipped: bool) -> None:
    inputs, weight, bias, addend = _ways(rows)[way], _draw(10, 24), _draw(10), _draw(rows, 10)
    weight = weight.T.contiguous().T if flipped else weight
    expected = inputs.double() @ weight.double().T
    torch.testing.assert_close(products.multiply(inputs, weight).double(), expected, **CLOSE)
    torch.testing.assert_close(products.multiply(inputs, weight, bias).double(), expected + bias, **CLOSE)
    torch.testing.assert_close(products.multiply_and_add(inputs, weight, addend).double(), expected + addend, **CLOSE)


def test_what_is_added_is_left_as_it_was(library: str) -> None:
    addend = _draw(7, 10)
    before = addend.clone()
    products.multiply_and_add(_draw(7, 24), _draw(10, 24), addend)
    assert torch.equal(addend, before)


def test_leading_dimensions_stay(library: str) -> None:
    inputs, weight = _draw(2, 3, 24), _draw(10, 24)
    torch.testing.assert_close(products.multiply(inputs, weight), inputs @ weight.T, **CLOSE)


def test_onednn_is_asked_for_float32_on_x86_and_for_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products.platform, "machine", lambda: "x86_64")
    with torch.backends.mkldnn.flags(enabled=True):
        wide = torch.ones(2, 2)
        assert products._onednn_is_faster(wide) == hasattr(torch.ops.mkldnn, "_linear_pointwise")
        assert not products._onednn_is_faster(wide.bfloat16())
        assert not products._onednn_is_faster(wide.to("meta"))
        monkeypatch.setattr(products.platform, "machine", lambda: "aarch64")
        assert not products._onednn_is_faster(wide)
    monkeypatch.setattr(products.platform, "machine", lambda: "x86_64")
    with torch.backends.mkldnn.flags(enabled=False):
        assert not products._onednn_is_faster(wide)


@pytest.fixture(params=("gpt2", "gpt_neox", "llama"))
def lm(request: pytest.FixtureRequest) -> LanguageModel:
    return tiny.make(request.param)


def _logits_and_gradient(lm: LanguageModel) -> tuple[Tensor, Tensor]:
    ids = torch.randint(3, 200, (2, 6), generator=torch.Generator().manual_seed(0))
    embedded = lm.model.get_input_embeddings()(ids).detach().requires_grad_()
    logits = lm.model(inputs_embeds=embedded).logits
    (gradient,) = torch.autograd.grad(logits.square().sum(), embedded)
    return logits.detach(), gradient


def test_fast_products_change_neither_logits_nor_gradients_and_are_undone(lm: LanguageModel, library: str) -> None:
    before = {name: module.__dict__.get("forward") for name, module in lm.model.named_modules()}
    logits, gradient = _logits_and_gradient(lm)
    with products.fast_products(lm, range(len(lm.layers))):
        inside = {name: module.__dict__.get("forward") for name, module in lm.model.named_modules()}
        fast_logits, fast_gradient = _logits_and_gradient(lm)
    assert (inside != before) == products._onednn_is_faster(next(lm.model.parameters()))
    assert (fast_logits - logits).norm() < 1e-5 * logits.norm()
    assert (fast_gradient - gradient).norm() < 1e-4 * gradient.norm()
    assert {name: module.__dict__.get("forward") for name, module in lm.model.named_modules()} == before


def test_narrow_products_are_near_and_begin_where_they_are_told_to(lm: LanguageModel) -> None:
    logits, _ = _logits_and_gradient(lm)
    every = range(len(lm.layers))
    with products.fast_products(lm, every, narrow_from=0):
        narrow = _logits_and_gradient(lm)[0]
    with products.fast_products(lm, every, narrow_from=len(lm.layers)):
        wide = _logits_and_gradient(lm)[0]
    assert (wide - logits).norm() < 1e-5 * logits.norm()
    assert 0 < (narrow - logits).norm() < 0.03 * logits.norm()


def test_the_linear_maps_of_a_layer_are_found_whichever_way_they_are_stored(lm: LanguageModel) -> None:
    for module, weight in products._linear_maps(lm.layers[0]):
        inputs = _draw(3, weight.shape[1])
        expected = nn.functional.linear(inputs, weight, module.bias)
        torch.testing.assert_close(module(inputs), expected, **CLOSE)


def test_kernel_caches_are_bounded_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = memory.KERNEL_CACHES
    monkeypatch.setenv(first, "7")
    monkeypatch.delenv(second, raising=False)
    memory.bound_kernel_caches()
    assert (os.environ[first], os.environ[second]) == ("7", memory.KERNELS)


@pytest.mark.parametrize("missing", (AttributeError, OSError, TypeError))
def test_without_glibc_nothing_is_given_back(monkeypatch: pytest.MonkeyPatch, missing: type[Exception]) -> None:
    def load(name: None) -> None:
        raise missing

    monkeypatch.setattr(memory.ctypes, "CDLL", load)
    memory._malloc_trim.cache_clear()
    try:
        memory.give_back_freed_memory()
        assert memory._malloc_trim() is None
    finally:
        memory._malloc_trim.cache_clear()
