"""The measurements of a sequence as a value: figures and perplexity over the number of edits. No model is needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cfbuild.data import CaseScore
from cfbuild.score.metrics import DIGITS, HARMONIC, Figure, aggregate, figures_as_dict, figures_of, means, rounded

CURVES = ("right_after", "first", "so_far")
"""The curves of a sequence: records right after their batch, the first point's records, and those of all points."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Measurements on the model after `edits` edits.

    `perplexity` is that of the fixed text, None where it is not finite. At the points of the curves there are means of
    ES, PS and NS too, times 100: of the records since the last point right after their edit, of a sample of the first
    point's records, and of a sample of all so far.
    """

    edits: int
    perplexity: float | None
    right_after: Mapping[str, float] = field(default_factory=dict)
    first: Mapping[str, float] = field(default_factory=dict)
    so_far: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of_dict(cls, row: Mapping[str, Any]) -> Reading:
        """Return the reading of an object in report.json."""
        curves = {name: {key: float(value) for key, value in row.get(name, {}).items()} for name in CURVES}
        perplexity = row["perplexity"]
        return cls(int(row["edits"]), None if perplexity is None else float(perplexity), **curves)

    def as_dict(self) -> dict[str, Any]:
        """Return the reading for JSON, without curves that have no point here."""
        curves = {name: dict(getattr(self, name)) for name in CURVES if getattr(self, name)}
        return {"edits": self.edits, "perplexity": self.perplexity, **curves}


@dataclass(frozen=True, slots=True)
class SequenceCurve:
    """A sequence's readings, one a batch, and its retention.

    `batch` is the most records of a batch, `unedited_perplexity` that of the fixed text before all edits. `retained`
    holds the figures of all records on the model after all edits, but for the `overwritten` ones, about whose fact a
    later batch said something else. `fault` is why the sequence ended before its last batch.
    """

    batch: int
    unedited_perplexity: float | None
    readings: tuple[Reading, ...]
    retained: Mapping[str, Figure]
    overwritten: int = 0
    fault: str | None = None

    @property
    def points(self) -> tuple[Reading, ...]:
        """The readings that have more than a perplexity."""
        return tuple(reading for reading in self.readings if reading.so_far or reading.right_after)

    @classmethod
    def of_dict(cls, row: Mapping[str, Any]) -> SequenceCurve:
        """Return the curve in report.json. Raises KeyError, TypeError or ValueError for anything else."""
        unedited = row["unedited_perplexity"]
        return cls(
            int(row["batch"]),
            None if unedited is None else float(unedited),
            tuple(map(Reading.of_dict, row["readings"])),
            figures_of(row["retained"]),
            int(row["overwritten"]),
            row["fault"],
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the curve for JSON."""
        return {
            "batch": self.batch,
            "unedited_perplexity": self.unedited_perplexity,
            "readings": [reading.as_dict() for reading in self.readings],
            "retained": figures_as_dict(self.retained),
            "overwritten": self.overwritten,
            "fault": self.fault,
        }


def with_right_after(readings: Iterable[Reading], cases: Sequence[CaseScore]) -> tuple[Reading, ...]:
    """Return readings whose points have the means of the records since the last point; cases: in the edits' order."""
    found, last = [], 0
    for reading in readings:
        if reading.so_far:
            reading = replace(reading, right_after=shown_means(cases[last : reading.edits], "post"))
            last = reading.edits
        found.append(reading)
    return tuple(found)


def shown_means(cases: Sequence[CaseScore], stage: str) -> dict[str, float]:
    """Return the means of ES, PS and NS over cases, as far as they have them, in a report's decimals."""
    return {name: round(mean, DIGITS) for name, mean in means(cases, stage).items() if name in HARMONIC}


def retained_figures(cases: Sequence[CaseScore]) -> dict[str, Figure]:
    """Return the figures of records after all edits, in a report's decimals."""
    return rounded(aggregate(cases, "post"))
