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
    """Return the share of the decisions (o* or the true object likelier, before and after) that differ."""
    both = [
        decided
        for case, same_case in zip(first, second, strict=True)
        for stage, same in ((case.pre, same_case.pre), (case.post, same_case.post))
        for decided in zip(decisions(stage), decisions(same), strict=True)
    ]
    return sum(mine != theirs for mine, theirs in both) / len(both)


def decisions(stage: Any) -> list[bool]:
    """Return of every prompt whether o* is likelier than the true object."""
    return [new < true for new, true in pairs(nlls(stage))]


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
