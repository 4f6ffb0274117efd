"""Records edited in one language and asked about in several: passes with more prompts under each edit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from cfbuild.data import CaseScore, Record
from cfbuild.edit.editor import Edit
from cfbuild.progress import Progress
from cfbuild.score.cases import score_cases
from cfbuild.score.passes import Passes, cases_at_once
from cfbuild.store.codec import decode_case, encode_case
from cfbuild.store.jsonl import Row
from cfbuild.store.rowlog import RowLog

LANGUAGE = "language"
"""The key of a row in the log that says in which language was asked."""


@dataclass(frozen=True)
class CrossingPasses(Passes):
    """Passes over records edited in their language and asked about in all of `asked`: by language, then case id."""

    asked: Mapping[str, Mapping[int, Record]] = field(default_factory=dict)

    def _score(self, log: RowLog, left: Sequence[Record], edits: Mapping[int, Edit], running: Progress) -> None:
        size = cases_at_once(self.lm.device)
        for start in range(0, len(left), size):
            chunk = left[start : start + size]
            own = [edits[record.case_id] for record in chunk]
            # A chunk of rows is kept whole or not at all, so every language's cases of a record are there, or none.
            log.append(row for code in self.asked for row in self._rows(code, chunk, own, running))
            self.progress("records", len(log.entries) // len(self.asked), len(self.records))

    def _rows(self, code: str, chunk: Sequence[Record], own: Sequence[Edit], running: Progress) -> Iterator[Row]:
        """Yield the cases of records in a language, under the edits of these records in another."""
        there = [self.asked[code][record.case_id] for record in chunk]
        for case in score_cases(self.lm, there, own, self.editor.name, progress=running):
            yield {**encode_case(case), LANGUAGE: code}

    def cases(self) -> dict[str, list[CaseScore]]:
        """Return the finished cases by the language asked, in the records' order."""
        log = self.log()
        place = {record.case_id: number for number, record in enumerate(self.records)}
        found: dict[str, list[CaseScore]] = {code: [] for code in self.asked}
        for row in log.rows(sorted(log.entries, key=lambda entry: place[entry.case_id])):
            found[row[LANGUAGE]].append(decode_case(row))
        return found
