"""The scores of a run as a value: what report.json holds. No model is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cfbuild import __version__
from cfbuild.data import CaseScore, id_number
from cfbuild.errors import DataError
from cfbuild.score.curve import SequenceCurve
from cfbuild.score.metrics import DIGITS, Figure, aggregate, figures_as_dict, figures_of, means, rounded

STAGES = ("pre", "post")
"""The stages of a case: its scores before the edit and after it."""
SAME_NATS = 1e-4
"""Likelihoods nearer than this are the same: in float32 the batch moves them by less, an edit by more."""


@dataclass(frozen=True, slots=True)
class RelationScores:
    """The number of a relation's cases in a run, and the mean of each figure over them by stage."""

    cases: int
    means: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Report:
    """The scores of a run: its figures by stage and name, times 100, and the records without an edit.

    `settings` holds the signature's values by name, `faults` the number of records without an edit by reason, `faulty`
    their case ids, `unchanged` the number of records whose edit changed nothing. `sequence` holds the measurements of a
    sequence, in which `post` is the stage right after a record's batch.
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
        """Return the report on a run's cases. signature: everything that affects the figures, by name."""
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
        """Return a sentence on the edits that changed nothing, if there are any; `run` is the run's name."""
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
        """Return the name of the model."""
        return str(self.settings.get("model", ""))

    @property
    def revision(self) -> str | None:
        """Return the model's revision, or None where it is not known."""
        revision = self.settings.get("revision")
        return None if revision is None else str(revision)

    @property
    def editor(self) -> str:
        """Return the name of the editor."""
        return str(self.settings.get("editor", ""))


def _is_unchanged(case: CaseScore) -> bool:
    """Return True if an edit changed nothing: the change is zero, or every likelihood is what it was before."""
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
    """Return the rounded means of each relation, relations by number."""
    by_relation: dict[str, list[CaseScore]] = {}
    for case in cases:
        by_relation.setdefault(case.relation, []).append(case)
    found = {}
    for relation in sorted(by_relation, key=id_number):
        exact = {stage: means(by_relation[relation], stage) for stage in STAGES}
        found[relation] = RelationScores(
            len(by_relation[relation]),
            {stage: {name: round(mean, DIGITS) for name, mean in exact[stage].items()} for stage in STAGES},
        )
    return found


def signature_string(signature: Mapping[str, Any]) -> str:
    """Return the signature on a line, cfbuild's version first: `cfbuild:1.0.0|model:gpt2-xl|editor:rome|...`."""
    parts = {"cfbuild": __version__, **signature}
    return "|".join(f"{name}:{_short(value)}" for name, value in parts.items())


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return ",".join(f"{name}={_short(inner)}" for name, inner in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value).replace("|", "/")


def _relation_of(row: Mapping[str, Any]) -> RelationScores:
    return RelationScores(
        int(row["cases"]),
        {stage: {name: float(mean) for name, mean in row[stage].items()} for stage in STAGES},
    )
