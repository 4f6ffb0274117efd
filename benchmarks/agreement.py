"""Distances between the outputs of baseline and package."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

from benchmarks import plain
from cfbuild.data import CaseScore
from cfbuild.edit.editor import Edit
from cfbuild.score.metrics import aggregate


def value_distance(edit: Edit, plain_edit: plain.PlainEdit) -> float:
    """|v* - v*'| / |v*'|: what the two edits add to W k0 is in proportion to v* - W k0."""
    assert edit.delta is not None
    change = edit.delta.only.matrix() - plain_edit.change
    scale = float(edit.statistics["u_dot_key"] or 0)
    return float(change.norm()) * abs(scale) / float(plain_edit.value.norm())


def different(first: Sequence[CaseScore], second: Sequence[CaseScore]) -> float:
    """Share of the decisions (o* or the true object likelier, before and after) that differ."""
    pairs = [
        (nlls[0] < nlls[1], others[0] < others[1])
        for a, b in zip(first, second, strict=True)
        for stage, same in ((a.pre, b.pre), (a.post, b.post))
        for nlls, others in zip(pairs(nlls(stage)), pairs(nlls(same)), strict=True)
    ]
    return sum(a != b for a, b in pairs) / len(pairs)


def nlls(stage: Any) -> list[float]:
    """o*'s and the true object's NLL of every prompt, in the record's order."""
    groups = ("rewrite", "paraphrase", "neighborhood", "attribute")
    return [
        nll
        for group in groups
        for score in stage.prompts.get(group, ())
        for nll in (score.target_new_nll, score.target_true_nll)
    ]


def pairs(flat: Sequence[float]) -> list[tuple[float, float]]:
    return list(zip(islice(flat, 0, None, 2), islice(flat, 1, None, 2), strict=True))


def figures(cases: Sequence[CaseScore]) -> dict[str, float]:
    return {name: figure.mean for name, figure in aggregate(cases, "post").items()}
