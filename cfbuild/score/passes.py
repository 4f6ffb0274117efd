"""Records edited and scored, unit by unit: a pass that edits a unit's records, and a pass that scores them.

A unit is a chunk of records, each with an edit of its own, or a batch of records that are edited together. Edits are
kept like finished cases, so a run that is interrupted between the passes goes on with scoring, with the same bytes.
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
"""Records edited and scored at once: the most that an interruption loses. The bytes depend on it, so it is fixed."""
ACCELERATOR_CASES_AT_ONCE = 128
"""The same on accelerators, which 16 records do not keep busy."""
TOGETHER = 100
"""Records that a batch editor edits together by default (AlphaEdit's and UltraEdit's number)."""


class UnfinishedUnit(NamedTuple):
    """A unit that is not finished: its number, the number of records before it, its records, and the unscored ones."""

    number: int
    before: int
    records: Sequence[Record]
    unscored: Sequence[Record]


@dataclass(frozen=True)
class Passes:
    """Records to be edited and scored by one editor; `folder` is where unfinished work is kept.

    batch: the number of records edited together by an editor that does so (None: TOGETHER).
    texts: the reference texts, without which no texts are generated; the first `texts_of` records get some (None: all).
    names: the objects' names, without which no answers are written.
    keep_edits: whether edits are kept after their records are scored.
    perplexity: whether the fixed text's is measured under every edit.
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
        """Return the records in units, each edited by one call."""
        if self.editor.together:
            return batches(self.records, self.batch or TOGETHER)
        return list(map(list, chunks(self.records, self.lm.device)))

    def work_off(self) -> None:
        """Edit and score the records that are not scored yet, unit by unit."""
        log, running = self.log(), Running(self.progress)
        self.progress("records", len(log.entries), len(self.records))
        for unit in self.unfinished(log):
            self._score(log, unit.unscored, self._edits(unit), running)
            self._drop_edits(unit.number)

    def take_in(self, units: Sequence[UnfinishedUnit], made: Iterable[Sequence[Row]]) -> None:
        """Add the rows of unfinished units to the log, in their order. made: what `rows_of` returned for each."""
        log = self.log()
        self.progress("records", len(log.entries), len(self.records))
        for unit, rows in zip(units, made, strict=True):
            log.append(rows)
            self.progress("records", len(log.entries), len(self.records))
            self._drop_edits(unit.number)

    def rows_of(self, unit: UnfinishedUnit) -> list[Row]:
        """Return the rows of a unit's unscored records, edited and scored now; its edits stay until `take_in`."""
        edits, rows = self._edits(unit), list[Row]()
        for cases in self._scored(unit.unscored, edits, Running(self.progress)):
            rows += map(encode_case, cases)
        return rows

    def unfinished(self, log: RowLog) -> list[UnfinishedUnit]:
        """Return the units with records that are not in the log, or without the edits that must be kept."""
        scored = {entry.case_id for entry in log.entries}
        found, before = [], 0
        for number, records in enumerate(self.units()):
            unscored = [record for record in records if record.case_id not in scored]
            if unscored or (self.keep_edits and not self._edits_file(number).is_file()):
                found.append(UnfinishedUnit(number, before, records, unscored))
            before += len(records)
        return found

    def _drop_edits(self, number: int) -> None:
        if not self.keep_edits:
            self._edits_file(number).unlink(missing_ok=True)

    def _edits_file(self, number: int) -> Path:
        return self.folder / f"edits-{number:06d}.safetensors"

    def _edits(self, unit: UnfinishedUnit) -> dict[int, Edit]:
        """Return the edit of each record of a unit by case id, made now or before an interruption."""
        file, case_ids = self._edits_file(unit.number), [record.case_id for record in unit.records]
        if file.is_file():
            try:
                return _by_case(load_edits(file), case_ids)
            except DataError:
                file.unlink()  # the run ended while the file was written
        requests = [request_of(record) for record in unit.records]
        with MeasuredCall(self.lm.device, self.folder / f"timing-{unit.number:06d}.json", len(requests)):
            made = self.editor.edit(requests, partial(count_edits, self.progress, unit.before, len(self.records)))
        named = with_case_ids(made, case_ids)
        save_edits(file, named)
        return _by_case(named, case_ids)

    def _score(self, log: RowLog, unscored: Sequence[Record], edits: Mapping[int, Edit], running: Progress) -> None:
        for cases in self._scored(unscored, edits, running):
            log.append(map(encode_case, cases))
            self.progress("records", len(log.entries), len(self.records))

    def _scored(
        self, unscored: Sequence[Record], edits: Mapping[int, Edit], running: Progress
    ) -> Iterator[Sequence[CaseScore]]:
        """Yield the cases of records chunk by chunk."""
        with_texts = self.records[: self.texts_of]
        case_ids = None if self.texts_of is None else frozenset(record.case_id for record in with_texts)
        writing = Writing(self.texts, self.seed, self.names, case_ids)
        for chunk in chunks(unscored, self.lm.device):
            chunk_edits = [edits[record.case_id] for record in chunk]
            cases = score_cases(self.lm, chunk, chunk_edits, self.editor.name, writing, running)
            deltas = [edit.delta for edit in chunk_edits]
            yield with_perplexity(self.lm, cases, deltas, running) if self.perplexity else cases

    def cost(self) -> Cost | None:
        """Return the cost of the edits, or None where it is not known of all records."""
        try:
            calls = [call_of(read_json(path)) for path in sorted(self.folder.glob("timing-*.json"))]
        except (DataError, KeyError, TypeError, ValueError):
            return None  # no figure of the run depends on a damaged measurement
        cost = Cost.of_calls(calls, self.lm.device.type)
        return cost if cost is not None and cost.records == len(self.records) else None

    def in_order(self, log: RowLog) -> Iterator[Row]:
        """Yield the rows of a log in the records' order."""
        place = {record.case_id: number for number, record in enumerate(self.records)}
        return log.rows(sorted(log.entries, key=lambda entry: place[entry.case_id]))

    def write_cases(self, path: Path) -> int:
        """Write the finished cases in the records' order; return their number."""
        path.parent.mkdir(parents=True, exist_ok=True)
        return write_jsonl(path, self.in_order(self.log()))

    def write_edits(self, path: Path) -> int:
        """Write the edits, whose `records` are case ids; return their number. They must have been kept."""
        edits = [edit for number in range(len(self.units())) for edit in load_edits(self._edits_file(number))]
        save_edits(path, edits)
        return len(edits)


class MeasuredCall:
    """A context that measures an editor's call for `records` records and writes its cost to the file `path`."""

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
    """Return the number of records that are edited and scored at once on a device."""
    return CASES_AT_ONCE if device.type == "cpu" else ACCELERATOR_CASES_AT_ONCE


def chunks(records: Sequence[Record], device: torch.device) -> Iterator[Sequence[Record]]:
    """Yield the records in chunks of `cases_at_once`, in order."""
    size = cases_at_once(device)
    return (records[start : start + size] for start in range(0, len(records), size))


def batches(records: Sequence[Record], size: int) -> list[list[Record]]:
    """Return the records in batches of `size`, in order, each of them about other subjects and relations.

    One edit cannot make two objects of a fact true, so the second record goes into a later batch.
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
    """Return the subject and the relation of a record; two records with the same contradict each other."""
    return record.subject.id or record.subject.label, record.relation


def request_of(record: Record) -> Request:
    """Return the request that an editor gets for a record."""
    paraphrases = tuple(paraphrase.clean for paraphrase in record.paraphrases)
    targets = record.target_new.label, record.target_true.label
    return Request(record.prompt.text, record.subject.label, *targets, paraphrases)


def with_case_ids(edits: Iterable[Edit], case_ids: Sequence[int]) -> list[Edit]:
    """Return the edits with case ids as their `records`, which were places in `case_ids`."""
    return [replace(edit, records=tuple(case_ids[place] for place in edit.records)) for edit in edits]


def _by_case(edits: Sequence[Edit], case_ids: Sequence[int]) -> dict[int, Edit]:
    found = {case_id: edit for edit in edits for case_id in edit.records}
    if set(found) != set(case_ids):
        raise DataError("edits of other records than the unit's")
    return found


def count_edits(progress: Progress, before: int, total: int, count: int) -> None:
    """Report `count` edits of a call, and the `before` edits of earlier calls, of `total` in all."""
    progress("edits", before + count, total)
