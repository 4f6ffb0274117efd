"""The rows that an interrupted verb had finished: a log of whole chunks, from which it goes on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cfbuild.codec import Row, dump_row, parse_row
from cfbuild.errors import DataError


@dataclass(frozen=True, slots=True)
class Entry:
    """A finished row: what counting needs of it, and where it lies in the log."""

    case_id: int
    relation: str
    rule: str | None
    place: int

    @property
    def kept(self) -> bool:
        """Whether the row is a record; otherwise `rule` names what rejected it."""
        return self.rule is None


class RowLog:
    """An append-only file of records and rejects in which a line without rows ends each chunk.

    Opening it cuts off whatever follows the last whole chunk, so a run that was killed while it wrote loses that chunk
    and nothing else. Rows stay on the disk; `entries` holds what is needed to count and sort them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: list[Entry] = []
        self._end = 0
        path.touch()
        self._restore()

    def append(self, rows: Iterable[Row]) -> None:
        """Add one chunk of rows; they count only once all of them are written."""
        entries, lines, place = [], [], self._end
        for row in rows:
            line = (dump_row(row) + "\n").encode()
            entries.append(_entry(row, place))
            lines.append(line)
            place += len(line)
        with self.path.open("ab") as stream:
            stream.write(b"".join(lines) + CHUNK_END)
        self.entries += entries
        self._end = place + len(CHUNK_END)

    def rows(self, entries: Iterable[Entry]) -> Iterator[Row]:
        """The rows of `entries`, in their order."""
        with self.path.open("rb") as stream:
            for entry in entries:
                stream.seek(entry.place)
                yield parse_row(stream.readline().decode(), f"{self.path}, byte {entry.place}")

    def _restore(self) -> None:
        place, chunk = 0, list[Entry]()
        with self.path.open("rb") as stream:
            for line in stream:
                if line == CHUNK_END:
                    self.entries += chunk
                    chunk, self._end = [], place + len(line)
                else:
                    entry = _read_entry(line, place)
                    if entry is None:
                        break
                    chunk.append(entry)
                place += len(line)
        with self.path.open("r+b") as stream:
            stream.truncate(self._end)


CHUNK_END = b"\n"


def _read_entry(line: bytes, place: int) -> Entry | None:
    """The entry of a line, or None if it is torn."""
    try:
        return _entry(parse_row(line.decode(), ""), place) if line.endswith(b"\n") else None
    except (DataError, UnicodeDecodeError, KeyError):
        return None


def _entry(row: Row, place: int) -> Entry:
    request: Any = row.get("requested_rewrite", row)
    return Entry(row["case_id"], request["relation_id"], row.get("rule"), place)
