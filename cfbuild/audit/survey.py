"""The first pass over a whole file: the templates and the repeated case ids and edits that rules need to judge a row.

Names are read off prompts by the templates of all rows. Of case ids and edits only digests are kept.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from cfbuild.audit.foreign import ForeignFormat, foreign_format, misread
from cfbuild.audit.mentions import Templates, halves
from cfbuild.audit.reader import CaseId
from cfbuild.audit.row import RecordParts, parts_of
from cfbuild.data import SLOT
from cfbuild.store.digests import short_digest
from cfbuild.store.schema.faults import Located
from cfbuild.store.schema.located import LocatedRows, Piece, located_of

CHUNK_ROWS, CHUNK_BYTES = 250, 1 << 22
"""The most rows of a chunk, and the bytes of lines at which it ends: some tenths of a second of work."""

RelationTemplate = tuple[str, str]
"""A relation and a text with a slot that a row shows to be a template of the relation."""


def chunks(rows: LocatedRows) -> Iterator[list[Piece]]:
    """Yield the rows of a file in chunks."""
    chunk: list[Piece] = []
    size = 0
    for piece in rows.pieces():
        chunk.append(piece)
        size += 0 if isinstance(piece, Located) else len(piece)
        if len(chunk) == CHUNK_ROWS or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


@dataclass(slots=True)
class ChunkSurvey:
    """The survey of a chunk of rows.

    rows, foreign: the number of rows, and of those in a format that is recognised but not read.
    first: the format of the first row if it is foreign. language: the first that a row gives.
    cases, edits: digests of the rows' case ids and of their edits.
    shown: the number of rows that show a template; a rewrite counts for two.
    """

    rows: int = 0
    foreign: int = 0
    first: ForeignFormat | None = None
    language: str | None = None
    cases: array[int] = field(default_factory=lambda: array("Q"))
    edits: array[int] = field(default_factory=lambda: array("Q"))
    shown: Counter[RelationTemplate] = field(default_factory=Counter)

    def add(self, located: Located) -> None:
        """Add a row."""
        found = foreign_format(located.row)
        self.first = self.first if self.rows else found
        self.rows += 1
        self.foreign += found is not None
        parts = parts_of(located.row)
        if parts is not None and parts.case_id is not None:
            self.cases.append(_case_digest(parts.case_id))
        if parts is not None and not any(misread(located, parts)):
            self._add_whole(parts)

    def _add_whole(self, parts: RecordParts) -> None:
        self.edits.append(_digest(parts.edited))
        meta = parts.row.get("meta")
        if self.language is None and isinstance(meta, dict) and "language" in meta:
            self.language = parts.language
        if parts.relation:  # a template of another relation may fit a prompt and leave a wrong name
            self.shown[parts.relation, parts.template] += 2
            self.shown.update({(parts.relation, text) for text in parts.shown_templates()})


@dataclass(frozen=True, slots=True)
class SurveyChunks:
    """The job that surveys chunks."""

    def open(self) -> Callable[[Sequence[Piece]], ChunkSurvey]:
        """Return the function that surveys a chunk."""
        return _survey


def _survey(pieces: Sequence[Piece]) -> ChunkSurvey:
    survey = ChunkSurvey()
    for piece in pieces:
        survey.add(located_of(piece))
    return survey


class Survey:
    """The survey of all rows of a file.

    It keeps 8 bytes of each case id and each edit, 16 bytes of each template that a single row shows, and the text of
    other templates.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.foreign = 0
        self.first: ForeignFormat | None = None
        self.language: str | None = None
        self._cases, self._edits = array("Q"), array("Q")
        self._known: dict[str, set[str]] = {}
        self._once: set[bytes] = set()

    def add(self, chunk: ChunkSurvey) -> None:
        """Add the survey of the next chunk."""
        self.first = self.first if self.rows else chunk.first
        self.language = chunk.language if self.language is None else self.language
        self.rows += chunk.rows
        self.foreign += chunk.foreign
        self._cases.extend(chunk.cases)
        self._edits.extend(chunk.edits)
        for (relation, text), count in chunk.shown.items():
            self._show(relation, text, count)

    def _show(self, relation: str, text: str, count: int) -> None:
        known = self._known.setdefault(relation, set())
        if text in known:
            return
        digest = short_digest(f"{relation} {text}", 16)
        if count == 1 and digest not in self._once:
            self._once.add(digest)
        else:
            self._once.discard(digest)
            known.add(text)

    def templates(self) -> dict[str, Templates]:
        """Return the templates of each relation: the texts that a rewrite shows, or the paraphrases of several rows.

        A single paraphrase is not enough: it may have been split from its prefix in the wrong place.
        """
        return {
            relation: Templates(frozenset(halves(text) for text in texts if text.count(SLOT) == 1))
            for relation, texts in self._known.items()
        }

    def repeats(self) -> Repeats:
        """Return the case ids and edits that come more than once, and clear all digests."""
        self._once.clear()
        cases, self._cases = _repeated(self._cases), array("Q")
        edits, self._edits = _repeated(self._edits), array("Q")
        return Repeats(cases, edits)


@dataclass(frozen=True, slots=True)
class Repeats:
    """Digests of the case ids and edits that several rows of a file have."""

    cases: frozenset[int] = frozenset()
    edits: frozenset[int] = frozenset()

    def has_case(self, case_id: CaseId | None) -> bool:
        """Return False if no two rows have this case id; True may also come from two ids with one digest."""
        return bool(self.cases) and case_id is not None and _case_digest(case_id) in self.cases

    def has_edit(self, edited: tuple[str, str]) -> bool:
        """Return False if no two rows have the same `edited` (`RecordParts.edited`)."""
        return bool(self.edits) and _digest(edited) in self.edits


def _case_digest(case_id: CaseId) -> int:
    """Return the digest of a case id; equal ids, such as 1 and 1.0, have the same."""
    return _digest(int(case_id) if isinstance(case_id, float) and case_id.is_integer() else case_id)


def _digest(value: object) -> int:
    return int.from_bytes(short_digest(repr(value)), "big")


def _repeated(digests: array[int]) -> frozenset[int]:
    return frozenset(former for former, latter in pairwise(sorted(digests)) if former == latter)
