"""Records edited and scored at every point of a sweep, resumably: a point is a layer and a series.

What the points share is made once: the scores before any edit, the contexts, and C of all layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from cfbuild.data import Record, StageScore
from cfbuild.edit.editor import Edit, OpenEditor, editor_spec, open_editor
from cfbuild.edit.supplies import LastSupplies, ModelSupplies
from cfbuild.lm.model import LanguageModel
from cfbuild.progress import Progress, silent
from cfbuild.score.cases import GroupScores
from cfbuild.score.metrics import DIGITS, prompt_values
from cfbuild.score.passes import count_edits, request_of
from cfbuild.score.swept import FIGURES_SWEPT, GROUPS_SWEPT, Series, SweptRow
from cfbuild.store.rowlog import RowLog

RECORDS_AT_ONCE = 20
"""Records of a point that are edited and scored at once: the most that an interruption loses, and the default of
`--limit`. The bytes depend on it, so it is fixed."""
LayerAndSeries = tuple[int | None, Series]
UNEDITED: LayerAndSeries = (None, None)
"""The point of the unedited model's scores."""


@dataclass(frozen=True)
class Sweep:
    """Records to be edited at every layer and with every value of the swept setting; their scores are the sweep's rows.

    `folder` is where unfinished work is kept, `series` the values of `swept_setting`, `settings` the editor's others.
    """

    folder: Path
    lm: LanguageModel
    editor: str
    settings: Mapping[str, Any]
    supplies: ModelSupplies
    layers: Sequence[int]
    swept_setting: str
    series: Sequence[Series]
    records: Sequence[Record]
    progress: Progress = silent

    def work_off(self) -> list[SweptRow]:
        """Edit and score at the points that are not in the log yet; return all rows, the unedited model's first."""
        log = RowLog(self.folder / "rows.jsonl")
        known = {(row.layer, row.series, row.case_id) for row in self._rows_of(log)}
        points = [UNEDITED, *self._points]
        missing = [[point for point in points if (*point, chunk[0].case_id) not in known] for chunk in self._chunks]
        if any(missing) and "covariance" in editor_spec(self.editor).needs:
            self.supplies.gather(self.layers)
        for number, chunk_missing in enumerate(missing):
            if chunk_missing:
                self._work_off(log, number, chunk_missing)
        total = len(self._points) * len(self._chunks)
        self.progress("points", total, total)
        return self._in_order(self._rows_of(log))

    def _work_off(self, log: RowLog, number: int, missing: Sequence[LayerAndSeries]) -> None:
        """Edit and score chunk `number` at the points that are missing."""
        chunk = self._chunks[number]
        scores = GroupScores(self.lm, chunk, GROUPS_SWEPT, self.layers)
        finished, total = number * len(self._points), len(self._points) * len(self._chunks)
        for place, point in enumerate((UNEDITED, *self._points)):
            if point not in missing:
                continue
            if point == UNEDITED:
                scored = scores.before()
            else:
                self.progress("points", finished + place - 1, total)
                edits_before = finished * RECORDS_AT_ONCE + (place - 1) * len(chunk)
                scored = scores.after(self._edits(chunk, point, edits_before))
            log.append(row.as_dict(self.swept_setting) for row in _rows(chunk, point, scored))

    def _edits(self, chunk: Sequence[Record], point: LayerAndSeries, before: int) -> list[Edit]:
        """Return the edit of each record of a chunk at a point; `before` edits were made before."""
        done = partial(count_edits, self.progress, before, len(self.records) * len(self._points))
        made = self.open_editor(*point).edit([request_of(record) for record in chunk], done)
        edits = {place: edit for edit in made for place in edit.records}
        return [edits[place] for place in range(len(chunk))]

    def open_editor(self, layer: int | None, series: Series) -> OpenEditor:
        """Return the editor of a point."""
        settings = {**self.settings, "layer": layer, self.swept_setting: series}
        return open_editor(self.editor, self.lm, settings, self._last_supplies)

    @cached_property
    def _points(self) -> list[LayerAndSeries]:
        return [(layer, series) for layer in self.layers for series in self.series]

    @cached_property
    def _chunks(self) -> list[Sequence[Record]]:
        starts = range(0, len(self.records), RECORDS_AT_ONCE)
        return [self.records[start : start + RECORDS_AT_ONCE] for start in starts]

    @cached_property
    def _last_supplies(self) -> LastSupplies:
        return LastSupplies(self.supplies)

    def _rows_of(self, log: RowLog) -> Iterator[SweptRow]:
        return (SweptRow.of_dict(row, self.swept_setting) for row in log.rows(log.entries))

    def _in_order(self, rows: Iterable[SweptRow]) -> list[SweptRow]:
        """Return the rows in the order of the points, the unedited model's first, and of the records."""
        points = {point: number for number, point in enumerate(self._points)}
        places = {record.case_id: number for number, record in enumerate(self.records)}
        return sorted(rows, key=lambda row: (points.get((row.layer, row.series), -1), places[row.case_id]))


def _rows(chunk: Sequence[Record], point: LayerAndSeries, scored: Sequence[StageScore | str]) -> list[SweptRow]:
    """Return a row for each record of a chunk. scored: its scores, or why there are none."""
    columns = prompt_values([outcome if isinstance(outcome, StageScore) else None for outcome in scored])
    rows = []
    for place, (record, outcome) in enumerate(zip(chunk, scored, strict=True)):
        measured = {name: columns[name][place] for name in FIGURES_SWEPT}
        values = {name: round(value, DIGITS) for name, value in measured.items() if value is not None}
        fault = outcome if isinstance(outcome, str) else None
        rows.append(SweptRow(record.case_id, record.relation, *point, values, fault))
    return rows
