"""A log of the rows that a verb has finished, in whole chunks, from which an interrupted verb continues."""

from __future__ import annotations

import hashlib
import logging
from array import array
from collections.abc import Iterable, Iterator, MutableSequence, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, overload
from zlib import crc32

from cfbuild.errors import DataError
from cfbuild.store.jsonl import LONGEST_LINE, Row, dump_row, parse_row

CHUNK_END = b"#"
"""The first byte of the line that ends a chunk; no row begins with it."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """A finished row: the fields that counting needs, its byte offset in the log, and the CRC-32 of its line."""

    case_id: int
    relation: str
    rule: str | None
    place: int
    check: int

    @property
    def kept(self) -> bool:
        """True if the row is a record; otherwise `rule` names the rule that rejected it."""
        return self.rule is None


class Entries(Sequence[Entry]):
    """The entries of a log in their order, in 24 bytes each."""

    def __init__(self) -> None:
        self._case_ids: MutableSequence[int] = array("q")
        self._places = array("q")
        self._checks, self._relations, self._rules = array("I"), array("H"), array("H")
        self._texts: list[str | None] = [None]
        self._codes: dict[str | None, int] = {None: 0}

    def append(self, entry: Entry) -> None:
        """Add an entry."""
        try:
            self._case_ids.append(entry.case_id)
        except OverflowError:  # a number of somebody else's file
            self._case_ids = [*self._case_ids, entry.case_id]
        self._places.append(entry.place)
        self._checks.append(entry.check)
        self._relations.append(self._code(entry.relation))
        self._rules.append(self._code(entry.rule))

    def _code(self, text: str | None) -> int:
        if text not in self._codes:
            self._codes[text] = len(self._texts)
            self._texts.append(text)
        return self._codes[text]

    def by_case(self) -> Iterator[Entry]:
        """Yield the entries by case id."""
        case_ids = self._case_ids
        if all(one < other for one, other in pairwise(case_ids)):
            return iter(self)
        return (self[place] for place in sorted(range(len(self)), key=case_ids.__getitem__))

    @property
    def distinct(self) -> bool:
        """True if no case id comes twice."""
        return all(one < other for one, other in pairwise(sorted(self._case_ids)))

    @overload
    def __getitem__(self, place: int) -> Entry: ...

    @overload
    def __getitem__(self, place: slice) -> list[Entry]: ...

    def __getitem__(self, place: int | slice) -> Entry | list[Entry]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        relation = self._texts[self._relations[place]]
        assert relation is not None
        rule = self._texts[self._rules[place]]
        return Entry(self._case_ids[place], relation, rule, self._places[place], self._checks[place])

    def __len__(self) -> int:
        return len(self._case_ids)


class LogLine(NamedTuple):
    """A row as the line of a log, with the fields that counting needs."""

    case_id: int
    relation: str
    rule: str | None
    text: bytes


def line_of(row: Row) -> LogLine:
    """Return the line of a record, a reject or a score."""
    return LogLine(*_counted(row), (dump_row(row) + "\n").encode())


class RowLog:
    """An append-only file of records and rejects; each chunk ends with a line that digests all rows before it.

    Opening it cuts off whatever follows the last whole chunk. So a run that was killed while it wrote loses that chunk
    and nothing else. A chunk with a row that was changed since is cut off too, with all after it. Rows stay on the
    disk; `entries` holds the fields by which they are counted and sorted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries = Entries()
        self._end = 0
        self._digest = hashlib.sha256()
        path.touch()
        self._restore()

    def append(self, rows: Iterable[Row]) -> None:
        """Add a chunk of rows; they count only once all of them are written."""
        self.append_lines(map(line_of, rows))

    def append_lines(self, lines: Iterable[LogLine]) -> None:
        """Add a chunk of rows that are lines already."""
        entries, texts, place = [], [], self._end
        for line in lines:
            entries.append(Entry(line.case_id, line.relation, line.rule, place, crc32(line.text)))
            texts.append(line.text)
            place += len(line.text)
        chunk = b"".join(texts)
        self._digest.update(chunk)
        end = _chunk_end(self._digest.hexdigest())
        with self.path.open("ab") as stream:
            stream.write(chunk + end)
        for entry in entries:
            self.entries.append(entry)
        self._end = place + len(end)

    def rows(self, entries: Iterable[Entry]) -> Iterator[Row]:
        """Yield the rows of `entries`, in their order. Raises DataError as `lines` does."""
        for line in self.lines(entries):
            yield parse_row(line, str(self.path))

    def lines(self, entries: Iterable[Entry]) -> Iterator[str]:
        """Yield the lines of `entries` as they were written, each with its line break, in their order.

        Raises DataError for a line that was changed since.
        """
        with self.path.open("rb") as stream:
            for entry in entries:
                stream.seek(entry.place)
                line = stream.readline(LONGEST_LINE)
                if crc32(line) != entry.check:
                    raise DataError(
                        f"{self.path}, byte {entry.place}: the row of case {entry.case_id} is not as it was written; "
                        "something else writes into the build: stop that, and run again"
                    )
                yield line.decode()

    def _restore(self) -> None:
        place, chunk, digest = 0, list[Entry](), hashlib.sha256()
        with self.path.open("r+b") as stream:
            while line := stream.readline(LONGEST_LINE):
                place += len(line)
                if line.startswith(CHUNK_END):
                    if line != _chunk_end(digest.hexdigest()):
                        _log.warning("%s: rows were changed since they were written; they are made again", self.path)
                        break
                    for finished in chunk:
                        self.entries.append(finished)
                    chunk, self._end, self._digest = [], place, digest.copy()
                else:
                    entry = _read_entry(line, place - len(line))
                    if entry is None:
                        break
                    chunk.append(entry)
                    digest.update(line)
            stream.truncate(self._end)


def _chunk_end(digest: str) -> bytes:
    return CHUNK_END + digest.encode() + b"\n"


def _read_entry(line: bytes, place: int) -> Entry | None:
    """Return the entry of a line at the byte offset `place`, or None if the line is torn."""
    try:
        entry = Entry(*_counted(parse_row(line.decode(), "")), place, crc32(line))
    except (DataError, UnicodeDecodeError, KeyError, TypeError):
        return None
    types = (entry.case_id, int), (entry.relation, str), (entry.rule, str | None)
    return entry if line.endswith(b"\n") and all(isinstance(*one) for one in types) else None


def _counted(row: Row) -> tuple[int, str, str | None]:
    request: Any = row.get("requested_rewrite", row)
    return row["case_id"], request["relation_id"], row.get("rule")
