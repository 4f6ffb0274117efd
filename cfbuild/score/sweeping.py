"""Records edited and scored at every point of a sweep, resumably: a point is a layer and a value of one setting.

Whatever the points share is made once: the scores before any edit, the contexts, C of all layers by one pass over the
texts, C of a layer for all of its points.
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
from cfbuild.score.cases import score_groups
from cfbuild.score.metrics import DIGITS, prompt_values
from cfbuild.score.passes import count_edits, request_of
from cfbuild.score.swept import FIGURES_SWEPT, GROUPS_SWEPT, At, SweptRow
from cfbuild.store.rowlog import RowLog

RECORDS_AT_ONCE = 20
"""Records of a point that are edited and scored together: what an interruption loses, at most, and the default of
`--limit`. The bytes depend on it, so it is fixed."""


@dataclass(frozen=True)
class Sweep:
    """Records to be edited at every layer under each of several values of a setting (`series` of `setting`).

    `folder` is where unfinished work is kept; `asked` holds the editor's other settings.
    """

    folder: Path
    lm: LanguageModel
    editor: str
    asked: Mapping[str, Any]
    supplies: ModelSupplies
    layers: Sequence[int]
    setting: str
    series: Sequence[At]
    records: Sequence[Record]
    progress: Progress = silent

    def work_off(self) -> list[SweptRow]:
        """Edit and score at the points that are not in the log yet; return all rows, the unedited model's first."""
        log = RowLog(self.folder / "rows.jsonl")
        known = {_place(row) for row in self._rows_of(log)}
        chunks = list(_chunks(self.records))
        points = [(chunk, layer, at) for chunk in chunks for layer in self.layers for at in self.series]
        left = [(layer, at, chunk[0].case_id) not in known for chunk, layer, at in points]
        if any(left) and "covariance" in editor_spec(self.editor).needs:
            self.supplies.gather(self.layers)
        for chunk in chunks:
            if (None, None, chunk[0].case_id) not in known:
                log.append(row.as_dict(self.setting) for row in self._unedited(chunk))
        edited = 0
        for number, ((chunk, layer, at), is_left) in enumerate(zip(points, left, strict=True)):
            if is_left:
                self.progress("points", number, len(points))
                rows = self._edited(chunk, self.opened(layer, at), (layer, at), edited)
                log.append(row.as_dict(self.setting) for row in rows)
            edited += len(chunk)
        self.progress("points", len(points), len(points))
        return self._in_order(self._rows_of(log))

    def opened(self, layer: int, at: At) -> OpenEditor:
        """Return the editor of a point."""
        asked = {**self.asked, "layer": layer, self.setting: at}
        return open_editor(self.editor, self.lm, asked, self._last_supplies)

    @cached_property
    def _last_supplies(self) -> LastSupplies:
        return LastSupplies(self.supplies)

    def _rows_of(self, log: RowLog) -> Iterator[SweptRow]:
        return (SweptRow.of_dict(row, self.setting) for row in log.rows(log.entries))

    def _unedited(self, chunk: Sequence[Record]) -> list[SweptRow]:
        return _rows(chunk, None, None, score_groups(self.lm, chunk, GROUPS_SWEPT))

    def _edited(
        self, chunk: Sequence[Record], editor: OpenEditor, point: tuple[int, At], before: int
    ) -> list[SweptRow]:
        """Return a chunk's rows at a point, whose editor is given; `before` edits were made before."""
        in_all = len(self.records) * len(self.layers) * len(self.series)
        done = partial(count_edits, self.progress, before, in_all)
        made = editor.edit([request_of(record) for record in chunk], done)
        edits: dict[int, Edit] = {place: edit for edit in made for place in edit.records}
        scored = score_groups(self.lm, chunk, GROUPS_SWEPT, [edits[place] for place in range(len(chunk))])
        return _rows(chunk, *point, scored)

    def _in_order(self, rows: Iterable[SweptRow]) -> list[SweptRow]:
        """Return rows by layer and series as they were given, the unedited model's first, and by record."""
        order: list[tuple[int | None, At]] = [(layer, at) for layer in self.layers for at in self.series]
        points = {point: number for number, point in enumerate(order)}
        places = {record.case_id: number for number, record in enumerate(self.records)}
        return sorted(rows, key=lambda row: (points.get((row.layer, row.at), -1), places[row.case_id]))


def _chunks(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    for start in range(0, len(records), RECORDS_AT_ONCE):
        yield records[start : start + RECORDS_AT_ONCE]


def _place(row: SweptRow) -> tuple[int | None, At, int]:
    return row.layer, row.at, row.case_id


def _rows(chunk: Sequence[Record], layer: int | None, at: At, scored: Sequence[StageScore | str]) -> list[SweptRow]:
    columns = prompt_values([one if isinstance(one, StageScore) else None for one in scored])
    rows = []
    for place, (record, one) in enumerate(zip(chunk, scored, strict=True)):
        measured = {name: columns[name][place] for name in FIGURES_SWEPT}
        values = {name: round(value, DIGITS) for name, value in measured.items() if value is not None}
        fault = one if isinstance(one, str) else None
        rows.append(SweptRow(record.case_id, record.relation, layer, at, values, fault))
    return rows
