"""The scores of a run as a value: what report.json holds. No model is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cfbuild import __version__
from cfbuild.data import CaseScore, id_number
from cfbuild.errors import DataError
from cfbuild.score.curve import SequenceCurve
from cfbuild.score.metrics import (
    DIGITS,
    Figure,
    aggregate,
    figures_as_dict,
    figures_of,
    means,
    rounded,
)

STAGES = ("pre", "post")
"""A record's scores before its edit and after it."""
SAME_NATS = 1e-4
"""Likelihoods nearer than this are the same: other batches move them in float32 by less, and an edit by more."""


@dataclass(frozen=True, slots=True)
class RelationScores:
    """A relation's share of a run: its number of cases, and the mean of each figure by stage (`pre`, `post`)."""

    cases: int
    means: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Report:
    """The scores of a run: signature, figures of both stages (times 100, by stage and name), and records without edit.

    `settings` holds the signature's values by name, `faults` the number of records without edit by reason, `faulty`
    their case ids, `unchanged` the number of records whose edit changed nothing. `sequence` is what was measured over a
    sequence, whose `post` is right after each batch.
    """

    signature: str
    settings: Mapping[str, Any]
    cases: int
    faults: Mapping[str, int]
    faulty: Mapping[str, tuple[int, ...]]
    figures: Mapping[str, Mapping[str, Figure]]
    by_relation: Mapping[str, RelationScores]
    sequence: SequenceCurve | None = None
    unchanged: int = 0

    @classmethod
    def of_cases(
        cls, cases: Sequence[CaseScore], signature: Mapping[str, Any], sequence: SequenceCurve | None = None
    ) -> Report:
        """Return the report on a run's cases; `signature` is everything that affects its figures."""
        faulty = _faulty(cases)
        return cls(
            signature=signature_string(signature),
            settings=dict(signature),
            cases=len(cases),
            faults={reason: len(ids) for reason, ids in faulty.items()},
            faulty=faulty,
            figures={stage: rounded(aggregate(cases, stage)) for stage in STAGES},
            by_relation=_by_relation(cases),
            sequence=sequence,
            unchanged=sum(map(_is_unchanged, cases)),
        )

    @classmethod
    def of_dict(cls, row: Mapping[str, Any]) -> Report:
        """Return the report that report.json holds. Raises DataError if it does not hold a report."""
        try:
            return cls(
                signature=str(row["signature"]),
                settings=dict(row["settings"]),
                cases=int(row["cases"]),
                faults={reason: int(count) for reason, count in row["faults"].items()},
                faulty={reason: tuple(map(int, ids)) for reason, ids in row.get("faulty", {}).items()},
                figures={stage: figures_of(row["figures"][stage]) for stage in STAGES},
                by_relation={name: _relation_of(scores) for name, scores in row["by_relation"].items()},
                sequence=SequenceCurve.of_dict(row["sequence"]) if "sequence" in row else None,
                unchanged=int(row.get("unchanged", 0)),
            )
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise DataError(
                f"this is not a report of cfbuild ({type(error).__name__}: {error}); run `cfbuild validate-and-score` "
                "with --restart to have it written again"
            ) from error

    def as_dict(self) -> dict[str, Any]:
        """Return the content of report.json."""
        return {
            "signature": self.signature,
            "settings": dict(self.settings),
            "cases": self.cases,
            "faults": dict(self.faults),
            "faulty": {reason: list(ids) for reason, ids in self.faulty.items()},
            "figures": {stage: figures_as_dict(figures) for stage, figures in self.figures.items()},
            "by_relation": {
                name: {"cases": scores.cases, **{stage: dict(scores.means[stage]) for stage in STAGES}}
                for name, scores in self.by_relation.items()
            },
            **({"sequence": self.sequence.as_dict()} if self.sequence else {}),
            **({"unchanged": self.unchanged} if self.unchanged else {}),
        }

    def remarks(self, run: str) -> list[str]:
        """Return what must be said of a run that is called `run`: of edits that changed nothing, how many."""
        edited = self.cases - sum(self.faults.values())
        if not self.unchanged:
            return []
        if self.unchanged == edited:
            return [
                f"No edit of {run} changed anything: the scores of all {edited:,} records are what they were before."
            ]
        return [
            f"{self.unchanged:,} of {edited:,} edits of {run} changed nothing: the scores are what they were before."
        ]

    @property
    def model(self) -> str:
        """The name of the model."""
        return str(self.settings.get("model", ""))

    @property
    def revision(self) -> str | None:
        """The model's revision, or None where it is not known."""
        revision = self.settings.get("revision")
        return None if revision is None else str(revision)

    @property
    def editor(self) -> str:
        """The name of the editor."""
        return str(self.settings.get("editor", ""))


def _is_unchanged(case: CaseScore) -> bool:
    """Return True if an edit changed nothing: it is zero, or no likelihood is another than before it."""
    if case.post is None:
        return False
    if case.edit.get("delta_norm") == 0:
        return True
    pairs = [
        (getattr(old, name), getattr(new, name))
        for group, scores in case.pre.prompts.items()
        for old, new in zip(scores, case.post.prompts.get(group, ()), strict=True)
        for name in ("target_new_nll", "target_true_nll")
    ]
    return bool(pairs) and all(abs(old - new) < SAME_NATS for old, new in pairs)


def _faulty(cases: Sequence[CaseScore]) -> dict[str, tuple[int, ...]]:
    """Return the case ids of records without an edit, by reason."""
    found: dict[str, list[int]] = {}
    for case in cases:
        if case.fault is not None:
            found.setdefault(case.fault, []).append(case.case_id)
    return {reason: tuple(ids) for reason, ids in sorted(found.items())}


def _by_relation(cases: Sequence[CaseScore]) -> dict[str, RelationScores]:
    """Return the means of each relation, relations by number."""
    found: dict[str, list[CaseScore]] = {}
    for case in cases:
        found.setdefault(case.relation, []).append(case)
    return {
        relation: RelationScores(len(found[relation]), {stage: _means(found[relation], stage) for stage in STAGES})
        for relation in sorted(found, key=id_number)
    }


def signature_string(signature: Mapping[str, Any]) -> str:
    """Return the signature on a line: `name:value` joined by bars, cfbuild's version first."""
    parts = {"cfbuild": __version__, **signature}
    return "|".join(f"{name}:{_short(value)}" for name, value in parts.items())


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return ",".join(f"{name}={_short(inner)}" for name, inner in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value).replace("|", "/")


def _means(cases: Sequence[CaseScore], stage: str) -> dict[str, float]:
    return {name: round(mean, DIGITS) for name, mean in means(cases, stage).items()}


def _relation_of(row: Mapping[str, Any]) -> RelationScores:
    return RelationScores(
        int(row["cases"]),
        {stage: {name: float(mean) for name, mean in row[stage].items()} for stage in STAGES},
    )
