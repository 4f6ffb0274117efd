"""A log of the rows that a verb has finished, in whole chunks, from which an interrupted verb goes on."""

from __future__ import annotations

import hashlib
import logging
from array import array
from collections.abc import Iterable, Iterator, MutableSequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

from cfbuild.errors import DataError
from cfbuild.store.jsonl import LONGEST_LINE, Row, dump_row, parse_row

CHUNK_END = b"#"
"""The first byte of the line that ends a chunk; no row begins with it."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """A finished row: its case id, relation and rule, the byte `place` of its line in the log, and that line's CRC-32.

    `rule` names the rule that rejected it; None for a record.
    """

    case_id: int
    relation: str
    rule: str | None
    place: int
    crc: int

    @property
    def kept(self) -> bool:
        """Return True if the row is a record."""
        return self.rule is None


class Entries:
    """The entries of a log in their order, which take 24 bytes each."""

    def __init__(self) -> None:
        self._case_ids: MutableSequence[int] = array("q")
        self._places = array("q")
        self._crcs, self._relations, self._rules = array("I"), array("H"), array("H")
        self._texts: list[str | None] = [None]  # relations and rules, each once
        self._codes: dict[str | None, int] = {None: 0}  # the place of each in _texts

    def append(self, entry: Entry) -> None:
        """Add an entry at the end."""
        try:
            self._case_ids.append(entry.case_id)
        except OverflowError:  # more than 64 bits, in a file that is not cfbuild's
            self._case_ids = [*self._case_ids, entry.case_id]
        self._places.append(entry.place)
        self._crcs.append(entry.crc)
        self._relations.append(self._code(entry.relation))
        self._rules.append(self._code(entry.rule))

    def _code(self, text: str | None) -> int:
        if text not in self._codes:
            self._codes[text] = len(self._texts)
            self._texts.append(text)
        return self._codes[text]

    def by_case(self) -> Iterator[Entry]:
        """Return the entries sorted by case id."""
        case_ids = self._case_ids
        if _is_rising(case_ids):
            return iter(self)
        return map(self._entry, sorted(range(len(self)), key=case_ids.__getitem__))

    @property
    def distinct(self) -> bool:
        """Return True if no case id comes twice."""
        return _is_rising(sorted(self._case_ids))

    def __iter__(self) -> Iterator[Entry]:
        return map(self._entry, range(len(self)))

    def _entry(self, place: int) -> Entry:
        relation = self._texts[self._relations[place]]
        assert relation is not None
        rule = self._texts[self._rules[place]]
        return Entry(self._case_ids[place], relation, rule, self._places[place], self._crcs[place])

    def __len__(self) -> int:
        return len(self._case_ids)


def _is_rising(numbers: Iterable[int]) -> bool:
    return all(earlier < later for earlier, later in pairwise(numbers))


class LogLine(NamedTuple):
    """The line of a row in a log, with the fields of its entry."""

    case_id: int
    relation: str
    rule: str | None
    text: bytes


def line_of(row: Row) -> LogLine:
    """Return the log line of the row of a record, a rejection or a case."""
    return LogLine(*_fields(row), (dump_row(row) + "\n").encode())


class RowLog:
    """A file to which chunks of rows are added; each chunk ends with a line that holds the digest of all rows so far.

    Opening the file cuts off what follows the last whole chunk, so a process that was killed while it wrote loses that
    chunk only. A chunk with a row that was changed since is cut off too, with all chunks after it. Rows stay on the
    disk; `entries` holds what is needed to count and sort them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries = Entries()
        self._end = 0
        self._digest = hashlib.sha256()
        path.touch()
        self._restore()

    def append(self, rows: Iterable[Row]) -> None:
        """Add the chunk `rows`; they count once all of them are written."""
        self.append_lines(map(line_of, rows))

    def append_lines(self, lines: Iterable[LogLine]) -> None:
        """Add a chunk of rows, given as `line_of` returns them."""
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
        """Yield the rows of `entries`, in their order. Raises as `lines` does."""
        for line in self.lines(entries):
            yield parse_row(line, str(self.path))

    def lines(self, entries: Iterable[Entry]) -> Iterator[str]:
        """Yield the lines of `entries`, each with its line break, in their order.

        Raises DataError for a line that was changed since it was written.
        """
        with self.path.open("rb") as stream:
            for entry in entries:
                stream.seek(entry.place)
                line = stream.readline(LONGEST_LINE)
                if crc32(line) != entry.crc:
                    raise DataError(
                        f"{self.path}, byte {entry.place}: the row of case {entry.case_id} is not as it was written; "
                        "something else writes into the build: stop that, and run again"
                    )
                yield line.decode()

    def _restore(self) -> None:
        """Read the entries of all whole chunks, and cut off what follows them."""
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
    """Return the entry of the line at byte `place`, or None if the line is not whole."""
    try:
        entry = Entry(*_fields(parse_row(line.decode(), "")), place, crc32(line))
    except (DataError, UnicodeDecodeError, KeyError, TypeError):
        return None
    types = (entry.case_id, int), (entry.relation, str), (entry.rule, str | None)
    return entry if line.endswith(b"\n") and all(isinstance(value, kind) for value, kind in types) else None


def _fields(row: Row) -> tuple[int, str, str | None]:
    request: Any = row.get("requested_rewrite", row)
    return row["case_id"], request["relation_id"], row.get("rule")
