"""A sweep as a value: records edited at many layers, and the best of these. No model is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from cfbuild.errors import ConfigError, DataError
from cfbuild.score.metrics import (
    CaseValues,
    Figure,
    figures_as_dict,
    figures_of,
    figures_over,
    paired_differences,
    rounded,
)
from cfbuild.score.run_report import signature_string
from cfbuild.store.folder import BuildFolder
from cfbuild.store.jsonl import read_json
from cfbuild.store.runs import FOUND, REPORT, SWEEP, Run, finished_runs

GROUPS_SWEPT = ("rewrite", "paraphrase", "neighborhood")
"""The prompts that a sweep scores: those of FIGURES_SWEPT."""
FIGURES_SWEPT = ("ES", "EM", "PS", "PM", "NS", "NM")
"""The figures of each record at a point."""
DRAWN = ("EM", "PM", "NM", "S")
"""The figures drawn over the layers (paper, Figure 5)."""
FOUND_AT = "subject_last"
"""The series in which the best layer is looked for: the token at which ROME edits."""
NEIGHBORS = (-1, 0, 1)
"""Distances of the layers over which S is averaged: with 20 records the best of 30 single layers is partly luck."""

Series = str | float | None
"""The value of the swept setting that the points of a curve share: the name of a token, or the largest change of an
element of the matrix (None: no limit)."""


@dataclass(frozen=True, slots=True)
class SweptRow:
    """A record's figures at a point, times 100, or the fault of its edit; the unedited model's if `layer` is None."""

    case_id: int
    relation: str
    layer: int | None
    series: Series
    values: Mapping[str, float]
    fault: str | None = None

    @classmethod
    def of_dict(cls, row: Mapping[str, Any], swept_setting: str) -> SweptRow:
        """Return the row of a line of points.jsonl. swept_setting: the key of the series."""
        series = row[swept_setting]
        return cls(row["case_id"], row["relation_id"], row["layer"], series, row["values"], row.get("fault"))

    def as_dict(self, swept_setting: str) -> dict[str, Any]:
        """Return the row for JSON. swept_setting: the key of the series."""
        fault = {} if self.fault is None else {"fault": self.fault}
        point = {"case_id": self.case_id, "relation_id": self.relation, "layer": self.layer}
        return {**point, swept_setting: self.series, "values": dict(self.values), **fault}


@dataclass(frozen=True, slots=True)
class Point:
    """The figures over the records at a layer and a series, times 100, and the number of records without an edit."""

    layer: int
    series: Series
    figures: Mapping[str, Figure]
    faults: int = 0

    def as_dict(self, swept_setting: str) -> dict[str, Any]:
        """Return the point for JSON. swept_setting: the key of the series."""
        return {
            "layer": self.layer,
            swept_setting: self.series,
            "figures": figures_as_dict(self.figures),
            **({"faults": self.faults} if self.faults else {}),
        }


@dataclass(frozen=True, slots=True)
class FoundLayer:
    """The layer that a sweep recommends; `as_good` are all layers that its records cannot tell from the best one."""

    layer: int
    as_good: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SweepReport:
    """A sweep's figures before any edit and at each point, times 100.

    `settings` is everything that affects them, `swept_setting` the editor's setting that differs between the series.
    `found` is None for other editors than ROME, and where the token FOUND_AT was not swept or no edit succeeded.
    """

    settings: Mapping[str, Any]
    swept_setting: str
    records: int
    before: Mapping[str, Figure]
    points: tuple[Point, ...]
    found: FoundLayer | None = None

    @classmethod
    def of_rows(cls, rows: Sequence[SweptRow], settings: Mapping[str, Any], swept_setting: str) -> SweepReport:
        """Return the report on a sweep's rows, points in the rows' order."""
        by_point: dict[tuple[int | None, Series], list[SweptRow]] = {}
        for row in rows:
            by_point.setdefault((row.layer, row.series), []).append(row)
        before = by_point.pop((None, None), [])
        points: list[Point] = []
        by_layer: dict[int, list[SweptRow]] = {}
        for (layer, series), point_rows in by_point.items():
            if layer is None:
                continue
            points.append(Point(layer, series, _figures(point_rows), _count_faults(point_rows)))
            if series == FOUND_AT:
                by_layer[layer] = point_rows
        return cls(settings, swept_setting, len(before), _figures(before), tuple(points), best_layer(by_layer))

    @classmethod
    def of_dict(cls, row: Mapping[str, Any]) -> SweepReport:
        """Return the report that report.json holds. Raises DataError if it does not hold one."""
        try:
            swept_setting, found = str(row["setting"]), row["found"]
            points = [
                Point(
                    int(point["layer"]), point[swept_setting], figures_of(point["figures"]), int(point.get("faults", 0))
                )
                for point in row["points"]
            ]
            return cls(
                dict(row["settings"]),
                swept_setting,
                int(row["records"]),
                figures_of(row["before"]),
                tuple(points),
                found and FoundLayer(int(found["layer"]), tuple(map(int, found["as_good"]))),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"this is not the report of a sweep ({type(error).__name__}: {error}); run `cfbuild sweep` with "
                "--restart to have it written again"
            ) from error

    def as_dict(self) -> dict[str, Any]:
        """Return the content of report.json."""
        found = self.found
        return {
            "signature": self.signature,
            "settings": dict(self.settings),
            "setting": self.swept_setting,
            "records": self.records,
            "before": figures_as_dict(self.before),
            "points": [point.as_dict(self.swept_setting) for point in self.points],
            "found": found and {"layer": found.layer, "as_good": list(found.as_good)},
        }

    @property
    def signature(self) -> str:
        """Return the signature on a line."""
        return signature_string(self.settings)

    @property
    def model(self) -> str:
        """Return the name of the model."""
        return str(self.settings.get("model", ""))

    @property
    def editor(self) -> str:
        """Return the name of the editor."""
        return str(self.settings.get("editor", ""))

    @property
    def layers(self) -> tuple[int, ...]:
        """Return the layers, ascending."""
        return tuple(sorted({point.layer for point in self.points}))

    @property
    def series(self) -> tuple[Series, ...]:
        """Return the series, in the order in which they were given."""
        return tuple(dict.fromkeys(point.series for point in self.points))

    def curve(self, series: Series, figure: str) -> list[tuple[int, Figure]]:
        """Return (layer, figure) of a series, ascending by layer, where the figure is known."""
        points = sorted((point for point in self.points if point.series == series), key=lambda point: point.layer)
        return [(point.layer, point.figures[figure]) for point in points if figure in point.figures]


def _count_faults(rows: Sequence[SweptRow]) -> int:
    return sum(row.fault is not None for row in rows)


def _figures(rows: Sequence[SweptRow]) -> dict[str, Figure]:
    return rounded(figures_over(_values(rows)))


def _values(rows: Sequence[SweptRow]) -> dict[str, list[float | None]]:
    return {name: [row.values.get(name) for row in rows] for name in FIGURES_SWEPT}


def best_layer(rows: Mapping[int, Sequence[SweptRow]]) -> FoundLayer | None:
    """Return the layer to edit, from the rows of one series by layer; None where no layer has an S.

    1. Only the layers at which the fewest edits failed count.
    2. As good as the layer of the highest S are those whose difference of S from it, paired by record, has a 95%
       interval that reaches 0.
    3. Of these, the layer to edit has the highest mean of its own S and that of the layers next to it, as far as they
       count; of equal ones it is the lowest.
    """
    all_s = {layer: figures["S"].mean for layer in sorted(rows) if "S" in (figures := _figures(rows[layer]))}
    if not all_s:
        return None
    faults = {layer: _count_faults(rows[layer]) for layer in all_s}
    s_by_layer = {layer: s for layer, s in all_s.items() if faults[layer] == min(faults.values())}
    top = max(s_by_layer, key=lambda layer: (s_by_layer[layer], -layer))
    differences = {layer: _difference(rows[top], rows[layer]) for layer in s_by_layer}
    as_good = tuple(layer for layer, diff in differences.items() if diff is None or diff.mean + diff.half_width >= 0)

    def smoothed(layer: int) -> float:
        near = [s_by_layer[layer + step] for step in NEIGHBORS if layer + step in s_by_layer]
        return round(sum(near) / len(near), 6)  # equal means stay equal whatever the order of the sum

    return FoundLayer(max(as_good, key=lambda layer: (smoothed(layer), -layer)), as_good)


def _difference(first: Sequence[SweptRow], second: Sequence[SweptRow]) -> Figure | None:
    """Return S of `second` minus S of `first` over the records that both have."""
    values = CaseValues(), CaseValues()
    for side, rows in zip(values, (first, second), strict=True):
        side.extend([row.case_id for row in rows], _values(rows))
    return paired_differences(*values).get("S")


def series_name(series: Series) -> str:
    """Return a series as text: a token's name, or a bound in digits."""
    return series if isinstance(series, str) else "none" if series is None else f"{series:g}"


def read_sweep(sweep: Run) -> SweepReport:
    """Return the report of a finished sweep. Raises DataError naming the file that holds none."""
    try:
        return SweepReport.of_dict(read_json(sweep.path(REPORT)))
    except DataError as error:
        raise DataError(f"{sweep.path(REPORT)}: {error}") from None


# ------------------------------------------------------------------------------------------- the preset of a model


def found_preset(report: SweepReport, revision: str) -> dict[str, Any]:
    """Return the content of a sweep's preset file; `revision` names the model's exact weights."""
    if report.found is None:
        raise ValueError("the sweep found no layer")
    best = next(point for point in report.points if (point.layer, point.series) == (report.found.layer, FOUND_AT))
    return {
        "editor": report.editor,
        "model": report.model,
        "revision": revision,
        "settings": {"layer": report.found.layer},
        "found": {
            **figures_as_dict({"S": best.figures["S"]}),
            "as_good": list(report.found.as_good),
            "layers": len(report.layers),
            "records": report.records,
        },
    }


def layer_found(folder: BuildFolder, model: str, revision: str) -> int:
    """Return the layer to edit that a build's sweeps found for a model, by the sweep of the most layers times records.

    revision: names the model's exact weights. Raises ConfigError if there is no sweep of these weights, DataError for a
    file that is no preset, BuildStateError for one that was changed.
    """
    sweeps = (sweep for sweep in finished_runs(folder, SWEEP) if sweep.file(FOUND) in sweep.record.files)
    files = [sweep.file(FOUND) for sweep in sweeps if sweep.path(FOUND).is_file()]
    command = f"`cfbuild sweep --build {folder.root} --model {model}`"
    if not files:
        raise ConfigError(
            f"--layer auto: no sweep in {folder.root} found a layer; run {command} first, or give a number"
        )
    folder.refuse_changed(files)
    presets = {name: _Preset.read(folder.path(name)) for name in files}
    same = [preset for preset in presets.values() if preset.revision == revision]
    if not same:
        others = "; ".join(f"{name}: {preset.model} ({preset.revision})" for name, preset in presets.items())
        raise ConfigError(
            f"--layer auto: the layers found in {folder.root} are other models' ({others}), not that of {model} "
            f"({revision}); run {command} first, or give a number"
        )
    return max(same, key=lambda preset: preset.size).layer


class _Preset(NamedTuple):
    """The content of a preset file; `size` is the layers times records of the sweep that found the layer."""

    model: str
    revision: str
    layer: int
    size: int

    @classmethod
    def read(cls, path: Path) -> _Preset:
        """Return the preset of a file. Raises DataError for a file that is none."""
        content = read_json(path)
        try:
            size = int(content["found"]["layers"]) * int(content["found"]["records"])
            return cls(str(content["model"]), str(content["revision"]), int(content["settings"]["layer"]), size)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{path}: this is not a preset that a sweep wrote ({type(error).__name__}: {error})"
            ) from error
