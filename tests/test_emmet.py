"""EMMET on tiny random models: ROME's update for one request, every wanted value written for many."""

from __future__ import annotations

import pytest
import tiny
import torch

from cfbuild.data import Request
from cfbuild.edit.covariance import Covariance, factorise
from cfbuild.edit.emmet import Emmet, EmmetOptions
from cfbuild.edit.rome import Rome
from cfbuild.edit.rome.optimise import ValueOptimiser
from cfbuild.lm.model import LanguageModel

REQUESTS = [
    Request("The mother tongue of {} is", "Danielle Darrieux", "New Zealand English"),
    Request("{} lies in", "Rome", "Germany"),
    Request("The capital city of {} is", "France", "Berlin"),
]


def covariance(lm: LanguageModel) -> Covariance:
    """Return a second moment that is not the identity: its whitening turns a key."""
    width = lm.key_width(1)
    drawn = torch.randn(width * 4, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return factorise(drawn.T @ drawn / len(drawn) + torch.eye(width, dtype=torch.float64), "test")


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_the_edit_for_one_request_is_romes(family: str) -> None:
    lm = tiny.make(family)
    settings = {"layer": 1, "steps": 4}
    (rome,) = Rome(lm, EmmetOptions(**settings), covariance(lm)).edit(REQUESTS[:1])
    (edit,) = Emmet(lm, EmmetOptions(**settings), covariance(lm)).edit(REQUESTS[:1])
    assert edit.records == (0,) and edit.delta is not None and rome.delta is not None
    expected = rome.delta.only.matrix()
    assert float((edit.delta.only.matrix() - expected).norm() / expected.norm()) < 1e-4


def test_every_value_of_a_batch_is_written_where_nothing_is_added_to_the_overlaps() -> None:
    lm = tiny.make("gpt2")
    before = tiny.digest(lm)
    options = EmmetOptions(layer=1, contexts=("Rome lies in Italy. ", "She speaks. "), steps=4, ridge=0.0)
    counts: list[int] = []
    (edit,) = Emmet(lm, options, covariance(lm)).edit(REQUESTS, counts.append)
    assert edit.records == (0, 1, 2) and counts[-1] == 3 and tiny.digest(lm) == before
    assert edit.delta is not None and edit.statistics["together"] == 3
    for _, value in ValueOptimiser(lm, options).values(REQUESTS):
        key = (value.keys[0] + value.keys[1:-1].mean(dim=0)) / 2
        output = (value.outputs[0] + value.outputs[1:-1].mean(dim=0)) / 2
        written = output + edit.delta.only.matrix() @ key
        assert torch.allclose(written, value.target_output, rtol=1e-3, atol=1e-3)


def test_a_ridge_keeps_the_change_small() -> None:
    lm = tiny.make("gpt2")
    norms = []
    for ridge in (0.0, 1.0):
        (edit,) = Emmet(lm, EmmetOptions(layer=1, steps=4, ridge=ridge), covariance(lm)).edit(REQUESTS)
        assert edit.delta is not None
        norms.append(edit.delta.norm)
    assert norms[1] < norms[0]


def test_a_request_without_a_finite_value_fails_alone() -> None:
    lm = tiny.make("llama", seed=3)
    own = set(lm.encode("Rome")) - {token for request in REQUESTS for token in lm.encode(f"{request.prompt} France")}
    lm.model.get_input_embeddings().weight[own.pop()] = float("nan")
    edits = Emmet(lm, EmmetOptions(layer=1, steps=2)).edit(REQUESTS)
    assert [(edit.records, edit.fault) for edit in edits] == [((0, 2), None), ((1,), "the edit is not finite")]
