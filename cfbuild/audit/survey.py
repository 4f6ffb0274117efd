"""A first pass over a whole file: what rules must know of it before they judge a row, in few bytes a row.

A row is judged in view of others: of their templates, by which names are read off prompts, and of those with the same
case id or the same edit. Of most rows a digest is kept, which no other row has.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from cfbuild.audit.audited import AuditedRow
from cfbuild.audit.foreign import ForeignFormat, foreign_format
from cfbuild.audit.mentions import Halves, Templates, halves
from cfbuild.audit.reader import CaseId
from cfbuild.audit.row import RecordParts
from cfbuild.data import SLOT
from cfbuild.store.digests import short_digest
from cfbuild.store.schema.faults import Located
from cfbuild.store.schema.located import LocatedRows, Piece, located_of

CHUNK_ROWS, CHUNK_BYTES = 250, 1 << 22
"""The most rows of a chunk, and the bytes of lines after which it ends: some tenths of a second of work."""

ShownTemplate = tuple[str, str]
"""A relation and a text with a slot that a row shows to be a template of it."""


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
class Glance:
    """The findings of a chunk: how many rows there are, and how many of a format that is recognised but not read.

    first: such a format of the first row. language: the first that a row says it is in. cases, edits: digests of the
    rows' case ids and of what they edit. shown: how many rows show a template; a rewrite counts for two.
    """

    rows: int = 0
    foreign: int = 0
    first: ForeignFormat | None = None
    language: str | None = None
    cases: array[int] = field(default_factory=lambda: array("Q"))
    edits: array[int] = field(default_factory=lambda: array("Q"))
    shown: Counter[ShownTemplate] = field(default_factory=Counter)

    def add(self, located: Located) -> None:
        """Count a row."""
        found = foreign_format(located.row)
        self.first = self.first if self.rows else found
        self.rows += 1
        self.foreign += found is not None
        row = AuditedRow.of(located)
        if row.parts is not None and row.parts.case_id is not None:
            self.cases.append(case_digest(row.parts.case_id))
        if row.whole is not None:
            self._add_whole(row.whole)

    def _add_whole(self, parts: RecordParts) -> None:
        self.edits.append(edit_digest(parts.edited))
        meta = parts.row.get("meta")
        if self.language is None and isinstance(meta, dict) and "language" in meta:
            self.language = parts.language
        if parts.relation:  # a template of another relation may fit a prompt and leave a wrong name
            self.shown[parts.relation, parts.template] += 2
            self.shown.update({(parts.relation, text) for text in parts.shown_templates()})


@dataclass(frozen=True, slots=True)
class GlanceAtRows:
    """The job of the first pass."""

    def open(self) -> Callable[[Sequence[Piece]], Glance]:
        """Return the function that does a chunk."""
        return _glance


def _glance(pieces: Sequence[Piece]) -> Glance:
    found = Glance()
    for piece in pieces:
        found.add(located_of(piece))
    return found


class Survey:
    """The findings of all rows of a file; `form` and the digest of its bytes are the caller's to compare.

    A digest of 8 bytes is kept of each case id and each edit, one of 16 of each template that a single row shows, and
    the text of the others.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.foreign = 0
        self.first: ForeignFormat | None = None
        self.language: str | None = None
        self._cases, self._edits = array("Q"), array("Q")
        self._known: dict[str, set[str]] = {}
        self._once: set[bytes] = set()

    def add(self, part: Glance) -> None:
        """Add the rows of the next chunk."""
        self.first = self.first if self.rows else part.first
        self.language = part.language if self.language is None else self.language
        self.rows += part.rows
        self.foreign += part.foreign
        self._cases.extend(part.cases)
        self._edits.extend(part.edits)
        for (relation, text), count in part.shown.items():
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

        A rewrite is sure to be a template; a paraphrase may be a prefix that was cut in the wrong place.
        """
        return {relation: Templates(frozenset(_halves_of(texts))) for relation, texts in self._known.items()}

    def repeats(self) -> Repeats:
        """Return what comes more than once; the digests are given up."""
        self._once.clear()
        cases, self._cases = _repeated(self._cases), array("Q")
        edits, self._edits = _repeated(self._edits), array("Q")
        return Repeats(cases, edits)


@dataclass(frozen=True, slots=True)
class Repeats:
    """Digests of the case ids and of the edits that several rows of a file have, and maybe of another."""

    cases: frozenset[int] = frozenset()
    edits: frozenset[int] = frozenset()

    def has_case(self, case_id: CaseId | None) -> bool:
        """Return False if no two rows have this case id."""
        return bool(self.cases) and case_id is not None and case_digest(case_id) in self.cases

    def has_edit(self, edited: tuple[str, str]) -> bool:
        """Return False if no two rows edit this."""
        return bool(self.edits) and edit_digest(edited) in self.edits


def case_digest(case_id: CaseId) -> int:
    """Return 8 bytes that are the same for equal case ids, of which 1 and 1.0 are a pair."""
    return _digest(int(case_id) if isinstance(case_id, float) and case_id.is_integer() else case_id)


def edit_digest(edited: tuple[str, str]) -> int:
    """Return 8 bytes that are the same for the same edit."""
    return _digest(edited)


def _digest(value: object) -> int:
    return int.from_bytes(short_digest(repr(value)), "big")


def _repeated(digests: array[int]) -> frozenset[int]:
    return frozenset(former for former, latter in pairwise(sorted(digests)) if former == latter)


def _halves_of(texts: Iterable[str]) -> Iterator[Halves]:
    return (halves(text) for text in texts if text.count(SLOT) == 1)
