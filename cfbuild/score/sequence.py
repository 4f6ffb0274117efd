"""Batches of records edited one after another on the same model, and what is left of each edit at the end.

Each batch is edited in the model as the batches before it left it. Its records are scored right after it, against the
unedited model like those of any run. At some points samples of the earlier records are scored again, and all of them at
the end. The sum of the changes, the editor's state and the readings are kept after every batch, so an interrupted
sequence goes on after its last batch, with the same bytes.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from cfbuild.data import CaseScore, Record
from cfbuild.edit.editor import Edit, State, failed_edit
from cfbuild.edit.saved import load_edits_and_state, save_edits
from cfbuild.errors import DataError, EditError
from cfbuild.lm.delta import Delta, applied, summed
from cfbuild.lm.model import LanguageModel
from cfbuild.progress import Running
from cfbuild.score.cases import no_edits, score_cases
from cfbuild.score.curve import Reading, SequenceCurve, shown_means, with_right_after
from cfbuild.score.fixed_text import perplexity
from cfbuild.score.metrics import aggregate, rounded
from cfbuild.score.passes import (
    TOGETHER,
    MeasuredCall,
    Passes,
    batches,
    chunks,
    count_edits,
    fact_of,
    request_of,
    with_case_ids,
)
from cfbuild.store.codec import decode_case, encode_case
from cfbuild.store.jsonl import read_json, write_json, write_jsonl
from cfbuild.store.rowlog import RowLog

POINTS = 20
"""The most points of a curve: each costs the scoring of two samples."""
SAMPLE = 50
"""Records of a sample: at that many a share has a standard error of 7 points at most."""


@dataclass(frozen=True)
class SequentialPasses(Passes):
    """Passes over records in batches that follow each other on the same model. batch: as for `batch_size`."""

    def units(self) -> list[list[Record]]:
        """Return the batches."""
        return batches(self.records, self._size)

    @property
    def _size(self) -> int:
        return batch_size(self.batch, self.editor.together)

    def work_off(self) -> None:
        """Edit and score batch after batch, then all records once more on the model after all of them."""
        log, running, units = self.log(), Running(self.progress), self.units()
        so_far, readings = self._resumed(log, units)
        scored = {entry.case_id for entry in log.entries}
        self.progress("records", len(scored), len(self.records))
        for number in range(max(so_far.count - 1, 0), len(units)):
            if number == so_far.count:
                so_far = self._edit(so_far, units, readings)
            unscored = [record for record in units[number] if record.case_id not in scored]
            if unscored:
                self._score(log, unscored, so_far.edits, running)
            if number == len(readings):
                readings.append(self._read(units, number, so_far.total))
                write_json(self._readings_file, [reading.as_dict() for reading in readings])
        self._score_again(log, units, so_far.total)

    def _resumed(self, log: RowLog, units: Sequence[Sequence[Record]]) -> tuple[_SoFar, list[Reading]]:
        """Return the last whole state and its readings; those before the first batch where nothing whole is kept."""
        for file in sorted(self.folder.glob("after-*.safetensors"), reverse=True):
            try:
                so_far = _SoFar.load(file, self.lm)
                kept = read_json(self._readings_file) if self._readings_file.is_file() else []
                readings = [Reading.of_dict(row) for row in kept]
            except (DataError, KeyError, TypeError, ValueError):
                continue
            before = {record.case_id for unit in units[: so_far.count - 1] for record in unit}
            is_whole = before <= {entry.case_id for entry in log.entries} and len(readings) >= so_far.count - 1
            if is_whole and so_far.count <= len(units):
                return so_far, readings[: so_far.count]
        return _SoFar(0, None, {}, {}), []

    @property
    def _readings_file(self) -> Path:
        return self.folder / "readings.json"

    def _edit(self, so_far: _SoFar, units: Sequence[Sequence[Record]], readings: Sequence[Reading]) -> _SoFar:
        """Return the state after the next batch, which replaces the kept one."""
        number, unit = so_far.count, units[so_far.count]
        case_ids = [record.case_id for record in unit]
        if fault := collapse(readings):
            edits, total, state = [Edit(tuple(range(len(unit))), None, fault=fault)], so_far.total, so_far.state
        else:
            edits, total, state = self._edit_next(so_far, unit, sum(map(len, units[:number])))
        named = with_case_ids(edits, case_ids)
        if self.keep_edits:
            save_edits(self._edits_file(number), named)
        _SoFar(number + 1, total, {}, state).with_edits(named).save(self.folder)
        if number:
            _file(self.folder, number).unlink(missing_ok=True)
        # Read back, as after an interruption: a tensor's layout in memory decides the last bits of its products.
        return _SoFar.load(_file(self.folder, number + 1), self.lm)

    def _edit_next(self, so_far: _SoFar, unit: Sequence[Record], before: int) -> tuple[list[Edit], Delta | None, State]:
        """Return a batch's edits, the sum of all changes with theirs, and the editor's state. before: records edited.

        Raises EditError if the editor changes no weights.
        """
        done = partial(count_edits, self.progress, before, len(self.records))
        timing = self.folder / f"timing-{so_far.count:06d}.json"
        with _applied(self.lm, so_far.total), MeasuredCall(self.lm.device, timing, len(unit)):
            edits, state = self.editor.edit_after(so_far.state, [request_of(record) for record in unit], done)
        if any(edit.prefix for edit in edits):
            raise EditError(
                f"the editor {self.editor.name} puts a text in front of prompts and changes no weight, so nothing of a "
                "batch is left for the next; run it without --sequence"
            )
        deltas = [edit.delta for edit in edits if edit.delta is not None]
        total = summed([*([so_far.total] if so_far.total else []), *deltas])
        if total is not None and not total.is_finite():
            return [failed_edit(edit.records, edit.statistics) for edit in edits], so_far.total, so_far.state
        return edits, total.to(self.lm.device) if total else None, state

    def _read(self, units: Sequence[Sequence[Record]], number: int, total: Delta | None) -> Reading:
        """Return the measurements after batch `number`, with the means of samples at the curve's points only."""
        points = curve_points(len(units))
        edits = sum(map(len, units[: number + 1]))
        reading = Reading(edits, perplexity(self.lm, total))
        if number not in points or reading.perplexity is None:
            return reading
        edited = not_overwritten(units[: number + 1])
        first = {record.case_id for unit in units[: points[0] + 1] for record in unit}
        samples = self._sample([record for record in edited if record.case_id in first]), self._sample(edited)
        records = {record.case_id: record for sample in samples for record in sample}
        brief = [replace(record, attribute=(), groups={}) for record in records.values()]
        cases = {case.case_id: case for case in self._under(total, brief)}
        of_first, of_all = (shown_means([cases[record.case_id] for record in sample], "pre") for sample in samples)
        return replace(reading, first=of_first, so_far=of_all)

    def _sample(self, records: Sequence[Record]) -> list[Record]:
        """Return at most SAMPLE of the records: the first in a random order that is the same at all points."""
        order = [record.case_id for record in self.records]
        random.Random(f"{self.seed}:retention").shuffle(order)
        place = {case_id: number for number, case_id in enumerate(order)}
        return sorted(records, key=lambda record: place[record.case_id])[:SAMPLE]

    def _under(self, total: Delta | None, records: Sequence[Record]) -> list[CaseScore]:
        """Return the cases of records whose `pre` are scores of the model under the change `total`."""
        with _applied(self.lm, total):
            return score_cases(self.lm, records, no_edits(len(records)), self.editor.name)

    def retained_log(self) -> RowLog:
        """Return the log of the cases that are scored at the end."""
        return RowLog(self.folder / "retained.jsonl")

    def _score_again(self, log: RowLog, units: Sequence[Sequence[Record]], total: Delta | None) -> None:
        """Score the records that no later batch overwrote, on the model after all edits."""
        again = self.retained_log()
        done = {entry.case_id for entry in again.entries}
        retained = not_overwritten(units)
        earlier = {entry.case_id: entry for entry in log.entries}
        for chunk in chunks([record for record in retained if record.case_id not in done], self.lm.device):
            self.progress("records at the end", len(again.entries), len(retained))
            before = map(decode_case, log.rows([earlier[record.case_id] for record in chunk]))
            pairs = zip(before, self._under(total, chunk), strict=True)
            again.append(encode_case(_at_the_end(case, now)) for case, now in pairs)
        self.progress("records at the end", len(retained), len(retained))

    def write_retained(self, path: Path) -> int:
        """Write the cases at the end in the records' order; return their number."""
        return write_jsonl(path, self.in_order(self.retained_log()))

    def curve(self) -> SequenceCurve:
        """Return the measurements of the finished sequence."""
        log, units = self.log(), self.units()
        entries = {entry.case_id: entry for entry in log.entries}
        cases = list(map(decode_case, log.rows([entries[record.case_id] for unit in units for record in unit])))
        readings = [Reading.of_dict(row) for row in read_json(self._readings_file)]
        again = self.retained_log()
        return SequenceCurve(
            self._size,
            perplexity(self.lm, None),
            with_right_after(readings, cases),
            rounded(aggregate(list(map(decode_case, again.rows(again.entries))), "post")),
            overwritten=len(self.records) - len(again.entries),
            fault=collapse(readings),
        )


@dataclass(frozen=True)
class _SoFar:
    """The sequence after `count` batches: the sum of all changes, the last batch's edits by case, the editor's state.

    The delta of each of these edits is `total` too, under which their records are scored.
    """

    count: int
    total: Delta | None
    edits: dict[int, Edit]
    state: State

    def with_edits(self, edits: Sequence[Edit]) -> _SoFar:
        """Return the sequence with the edits of its last batch, whose `records` are case ids."""
        scored = [replace(edit, delta=self.total if edit.fault is None else None) for edit in edits]
        return replace(self, edits={case_id: edit for edit in scored for case_id in edit.records})

    def save(self, folder: Path) -> None:
        """Write the state to a file in `folder`, with `total` only once."""
        edits = {id(edit): replace(edit, delta=None) for edit in self.edits.values()}
        save_edits(_file(folder, self.count), [Edit((), self.total), *edits.values()], self.state)

    @classmethod
    def load(cls, file: Path, lm: LanguageModel) -> _SoFar:
        """Return the state that `save` wrote. Raises DataError for any other file."""
        (summed_up, *edits), state = load_edits_and_state(file)
        total = summed_up.delta.to(lm.device) if summed_up.delta else None
        return cls(int(file.stem.removeprefix("after-")), total, {}, state).with_edits(edits)


def _file(folder: Path, count: int) -> Path:
    return folder / f"after-{count:06d}.safetensors"


def _applied(lm: LanguageModel, total: Delta | None) -> AbstractContextManager[None]:
    return applied(lm, total) if total is not None else nullcontext()


def batch_size(batch: int | None, together: bool) -> int:
    """Return the most records of a batch: `batch`, or by default TOGETHER if the editor edits `together`, else 1."""
    return batch or (TOGETHER if together else 1)


def edited_records(records: Sequence[Record], size: int, most: int) -> list[Record]:
    """Return the records of the first `most` batches of `size` records (0: of all batches), in the records' order."""
    chosen = {record.case_id for batch in batches(records, size)[: most or None] for record in batch}
    return [record for record in records if record.case_id in chosen]


def not_overwritten(units: Sequence[Sequence[Record]]) -> list[Record]:
    """Return the records of batches, in their order, whose fact no later batch edits again."""
    last = {fact_of(record): record.case_id for unit in units for record in unit}
    return [record for unit in units for record in unit if last[fact_of(record)] == record.case_id]


def curve_points(count: int) -> list[int]:
    """Return the numbers of the batches, of `count`, after which samples are scored: evenly spread, with the last."""
    points = min(POINTS, count)
    return [(place + 1) * count // points - 1 for place in range(points)]


def collapse(readings: Sequence[Reading]) -> str | None:
    """Return the fault of all edits after the model collapsed; None if it has not."""
    for reading in readings:
        if reading.perplexity is None:
            return f"the model had collapsed after {reading.edits} edits: the fixed text's perplexity is not finite"
    return None


def _at_the_end(case: CaseScore, now: CaseScore) -> CaseScore:
    """Return a case with its scores at the end in place of those right after its edit; a fault stays."""
    fault = case.fault or (now.fault and "likelihoods at the end are not finite")
    return replace(case, pre=replace(case.pre, generations=()), post=None if fault else now.pre, fault=fault)
