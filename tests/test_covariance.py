"""The second moment of keys: its numbers, its cache, the files it reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from cfbuild.edit.corpus import Corpus
from cfbuild.edit.covariance import FEWEST_PER_NUMBER, factorise, key_covariances, load_covariance, second_moments
from cfbuild.errors import EditError, ModelError
from cfbuild.lm.batch import Batch, right_padded
from cfbuild.lm.batching import TOKENS_PER_BATCH
from cfbuild.lm.model import Ids, LanguageModel
from cfbuild.lm.notices import log_once

TEXTS = [f"The capital city of France is Paris, number {number} of all." for number in range(40)] + ["x" * 700]
LAYER = 1


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return tiny.make("gptj")


def plain_moment(lm: LanguageModel, texts: list[str], tokens: int) -> torch.Tensor:
    keys: list[torch.Tensor] = []
    handle = lm.projection(LAYER).register_forward_pre_hook(lambda _, args: keys.append(args[0][0]))
    for text in texts:
        lm.model(torch.tensor([lm.encode(text)]))
    handle.remove()
    first = torch.cat(keys)[:tokens].double()
    return first.T @ first / len(first)


def test_the_second_moment_is_the_mean_outer_product_of_the_keys_of_the_first_tokens(lm: LanguageModel) -> None:
    moments, count = second_moments(lm, [LAYER], TEXTS[:40], 500)
    assert count == 500
    assert torch.allclose(moments[LAYER], plain_moment(lm, TEXTS[:40], 500), rtol=1e-4, atol=1e-6)


def test_long_texts_are_cut_and_short_corpora_are_used_up(lm: LanguageModel) -> None:
    seen: list[tuple[int, int | None]] = []
    _, count = second_moments(lm, [LAYER], TEXTS, 10**6, lambda task, done, total: seen.append((done, total)))
    assert count == sum(len(lm.encode(text)) for text in TEXTS)
    assert seen[-1] == (count, count)


@pytest.mark.usefixtures("cache")
def test_rows_of_like_width_share_a_pass(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[list[int]] = []

    def noted(rows: Sequence[Ids], lm: LanguageModel) -> tuple[Batch, torch.Tensor]:
        passes.append([len(row) for row in rows])
        return right_padded(rows, lm)

    monkeypatch.setitem(TOKENS_PER_BATCH, "cpu", 64)
    monkeypatch.setattr("cfbuild.edit.covariance.right_padded", noted)
    texts = ["Rome", "The capital of Italy, a country in the south of Europe, is the city of Rome"] * 20
    _, count = second_moments(lm, [LAYER], texts, 10**6)
    assert len(passes) > 2
    assert sum(len(widths) * max(widths) for widths in passes) <= 1.1 * count


def test_a_covariance_of_a_model_without_a_revision_is_kept_for_its_very_weights() -> None:
    """Use two models of one width whose revision nothing tells: the second does not get the first one's."""
    models = [replace(tiny.make("gpt2", seed=seed), revision="unknown") for seed in (0, 1)]
    factors = [key_covariances(model, [LAYER], Corpus("c", lambda: TEXTS), 300)[LAYER].factor for model in models]
    expected = [factorise(second_moments(model, [LAYER], TEXTS, 300)[0][LAYER], "x").factor for model in models]
    for found, right in zip(factors, expected, strict=True):
        assert found is not None and right is not None and torch.equal(found, right)
    seen: list[str] = []
    key_covariances(models[0], [LAYER], Corpus("c", lambda: TEXTS), 300, lambda task, done, total: seen.append(task))
    assert seen == [], "and the same weights have it once"


@pytest.mark.usefixtures("cache")
def test_a_covariance_is_computed_once_for_a_model_layer_corpus_and_size(lm: LanguageModel) -> None:
    def compute(lm: LanguageModel, layer: int, corpus: str, tokens: int) -> bool:
        seen: list[str] = []
        key_covariances(lm, [layer], Corpus(corpus, lambda: TEXTS), tokens, lambda task, done, total: seen.append(task))
        return bool(seen)

    assert compute(lm, LAYER, "a", 400)
    assert not compute(lm, LAYER, "a", 400)
    others = [
        (lm, 2, "a", 400),
        (lm, LAYER, "b", 400),
        (lm, LAYER, "a", 300),
        (tiny.make("gptj", seed=1), LAYER, "a", 400),
    ]
    assert all(compute(*other) for other in others)


def test_a_covariance_over_too_few_tokens_is_warned_of_once(
    lm: LanguageModel, caplog: pytest.LogCaptureFixture
) -> None:
    log_once.cache_clear()
    enough = FEWEST_PER_NUMBER * lm.key_width(LAYER)
    for texts in (TEXTS[:2], ["She speaks French."] * enough):
        for _ in range(2):
            key_covariances(lm, [LAYER], Corpus(f"of {len(texts)} texts", lambda texts=texts: texts), enough)
    assert caplog.text.count("all that the texts have") == 1


def test_whitening_solves_with_the_matrix() -> None:
    root = torch.randn(16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    matrix = root @ root.T + torch.eye(16, dtype=torch.float64)
    key = torch.arange(16, dtype=torch.float32)
    covariance = factorise(matrix, "test")
    assert torch.allclose(matrix @ covariance.whiten(key).double(), key.double(), atol=1e-4)
    assert covariance.signature == "test,ridge=0"


def test_a_singular_matrix_gets_the_smallest_ridge_that_helps_and_says_so() -> None:
    half = torch.diag(torch.tensor([1.0] * 8 + [0.0] * 8))
    assert "ridge=0" not in factorise(half, "half").signature.split(",")


@pytest.mark.parametrize(
    ("matrix", "fault"),
    [
        (torch.zeros(4, 4), "singular"),
        (-torch.eye(4), "singular"),
        (torch.full((4, 4), float("nan")), "not finite"),
        (torch.full((4, 4), float("inf")), "not finite"),
    ],
)
def test_a_matrix_that_no_ridge_mends_says_so_and_whitens_nothing(
    matrix: torch.Tensor, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    covariance = factorise(matrix, "bad")
    assert covariance.fault is not None and fault in covariance.fault and covariance.signature == "bad,unsolvable"
    assert "--covariance none" in caplog.text
    with pytest.raises(EditError, match=fault):
        covariance.whiten(torch.ones(4))


def test_covariances_are_read_from_our_files_and_the_original_projects(tmp_path: Path) -> None:
    matrix = np.eye(6) * 3
    np.savez(tmp_path / "ours.npz", C=matrix)
    np.savez(tmp_path / "theirs.npz", **{"mom2.mom2": matrix * 50, "mom2.count": np.array(50), "mom2.constructor": "x"})
    ours, theirs = (load_covariance(tmp_path / f"{name}.npz", 6) for name in ("ours", "theirs"))
    key = torch.ones(6)
    assert torch.allclose(ours.whiten(key), key / 3) and torch.allclose(theirs.whiten(key), key / 3)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.write_bytes(b"PK not a zip"), "cannot be read|can be read"),
        (lambda path: np.savez(path, other=np.eye(6)), "none of the arrays"),
        (lambda path: np.savez(path, C=np.eye(5)), r"\(5, 5\), expected \(6, 6\)"),
        (lambda path: np.savez(path, C=np.array([{}], dtype=object)), "can be read"),
    ],
)
def test_files_that_are_no_covariance_are_named(tmp_path: Path, write: object, message: str) -> None:
    file = tmp_path / "statistics.npz"
    assert callable(write)
    write(file)
    with pytest.raises(ModelError, match=message) as caught:
        load_covariance(file, 6)
    assert "statistics.npz" in str(caught.value)
