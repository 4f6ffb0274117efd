"""Records edited and scored: two passes over each unit of records, whose edits are kept between them.

A unit is a chunk of records, each with an edit of its own, or a batch that one edit covers. Edits are work in progress
like finished cases, so a run that is interrupted between the passes goes on with scoring, with the same bytes.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from cfbuild.data import CaseScore, Record, Request
from cfbuild.edit.editor import Edit, OpenEditor
from cfbuild.edit.saved import load_edits, save_edits
from cfbuild.errors import DataError
from cfbuild.lm.memory import PeakMemory, wait_for
from cfbuild.lm.model import LanguageModel
from cfbuild.progress import Progress, Running, silent
from cfbuild.score.cases import score_cases
from cfbuild.score.cost import CallCost, Cost, call_of
from cfbuild.score.fixed_text import with_perplexity
from cfbuild.score.in_use import ObjectNames
from cfbuild.score.texts import ReferenceTexts, Writing
from cfbuild.store.codec import encode_case
from cfbuild.store.jsonl import Row, read_json, write_json, write_jsonl
from cfbuild.store.rowlog import RowLog

CASES_AT_ONCE = 16
"""Records edited and scored together: what an interruption loses, at most. The bytes depend on it, so it is fixed."""
ACCELERATOR_CASES_AT_ONCE = 128
"""The same on accelerators, which 16 records do not keep busy."""
TOGETHER = 100
"""Records that a batch editor edits together by default (AlphaEdit's and UltraEdit's number)."""


class UnfinishedUnit(NamedTuple):
    """A unit that is not finished: its number, how many records come before it, all its records, and those left."""

    number: int
    before: int
    unit: Sequence[Record]
    records: Sequence[Record]


@dataclass(frozen=True)
class Passes:
    """Records to be edited and scored by one editor.

    `folder` is where unfinished work is kept; `batch` the number of records edited together by an editor that does so
    (None: TOGETHER); `texts` the reference texts, without which nothing is generated; `seed` that of the generated
    texts, which the first `texts_of` records get (None: all); `names` the objects' names, without which no answers are
    written; `perplexity` says whether the fixed text's is measured under every edit.
    """

    folder: Path
    lm: LanguageModel
    editor: OpenEditor
    records: Sequence[Record]
    batch: int | None = None
    texts: ReferenceTexts | None = None
    seed: int = 0
    keep_edits: bool = False
    progress: Progress = silent
    texts_of: int | None = None
    names: ObjectNames | None = None
    perplexity: bool = False

    def log(self) -> RowLog:
        """Return the log of finished cases."""
        return RowLog(self.folder / "rows.jsonl")

    def units(self) -> list[list[Record]]:
        """Return the records that are edited by one call each: fixed chunks, or batches that are edited together."""
        if self.editor.together:
            return batches(self.records, self.batch or TOGETHER)
        size = cases_at_once(self.lm.device)
        return [list(self.records[start : start + size]) for start in range(0, len(self.records), size)]

    def work_off(self) -> None:
        """Edit and score the records that are not scored yet, unit by unit."""
        log, running = self.log(), Running(self.progress)
        self.progress("records", len(log.entries), len(self.records))
        for left in self.left(log):
            self._score(log, left.records, self._edits(left), running)
            self._drop_edits(left.number)

    def take_in(self, left: Sequence[UnfinishedUnit], made: Iterable[Sequence[Row]]) -> None:
        """Keep the rows of the units `left` as they are made elsewhere (`rows_of`), in their order."""
        log = self.log()
        self.progress("records", len(log.entries), len(self.records))
        for unit, rows in zip(left, made, strict=True):
            log.append(rows)
            self.progress("records", len(log.entries), len(self.records))
            self._drop_edits(unit.number)

    def rows_of(self, left: UnfinishedUnit) -> list[Row]:
        """Return the rows of a unit's cases that are left; its edits are kept in a file until they are taken in."""
        edits, rows = self._edits(left), list[Row]()
        for cases in self._scored(left.records, edits, Running(self.progress)):
            rows += map(encode_case, cases)
        return rows

    def left(self, log: RowLog) -> list[UnfinishedUnit]:
        """Return the units that are not finished, with their records that are not scored."""
        scored = {entry.case_id for entry in log.entries}
        found, before = [], 0
        for number, unit in enumerate(self.units()):
            records = [record for record in unit if record.case_id not in scored]
            if records or (self.keep_edits and not self._edits_file(number).is_file()):
                found.append(UnfinishedUnit(number, before, unit, records))
            before += len(unit)
        return found

    def _drop_edits(self, number: int) -> None:
        if not self.keep_edits:
            self._edits_file(number).unlink(missing_ok=True)

    def _edits_file(self, number: int) -> Path:
        return self.folder / f"edits-{number:06d}.safetensors"

    def _edits(self, left: UnfinishedUnit) -> dict[int, Edit]:
        """Return the edit of each record of a unit by case id, made now or before an interruption."""
        unit, file = left.unit, self._edits_file(left.number)
        case_ids = [record.case_id for record in unit]
        if file.is_file():
            try:
                return _by_case(load_edits(file), case_ids)
            except DataError:
                file.unlink()  # cut short by whatever ended the run: made again
        requests = [request_of(record) for record in unit]
        with MeasuredCall(self.lm.device, self.folder / f"timing-{left.number:06d}.json", len(unit)):
            made = self.editor.edit(requests, partial(count_edits, self.progress, left.before, len(self.records)))
        named = [replace(edit, records=tuple(case_ids[place] for place in edit.records)) for edit in made]
        save_edits(file, named)
        return _by_case(named, case_ids)

    def _score(self, log: RowLog, left: Sequence[Record], edits: Mapping[int, Edit], running: Progress) -> None:
        for cases in self._scored(left, edits, running):
            log.append(map(encode_case, cases))
            self.progress("records", len(log.entries), len(self.records))

    def _scored(
        self, left: Sequence[Record], edits: Mapping[int, Edit], running: Progress
    ) -> Iterator[Sequence[CaseScore]]:
        """Yield the cases of records chunk by chunk."""
        writing = self._writing()
        size = cases_at_once(self.lm.device)
        for start in range(0, len(left), size):
            chunk = left[start : start + size]
            own = [edits[record.case_id] for record in chunk]
            cases = score_cases(self.lm, chunk, own, self.editor.name, writing, running)
            yield with_perplexity(self.lm, cases, [one.delta for one in own], running) if self.perplexity else cases

    def _writing(self) -> Writing:
        first = None if self.texts_of is None else frozenset(one.case_id for one in self.records[: self.texts_of])
        return Writing(self.texts, self.seed, self.names, first)

    def cost(self) -> Cost | None:
        """Return what the edits took, or None where that is not known of all records."""
        try:
            calls = [call_of(read_json(path)) for path in sorted(self.folder.glob("timing-*.json"))]
        except (DataError, KeyError, TypeError, ValueError):
            return None  # a measurement that was damaged is none; the run's figures do not rest on it
        cost = Cost.of_calls(calls, self.lm.device.type)
        return cost if cost is not None and cost.records == len(self.records) else None

    def write_cases(self, path: Path) -> int:
        """Write the finished cases in the records' order; return their number."""
        log = self.log()
        place = {record.case_id: number for number, record in enumerate(self.records)}
        entries = sorted(log.entries, key=lambda entry: place[entry.case_id])
        path.parent.mkdir(parents=True, exist_ok=True)
        return write_jsonl(path, log.rows(entries))

    def write_edits(self, path: Path) -> int:
        """Write the edits, whose `records` are case ids; return their number. They must have been kept."""
        edits = [edit for number in range(len(self.units())) for edit in load_edits(self._edits_file(number))]
        save_edits(path, edits)
        return len(edits)


class MeasuredCall:
    """A context that writes the cost of an editor's call into a file, which is kept like other work in progress."""

    def __init__(self, device: torch.device, path: Path, records: int) -> None:
        self._device, self._path, self._records = device, path, records
        self._memory = PeakMemory(device)

    def __enter__(self) -> None:
        self._memory.__enter__()
        self._began = time.perf_counter()

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        wait_for(self._device)
        seconds = time.perf_counter() - self._began
        self._memory.__exit__(kind, *rest)
        if kind is None:
            write_json(self._path, asdict(CallCost(self._records, round(seconds, 6), self._memory.rise_bytes)))


def cases_at_once(device: torch.device) -> int:
    """Return the number of records that are edited and scored together on a device."""
    return CASES_AT_ONCE if device.type == "cpu" else ACCELERATOR_CASES_AT_ONCE


def batches(records: Sequence[Record], size: int) -> list[list[Record]]:
    """Return records in batches of `size` that are edited together, in order, no two of a batch about one (s, r).

    A record whose fact another of the batch is about goes into a later batch: one edit cannot make both true.
    """
    filled: list[list[Record]] = []
    facts: list[set[tuple[str, str]]] = []
    first_open = 0
    for record in records:
        fact = fact_of(record)
        number = first_open
        while number < len(filled) and (len(filled[number]) >= size or fact in facts[number]):
            number += 1
        if number == len(filled):
            filled.append([])
            facts.append(set())
        filled[number].append(record)
        facts[number].add(fact)
        while first_open < len(filled) and len(filled[first_open]) >= size:
            first_open += 1
    return filled


def fact_of(record: Record) -> tuple[str, str]:
    """Return what a record is about, (s, r): two of them conflict where it is the same."""
    return record.subject.id or record.subject.label, record.relation


def request_of(record: Record) -> Request:
    """Return the request that an editor gets for a record."""
    paraphrases = tuple(paraphrase.clean for paraphrase in record.paraphrases)
    targets = record.target_new.label, record.target_true.label
    return Request(record.prompt.text, record.subject.label, *targets, paraphrases)


def _by_case(edits: Sequence[Edit], case_ids: Sequence[int]) -> dict[int, Edit]:
    found = {case_id: edit for edit in edits for case_id in edit.records}
    if set(found) != set(case_ids):
        raise DataError("edits of other records than the unit's")
    return found


def count_edits(progress: Progress, before: int, total: int, count: int) -> None:
    """Report that `count` edits of a call are made, and `before` of `total` before it."""
    progress("edits", before + count, total)
