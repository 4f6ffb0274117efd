"""Matrix products by another library are torch's own, and what batches leave behind is bounded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest
import tiny
import torch
from torch import Tensor, nn

from cfbuild.errors import ConfigError
from cfbuild.lm import libraries, memory, products
from cfbuild.lm.libraries import (
    MEASURED,
    MKL,
    ONEDNN,
    PRODUCTS_VARIABLE,
    Kind,
    Libraries,
    has_onednn,
    kinds_of,
    libraries_for,
)
from cfbuild.lm.model import LanguageModel

pytestmark = pytest.mark.filterwarnings("ignore:TF32 acceleration")  # of Intel GPUs: torch's switch speaks of them too
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture(params=("onednn", "mkl", "none"))
def chosen(request: pytest.FixtureRequest) -> Iterator[Libraries]:
    """Both libraries, and a torch that is told to go without oneDNN; where there is only one, they are the same."""
    with torch.backends.mkldnn.flags(enabled=request.param != "none"):
        yield Libraries() if request.param == "none" else Libraries(request.param)


def _draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape) + sum(shape)))


def _ways(rows: int) -> dict[str, Tensor]:
    """[rows, 24] inputs as they come: dense, every other column of a wider one, transposed."""
    return {"dense": _draw(rows, 24), "strided": _draw(rows, 48)[:, ::2], "transposed": _draw(24, rows).T}


@pytest.mark.parametrize("rows", (0, 1, 7))
@pytest.mark.parametrize("way", ("dense", "strided", "transposed"))
@pytest.mark.parametrize("flipped", (False, True))
def test_a_product_is_torchs_whatever_lies_how_in_memory(chosen: Libraries, rows: int, way: str, flipped: bool) -> None:
    inputs, weight, bias, addend = _ways(rows)[way], _draw(10, 24), _draw(10), _draw(rows, 10)
    weight = weight.T.contiguous().T if flipped else weight
    expected = inputs.double() @ weight.double().T
    torch.testing.assert_close(chosen.multiply(inputs, weight).double(), expected, **CLOSE)
    torch.testing.assert_close(chosen.multiply(inputs, weight, bias).double(), expected + bias, **CLOSE)
    torch.testing.assert_close(chosen.multiply_and_add(inputs, weight, addend).double(), expected + addend, **CLOSE)


def test_what_is_added_is_left_as_it_was(chosen: Libraries) -> None:
    addend = _draw(7, 10)
    before = addend.clone()
    chosen.multiply_and_add(_draw(7, 24), _draw(10, 24), addend)
    assert torch.equal(addend, before)


def test_leading_dimensions_stay(chosen: Libraries) -> None:
    inputs, weight = _draw(2, 3, 24), _draw(10, 24)
    torch.testing.assert_close(chosen.multiply(inputs, weight), inputs @ weight.T, **CLOSE)


def test_onednn_is_asked_for_float32_on_x86_and_for_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries.platform, "machine", lambda: "x86_64")
    with torch.backends.mkldnn.flags(enabled=True):
        wide = torch.ones(2, 2)
        assert has_onednn(wide) == hasattr(torch.ops.mkldnn, "_linear_pointwise")
        assert not has_onednn(wide.bfloat16())
        assert not has_onednn(wide.to("meta"))
        monkeypatch.setattr(libraries.platform, "machine", lambda: "aarch64")
        assert not has_onednn(wide)
    monkeypatch.setattr(libraries.platform, "machine", lambda: "x86_64")
    with torch.backends.mkldnn.flags(enabled=False):
        assert not has_onednn(wide)


# ------------------------------------------------------------------------------------------ which library computes what


ACROSS, ALONG = Kind(24, 10, along=False, sums=False), Kind(10, 24, along=True, sums=True)


@pytest.mark.skipif(not has_onednn(torch.ones(2, 2)), reason="torch has one library for float32 here")
@pytest.mark.parametrize("usual", (ONEDNN, MKL))
def test_each_kind_goes_to_its_library(usual: str, monkeypatch: pytest.MonkeyPatch) -> None:
    products = {name: Mock(wraps=getattr(libraries, name)) for name in ("by_onednn", "into_sum_by_onednn")}
    for name, product in products.items():
        monkeypatch.setattr(libraries, name, product)
    choice, stored = Libraries(usual, frozenset({ACROSS, ALONG})), _draw(10, 24)
    products_of = {
        (True, False): lambda: choice.multiply(_draw(5, 24), stored),
        (True, True): lambda: choice.multiply_and_add(_draw(5, 24), stored, _draw(5, 10)),
        (False, False): lambda: choice.multiply(_draw(5, 10), stored.T),
        (False, True): lambda: choice.multiply_and_add(_draw(5, 10), stored.T, _draw(5, 24)),
    }
    takes_onednn = {}
    for (along, sums), product in products_of.items():
        before = sum(one.call_count for one in products.values())
        product()
        takes_onednn[along, sums] = sum(one.call_count for one in products.values()) > before
    others = {(False, False), (True, True)}
    assert takes_onednn == {ways: (ways in others) != (usual == ONEDNN) for ways in products_of}


class _Sized(nn.Module):
    """As many weights as are worth measuring, without their numbers' cost: one matrix, and an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(7, 3)
        self.map = nn.Linear(24, 10, bias=False)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[Kind]]:
    """Yield the kinds that are measured, in a cache of its own: MKL takes half of oneDNN's time for gradients."""
    kinds: list[Kind] = []

    def measure(kind: Kind) -> tuple[float, float]:
        kinds.append(kind)
        return 1.0, 1.0 if kind.along else 0.5

    monkeypatch.setenv("CFBUILD_CACHE", str(tmp_path))
    monkeypatch.delenv(PRODUCTS_VARIABLE, raising=False)
    monkeypatch.setattr(libraries, "measure", measure)
    monkeypatch.setattr(libraries, "WORTH_MEASURING", 240)
    libraries._measured_once.cache_clear()
    yield kinds
    libraries._measured_once.cache_clear()


@pytest.mark.skipif(not has_onednn(torch.ones(2, 2)), reason="torch has one library for float32 here")
def test_the_faster_library_is_measured_once_a_machine_and_kept(measured: list[Kind], tmp_path: Path) -> None:
    gradients = frozenset({ACROSS, ACROSS._replace(sums=True)})
    assert libraries_for(_Sized()) == libraries_for(_Sized()) == Libraries(ONEDNN, gradients)
    assert measured == kinds_of([(10, 24)]) and "2 kinds" in libraries_for(_Sized()).signature["libraries"]
    libraries._measured_once.cache_clear()  # another process
    assert libraries_for(_Sized()).others == gradients and len(measured) == 4
    (file,) = (tmp_path / "products").iterdir()
    file.write_text('{"mkl": 3', encoding="utf-8")
    libraries._measured_once.cache_clear()
    assert libraries_for(_Sized()).others == gradients and len(measured) == 8, "a damaged file is measured again"


def test_a_setting_or_a_small_model_takes_no_measuring(measured: list[Kind], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (ONEDNN, MKL):
        monkeypatch.setenv(PRODUCTS_VARIABLE, name)
        assert libraries_for(_Sized()) == Libraries(name)
        assert Libraries(name).signature == ({"libraries": MKL} if name == MKL else {})
    monkeypatch.setenv(PRODUCTS_VARIABLE, "fastest")
    with pytest.raises(ConfigError, match="expected measured, onednn, mkl or cublas"):
        libraries_for(_Sized())
    monkeypatch.setenv(PRODUCTS_VARIABLE, MEASURED)
    monkeypatch.setattr(libraries, "WORTH_MEASURING", 241)
    assert libraries_for(_Sized()) == Libraries() and measured == []


def test_a_measurement_is_of_both_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "ROUNDS", 1)
    for kind in kinds_of([(10, 24)]):
        onednn, mkl = libraries.measure(kind)
        assert 0 < onednn < 1 and 0 < mkl < 1


@pytest.fixture(params=("gpt2", "gpt_neox", "llama"))
def lm(request: pytest.FixtureRequest) -> LanguageModel:
    return tiny.make(request.param)


def _logits_and_gradient(lm: LanguageModel) -> tuple[Tensor, Tensor]:
    ids = torch.randint(3, 200, (2, 6), generator=torch.Generator().manual_seed(0))
    embedded = lm.model.get_input_embeddings()(ids).detach().requires_grad_()
    logits = lm.model(inputs_embeds=embedded).logits
    (gradient,) = torch.autograd.grad(logits.square().sum(), embedded)
    return logits.detach(), gradient


def test_fast_products_change_neither_logits_nor_gradients_and_are_undone(
    lm: LanguageModel, chosen: Libraries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(lm.__dict__, "libraries", chosen)
    before = {name: module.__dict__.get("forward") for name, module in lm.model.named_modules()}
    logits, gradient = _logits_and_gradient(lm)
    with products.fast_products(lm, range(len(lm.layers))):
        inside = {name: module.__dict__.get("forward") for name, module in lm.model.named_modules()}
        fast_logits, fast_gradient = _logits_and_gradient(lm)
    assert (inside != before) == has_onednn(next(lm.model.parameters()))
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


def test_freed_memory_is_kept_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []
    monkeypatch.setattr(memory, "_of_c_library", lambda name: lambda *option: calls.append(option))
    for name in memory.MALLOC_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    memory.keep_freed_memory()
    assert dict(calls) == {memory.M_TRIM_THRESHOLD: memory.KEPT_BYTES, memory.M_MMAP_THRESHOLD: memory.KEPT_BLOCK_BYTES}
    monkeypatch.setenv(memory.MALLOC_VARIABLES[0], "glibc.malloc.trim_threshold=1")
    memory.keep_freed_memory()
    assert len(calls) == 2


@pytest.mark.parametrize("missing", (AttributeError, OSError, TypeError))
def test_without_glibc_nothing_is_given_back_or_kept(monkeypatch: pytest.MonkeyPatch, missing: type[Exception]) -> None:
    def load(name: None) -> None:
        raise missing

    monkeypatch.setattr(memory.ctypes, "CDLL", load)
    memory._of_c_library.cache_clear()
    try:
        memory.give_back_freed_memory()
        memory.keep_freed_memory()
        assert memory._of_c_library("malloc_trim") is None
    finally:
        memory._of_c_library.cache_clear()
