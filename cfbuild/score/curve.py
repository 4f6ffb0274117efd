"""The measurements of a sequence as a value: figures and perplexity over the number of edits. No model is needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cfbuild.data import CaseScore
from cfbuild.score.metrics import DIGITS, HARMONIC, Figure, figures_as_dict, figures_of, means

CURVES = ("right_after", "first", "so_far")
"""The curves of a sequence, one for each kind of means that a `Reading` has."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Measurements on the model after `edits` edits: the fixed text's perplexity, None where it is not finite.

    Only the points of the curves have means of ES, PS and NS, times 100: `right_after` of the records since the last
    point, right after their edit; `first` of a sample of the first point's records, `so_far` of a sample of all, now.
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
        """Return the reading for JSON, without empty means."""
        curves = {name: dict(getattr(self, name)) for name in CURVES if getattr(self, name)}
        return {"edits": self.edits, "perplexity": self.perplexity, **curves}


@dataclass(frozen=True, slots=True)
class SequenceCurve:
    """A sequence's readings, one a batch, and the figures that are left after its last edit.

    `batch` is the most records of a batch, `unedited_perplexity` that of the fixed text before all edits. `retained`
    holds the figures of all records on the model after all edits, but for those whose fact a later batch edited again;
    `overwritten` is the number of these. `fault` is why the sequence ended before its last batch.
    """

    batch: int
    unedited_perplexity: float | None
    readings: tuple[Reading, ...]
    retained: Mapping[str, Figure]
    overwritten: int = 0
    fault: str | None = None

    @property
    def points(self) -> tuple[Reading, ...]:
        """Return the readings that have means: the points of the curves."""
        return tuple(reading for reading in self.readings if reading.so_far or reading.right_after)

    @classmethod
    def of_dict(cls, row: Mapping[str, Any]) -> SequenceCurve:
        """Return the curve of an object in report.json. Raises KeyError, TypeError or ValueError for any other."""
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
    """Return the readings with `right_after` at the points. cases: in the order of the edits."""
    found, last = [], 0
    for reading in readings:
        if reading.so_far:
            reading = replace(reading, right_after=shown_means(cases[last : reading.edits], "post"))
            last = reading.edits
        found.append(reading)
    return tuple(found)


def shown_means(cases: Sequence[CaseScore], stage: str) -> dict[str, float]:
    """Return the rounded means of ES, PS and NS over cases. stage: `pre` or `post`."""
    return {name: round(mean, DIGITS) for name, mean in means(cases, stage).items() if name in HARMONIC}
