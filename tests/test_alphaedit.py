"""AlphaEdit against the released equation solved plainly in float64, on tiny random models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from test_memit import CONTEXTS, REQUESTS, covariance, plain_keys_and_outputs
from torch import Tensor

from cfbuild.edit.alphaedit import AlphaEdit, AlphaEditOptions
from cfbuild.edit.covariance import Covariance
from cfbuild.errors import ConfigError
from cfbuild.lm.delta import applied
from cfbuild.lm.model import LanguageModel, Weight

FAMILIES = ("gpt2", "llama")
pytestmark = pytest.mark.usefixtures("cache")


def projection(cov: Covariance, options: AlphaEditOptions) -> Tensor:
    """P [d_in, d_in] as the released code makes it: from left singular vectors of C."""
    assert cov.factor is not None and options.nullspace_threshold is not None
    left, values, _ = torch.linalg.svd(cov.factor @ cov.factor.T)
    kept = left[:, values < options.nullspace_threshold]
    assert 0 < kept.shape[1] < len(left)
    return kept @ kept.T


def options_and_covariances(lm: LanguageModel, layers: int = 2) -> tuple[AlphaEditOptions, dict[int, Covariance]]:
    options = AlphaEditOptions(
        layer=2, layers=layers, contexts=CONTEXTS, steps=3, l2=0.5, nullspace_threshold=2.0, learning_rate=0.1
    )
    return options, {layer: covariance(lm.key_width(layer), layer + 1) for layer in options.changed}


@pytest.mark.parametrize("family", FAMILIES)
def test_two_batches_are_the_released_equation_with_the_earlier_keys(family: str) -> None:
    lm = tiny.make(family)
    before = tiny.digest(lm)
    options, covariances = options_and_covariances(lm)
    editor = AlphaEdit(lm, options, covariances)
    generator = torch.Generator().manual_seed(5)
    earlier = {layer: torch.zeros(lm.key_width(layer), lm.key_width(layer)).double() for layer in options.changed}
    state: dict[str, Tensor] = {}
    for batch in (1, 2):
        values = torch.randn(len(REQUESTS), lm.value_width(2), generator=generator)
        keys_seen: dict[int, Tensor] = {}

        def solve(layer: int, keys: Tensor, known: Any = state, seen: dict[int, Tensor] = keys_seen) -> Tensor:
            seen[layer] = keys
            return editor.directions(layer, keys, known.get(f"keys/{layer}"))

        delta = editor._memit.spread(REQUESTS, values, solve)
        with torch.no_grad():
            for shares, layer in ((2, 1), (1, 2)):  # the residual's shares, bottom first
                keys, outputs = (tensor.double() for tensor in plain_keys_and_outputs(lm, options, layer))
                projected = projection(covariances[layer], options)
                inner = projected @ (keys.T @ keys + earlier[layer]) + options.l2 * torch.eye(len(projected)).double()
                residuals = (values.double() - outputs) / shares
                expected = torch.linalg.solve(inner, projected @ keys.T @ residuals).T
                found = delta.changes[Weight(layer)].matrix().double()
                assert float((found - expected).norm() / expected.norm()) < 1e-4, (batch, layer)
                if batch == 1:
                    earlier[layer] = keys.T @ keys
                matrix = expected.float()
                lm.projection(layer).weight += matrix.T if lm.family.projection_is_transposed else matrix
        state = {f"keys/{layer}": keys for layer, keys in keys_seen.items()}
        restore(lm, before)


def restore(lm: LanguageModel, before: dict[str, bytes]) -> None:
    for name, parameter in lm.model.state_dict().items():
        parameter.copy_(torch.frombuffer(bytearray(before[name]), dtype=parameter.dtype).view(parameter.shape))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_update_spares_the_directions_that_keys_in_general_have(family: str) -> None:
    lm = tiny.make(family)
    before = tiny.digest(lm)
    options, covariances = options_and_covariances(lm)
    (edit,) = AlphaEdit(lm, options, covariances).edit(REQUESTS)
    assert edit.records == (0, 1, 2) and edit.delta is not None and tiny.digest(lm) == before
    for layer, cov in covariances.items():
        assert cov.factor is not None
        values, vectors = torch.linalg.eigh(cov.factor @ cov.factor.T)
        strong, weak = vectors[:, values >= 2.0].float(), vectors[:, values < 2.0].float()
        matrix = edit.delta.changes[Weight(layer)].matrix()
        assert float((matrix @ strong).norm()) < 1e-5 * float((matrix @ weak).norm())


def test_without_a_covariance_nothing_is_protected() -> None:
    lm = tiny.make("gpt2")
    options, _ = options_and_covariances(lm)
    keys = torch.randn(3, lm.key_width(2), generator=torch.Generator().manual_seed(1))
    expected = torch.linalg.solve(keys.T @ keys + 0.5 * torch.eye(keys.shape[1]), keys.T).T
    assert torch.allclose(AlphaEdit(lm, options, {2: None}).directions(2, keys), expected, atol=1e-5)


def test_keys_of_all_batches_are_kept_and_no_more_than_fill_a_square() -> None:
    lm = tiny.make("llama")
    options, covariances = options_and_covariances(lm)
    editor = AlphaEdit(lm, options, covariances)
    (first,), state = editor.edit_after({}, REQUESTS)
    assert first.delta is not None and {name: keys.shape[0] for name, keys in state.items()} == {
        "keys/1": 3,
        "keys/2": 3,
    }
    with applied(lm, first.delta), torch.no_grad():
        for layer in options.changed:  # those of the model after the update, as the released code computes them
            keys, _ = plain_keys_and_outputs(lm, options, layer)
            assert torch.allclose(state[f"keys/{layer}"], keys, atol=1e-4)
    (again,), longer = editor.edit_after(state, REQUESTS)
    assert torch.allclose(longer["keys/1"], torch.cat((state["keys/1"], state["keys/1"])), atol=1e-5)
    assert len(state["keys/1"]) == 3  # a state is a value: the batch after it leaves it as it was
    assert again.delta is not None and again.delta.norm < first.delta.norm  # what is known there already holds still
    many = {name: keys.repeat(30, 1) for name, keys in state.items()}
    _, folded = editor.edit_after(many, REQUESTS)
    assert folded["keys/1"].shape == (64, 64)
    expected = 31 * state["keys/1"].T @ state["keys/1"]
    assert torch.allclose(folded["keys/1"].T @ folded["keys/1"], expected, rtol=1e-4, atol=1e-3)


def test_the_directions_are_a_share_of_all_or_those_below_a_threshold(cache: Path) -> None:
    lm = tiny.make("gpt2")
    options, covariances = options_and_covariances(lm, layers=1)
    shared = AlphaEdit(lm, AlphaEditOptions(layer=2, layers=1, nullspace_share=0.25), covariances)
    basis = shared._bases[2]
    assert basis is not None and basis.shape == (lm.key_width(2), lm.key_width(2) // 4)
    assert len([*cache.glob("eigenvectors/*/basis.npz")]) == 1
    AlphaEdit(lm, options, covariances)
    assert len([*cache.glob("eigenvectors/*/basis.npz")]) == 1  # of one C they are found once
    with pytest.raises(ConfigError, match=r"no singular value of C is below 0\.01: the least is"):
        AlphaEdit(lm, AlphaEditOptions(layer=2, layers=1, nullspace_threshold=0.01), covariances)
    with pytest.raises(ConfigError, match="l2 is 0; expected more than 0"):
        AlphaEditOptions(layer=2, l2=0)
