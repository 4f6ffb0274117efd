"""A sweep as a value: records edited at many layers, at tokens or by bounds, and the layer that is best.

No model is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from cfbuild.store.runs import FOUND, REPORT, Run, finished_sweeps

GROUPS_SWEPT = ("rewrite", "paraphrase", "neighborhood")
"""The prompts that a sweep scores: those of the figures that are drawn."""
FIGURES_SWEPT = ("ES", "EM", "PS", "PM", "NS", "NM")
"""The figures of each record at a point."""
DRAWN = ("EM", "PM", "NM", "S")
"""The figures drawn over the layers (paper, Figure 5)."""
FOUND_AT = "subject_last"
"""The token at which the best layer is looked for: the one at which ROME edits."""
NEIGHBORS = (-1, 0, 1)
"""Layers whose S is averaged: one's own and those next to it. With 20 records the best of 30 layers is partly luck."""

At = str | float | None
"""A series of a sweep: a token's name, or the largest change of a number of the matrix (None: no limit)."""


@dataclass(frozen=True, slots=True)
class SweptRow:
    """A record at a point of a sweep: each figure, times 100, or the fault; unedited where `layer` is None."""

    case_id: int
    relation: str
    layer: int | None
    at: At
    values: Mapping[str, float]
    fault: str | None = None

    @classmethod
    def of_dict(cls, row: Mapping[str, Any], setting: str) -> SweptRow:
        """Return the row of a line; `setting` is the editor's setting that differs between the series."""
        return cls(row["case_id"], row["relation_id"], row["layer"], row[setting], row["values"], row.get("fault"))

    def as_dict(self, setting: str) -> dict[str, Any]:
        """Return the row for JSON."""
        fault = {} if self.fault is None else {"fault": self.fault}
        point = {"case_id": self.case_id, "relation_id": self.relation, "layer": self.layer, setting: self.at}
        return {**point, "values": dict(self.values), **fault}


@dataclass(frozen=True, slots=True)
class Point:
    """A layer and a series: the figures over its records, times 100, and the number of records without an edit."""

    layer: int
    at: At
    figures: Mapping[str, Figure]
    faults: int = 0

    def as_dict(self, setting: str) -> dict[str, Any]:
        """Return the point for JSON."""
        return {
            "layer": self.layer,
            setting: self.at,
            "figures": figures_as_dict(self.figures),
            **({"faults": self.faults} if self.faults else {}),
        }


@dataclass(frozen=True, slots=True)
class FoundLayer:
    """The layer that a sweep recommends, and all layers that its records do not tell from the best one."""

    layer: int
    as_good: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SweepReport:
    """A sweep: signature, the setting that differs between its series, figures before any edit and at each point.

    `found` is None for other editors than ROME, and where the token FOUND_AT was not swept or no edit succeeded.
    """

    settings: Mapping[str, Any]
    setting: str
    records: int
    before: Mapping[str, Figure]
    points: tuple[Point, ...]
    found: FoundLayer | None = None

    @classmethod
    def of_rows(cls, rows: Sequence[SweptRow], settings: Mapping[str, Any], setting: str) -> SweepReport:
        """Return the report on a sweep's rows, points in the rows' order; `settings` are all that affects them."""
        by_point: dict[tuple[int | None, At], list[SweptRow]] = {}
        for row in rows:
            by_point.setdefault((row.layer, row.at), []).append(row)
        points = tuple(
            Point(layer, at, _figures(point_rows), sum(row.fault is not None for row in point_rows))
            for (layer, at), point_rows in by_point.items()
            if layer is not None
        )
        before = by_point.get((None, None), [])
        at_subject = {
            layer: point_rows for (layer, at), point_rows in by_point.items() if layer is not None and at == FOUND_AT
        }
        return cls(settings, setting, len(before), _figures(before), points, best_layer(at_subject))

    @classmethod
    def of_dict(cls, row: Mapping[str, Any]) -> SweepReport:
        """Return the report that report.json holds. Raises DataError if it does not hold one."""
        try:
            setting, found = str(row["setting"]), row["found"]
            return cls(
                dict(row["settings"]),
                setting,
                int(row["records"]),
                figures_of(row["before"]),
                tuple(
                    Point(
                        int(point["layer"]), point[setting], figures_of(point["figures"]), int(point.get("faults", 0))
                    )
                    for point in row["points"]
                ),
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
            "setting": self.setting,
            "records": self.records,
            "before": figures_as_dict(self.before),
            "points": [point.as_dict(self.setting) for point in self.points],
            "found": found and {"layer": found.layer, "as_good": list(found.as_good)},
        }

    @property
    def signature(self) -> str:
        """The signature on a line."""
        return signature_string(self.settings)

    @property
    def model(self) -> str:
        """The name of the model."""
        return str(self.settings.get("model", ""))

    @property
    def editor(self) -> str:
        """The name of the editor."""
        return str(self.settings.get("editor", ""))

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers, bottom first."""
        return tuple(sorted({point.layer for point in self.points}))

    @property
    def series(self) -> tuple[At, ...]:
        """The series, in the order in which they were given."""
        return tuple(dict.fromkeys(point.at for point in self.points))

    def curve(self, at: At, figure: str) -> list[tuple[int, Figure]]:
        """Return (layer, figure) of a series, bottom first, where the figure is known."""
        points = sorted((point for point in self.points if point.at == at), key=lambda point: point.layer)
        return [(point.layer, point.figures[figure]) for point in points if figure in point.figures]


def _figures(rows: Sequence[SweptRow]) -> dict[str, Figure]:
    return rounded(figures_over(_values(rows)))


def _values(rows: Sequence[SweptRow]) -> dict[str, list[float | None]]:
    return {name: [row.values.get(name) for row in rows] for name in FIGURES_SWEPT}


def best_layer(rows: Mapping[int, Sequence[SweptRow]]) -> FoundLayer | None:
    """Return the layer to edit, from the rows of one series by layer; None where no layer has an S.

    Only layers at which the fewest edits failed count. Those are as good as the one of the highest S of whose paired
    difference of S, record by record, the 95% interval reaches 0. Among them it is the one whose S has the highest
    mean with that of the layers next to it, as far as they count; of equal ones the lowest.
    """
    scored = {layer: figures["S"].mean for layer, some in rows.items() if "S" in (figures := _figures(some))}
    if not scored:
        return None
    faults = {layer: sum(row.fault is not None for row in rows[layer]) for layer in scored}
    counting = {layer: scored[layer] for layer in sorted(scored) if faults[layer] == min(faults.values())}
    top = max(counting, key=lambda layer: (counting[layer], -layer))
    differences = {layer: _difference(rows[top], rows[layer]) for layer in counting}
    as_good = tuple(layer for layer, one in differences.items() if one is None or one.mean + one.half_width >= 0)

    def smoothed(layer: int) -> float:
        near = [counting[layer + step] for step in NEIGHBORS if layer + step in counting]
        return round(sum(near) / len(near), 6)  # equal means stay equal whatever the order of the sum

    return FoundLayer(max(as_good, key=lambda layer: (smoothed(layer), -layer)), as_good)


def _difference(first: Sequence[SweptRow], second: Sequence[SweptRow]) -> Figure | None:
    """Return S of `second` minus S of `first` over the records that both have."""
    sides = CaseValues(), CaseValues()
    for side, rows in zip(sides, (first, second), strict=True):
        side.extend([row.case_id for row in rows], _values(rows))
    return paired_differences(*sides).get("S")


def label(at: At) -> str:
    """Return a series' name: a token's, or a bound in digits."""
    return at if isinstance(at, str) else "none" if at is None else f"{at:g}"


def read_sweep(sweep: Run) -> SweepReport:
    """Return the report of a finished sweep. Raises DataError naming the file that holds none."""
    try:
        return SweepReport.of_dict(read_json(sweep.path(REPORT)))
    except DataError as error:
        raise DataError(f"{sweep.path(REPORT)}: {error}") from None


# ------------------------------------------------------------------------------------------- the preset of a model


def found_preset(report: SweepReport, revision: str) -> dict[str, Any]:
    """Return the content of a sweep's preset file; `revision` names the model's exact weights.

    Raises ValueError for a sweep that found no layer.
    """
    if report.found is None:
        raise ValueError("the sweep found no layer")
    best = next(point for point in report.points if (point.layer, point.at) == (report.found.layer, FOUND_AT))
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
    """Return the layer that a build's sweeps recommend for a model: that of the most layers times records.

    Raises ConfigError where there is no sweep of these weights, DataError for a file that is no preset,
    BuildStateError for one that was changed.
    """
    sweeps = (sweep for sweep in finished_sweeps(folder) if sweep.file(FOUND) in sweep.record.files)
    files = [sweep.file(FOUND) for sweep in sweeps if sweep.path(FOUND).is_file()]
    command = f"`cfbuild sweep --build {folder.root} --model {model}`"
    if not files:
        raise ConfigError(
            f"--layer auto: no sweep in {folder.root} found a layer; run {command} first, or give a number"
        )
    folder.refuse_changed(files)
    found = [(name, _preset(folder.path(name))) for name in files]
    own = [(size, layer) for _, (_, its_revision, layer, size) in found if its_revision == revision]
    if not own:
        others = "; ".join(f"{name}: {its_model} ({its})" for name, (its_model, its, _, _) in found)
        raise ConfigError(
            f"--layer auto: the layers found in {folder.root} are other models' ({others}), not that of {model} "
            f"({revision}); run {command} first, or give a number"
        )
    return max(own, key=lambda pair: pair[0])[1]


def _preset(path: Path) -> tuple[str, str, int, int]:
    """Return a preset file's model, revision, layer, and number of layers times records."""
    content = read_json(path)
    try:
        size = int(content["found"]["layers"]) * int(content["found"]["records"])
        return str(content["model"]), str(content["revision"]), int(content["settings"]["layer"]), size
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: is not a preset that a sweep wrote ({type(error).__name__}: {error})") from error
