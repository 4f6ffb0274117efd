"""What a scoring run came to: the figures before and after, by relation, and a signature that makes them comparable."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from cfbuild import __version__
from cfbuild.data import CaseScore, id_number
from cfbuild.records.groups import GROUPS
from cfbuild.score.metrics import Figure, aggregate, means

STAGES = ("pre", "post")
HEADLINE = ("S", "ES", "EM", "PS", "PM", "NS", "NM", "GE", "RS")
"""Columns of the table, as in the paper's Table 4."""
BESIDE = ("rewrite_exact", "paraphrase_exact", "neighborhood_exact", "generation_mentions")
"""Rates that are easily confused with the metrics, under their own names."""
BEYOND = tuple(GROUPS)
"""Scores of the groups that CounterFact does not have: share of prompts on which the right target wins."""


def make_report(cases: Sequence[CaseScore], signature: Mapping[str, Any]) -> dict[str, Any]:
    """report.json: signature, counts, every figure of both stages, the same by relation, faults by reason with the ids
    of their cases."""
    relations = sorted({case.relation for case in cases}, key=id_number)
    return {
        "signature": signature_string(signature),
        "settings": dict(signature),
        "cases": len(cases),
        "faults": dict(sorted(Counter(case.fault for case in cases if case.fault is not None).items())),
        "faulty": _faulty(cases),
        "figures": {stage: _figures(cases, stage) for stage in STAGES},
        "by_relation": {
            relation: {
                "cases": len(some),
                **{stage: _means(some, stage) for stage in STAGES},
            }
            for relation in relations
            if (some := [case for case in cases if case.relation == relation])
        },
    }


def _faulty(cases: Sequence[CaseScore]) -> dict[str, list[int]]:
    """The case ids of records without an edit, by what was wrong."""
    found: dict[str, list[int]] = {}
    for case in cases:
        if case.fault is not None:
            found.setdefault(case.fault, []).append(case.case_id)
    return dict(sorted(found.items()))


def signature_string(signature: Mapping[str, Any]) -> str:
    """Everything that affects the figures, as one line: `name:value` joined by bars, cfbuild's version first."""
    parts = {"cfbuild": __version__, **signature}
    return "|".join(f"{name}:{_short(value)}" for name, value in parts.items())


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return ",".join(f"{name}={_short(one)}" for name, one in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value).replace("|", "/")


def _figures(cases: Sequence[CaseScore], stage: str) -> dict[str, dict[str, float | int]]:
    return {name: _plain(figure) for name, figure in aggregate(cases, stage).items()}


def _plain(figure: Figure) -> dict[str, float | int]:
    return {"mean": round(figure.mean, 4), "half_width_95": round(figure.half_width, 4), "cases": figure.cases}


def _means(cases: Sequence[CaseScore], stage: str) -> dict[str, float]:
    return {name: round(mean, 4) for name, mean in means(cases, stage).items()}
