"""Records edited in one language and asked about in several: passes with more prompts under each edit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from cfbuild.data import CaseScore, Record
from cfbuild.edit.editor import Edit
from cfbuild.progress import Progress
from cfbuild.score.cases import score_cases
from cfbuild.score.passes import Passes, chunks
from cfbuild.store.codec import decode_case, encode_case
from cfbuild.store.jsonl import Row
from cfbuild.store.rowlog import RowLog

LANGUAGE = "language"
"""The key of a row in the log for the language of the prompts."""


@dataclass(frozen=True)
class CrossingPasses(Passes):
    """Passes over records edited in one language and asked about in all of `by_language`, where they are by case id."""

    by_language: Mapping[str, Mapping[int, Record]] = field(default_factory=dict)

    def _score(self, log: RowLog, unscored: Sequence[Record], edits: Mapping[int, Edit], running: Progress) -> None:
        for chunk in chunks(unscored, self.lm.device):
            chunk_edits = [edits[record.case_id] for record in chunk]
            # A log keeps rows appended together whole or not at all, so no record is left with only some languages.
            log.append(row for code in self.by_language for row in self._rows(code, chunk, chunk_edits, running))
            self.progress("records", len(log.entries) // len(self.by_language), len(self.records))

    def _rows(self, code: str, chunk: Sequence[Record], edits: Sequence[Edit], running: Progress) -> Iterator[Row]:
        """Yield the cases of records asked about in language `code`, under edits made in another."""
        translated = [self.by_language[code][record.case_id] for record in chunk]
        for case in score_cases(self.lm, translated, edits, self.editor.name, progress=running):
            yield {**encode_case(case), LANGUAGE: code}

    def cases(self) -> dict[str, list[CaseScore]]:
        """Return the finished cases by the language of the prompts, in the records' order."""
        found: dict[str, list[CaseScore]] = {code: [] for code in self.by_language}
        for row in self.in_order(self.log()):
            found[row[LANGUAGE]].append(decode_case(row))
        return found
