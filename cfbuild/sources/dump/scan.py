"""The pass over a dump: units are filtered by this process or several, and kept when they are finished."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cfbuild.errors import DataError
from cfbuild.progress import Progress
from cfbuild.sources.dump.extract import Extract, FinishedUnit, finished, keep
from cfbuild.sources.dump.json_items import json_filter
from cfbuild.sources.dump.packing import Dump, Unit
from cfbuild.sources.dump.query import DumpQuery, UnitFindings
from cfbuild.sources.dump.triples import truthy_filter
from cfbuild.work import WorkerOptions, map_chunks

FILTERS = {"truthy": truthy_filter, "json": json_filter}
"""The functions that make a filter for a query, by the form of the dump."""
PIECE = 1 << 20
"""Bytes of text that are filtered at once: enough that calls cost nothing, few enough for a processor's cache."""
LONGEST = 1 << 26
"""The most bytes of a line: sixteen times those of Wikidata's largest items, so that no file fills the memory."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scan:
    """The job of a pass: filters a unit and keeps the findings in `folder`, unless they are there already."""

    folder: Path
    form: str
    query: DumpQuery

    def base(self, number: int) -> Path:
        """Return the path, without suffix, of the findings of the unit with this `number`."""
        return self.folder / f"{number:06d}"

    def open(self) -> Callable[[Unit], tuple[int, int]]:
        """Return a function that filters a unit and returns its number and its bytes."""
        scan = FILTERS[self.form](self.query)

        def read(unit: Unit) -> tuple[int, int]:
            key = f"{self.query.digest()} {self.form} {unit.key}"
            base = self.base(unit.number)
            summary = finished(base)
            if summary is None or summary.key != key:
                found = UnitFindings()
                head, tail = _filter(unit.texts(), scan, found)
                keep(base, key, found, head, tail)
            return unit.number, unit.size

        return read


def _filter(
    texts: Iterable[bytes], scan: Callable[[bytes, UnitFindings], None], found: UnitFindings
) -> tuple[bytes, bytes | None]:
    """Filter the whole lines of a unit's text; return the text before its first line break, and after its last."""
    head: bytes | None = None
    parts: list[bytes] = []
    size = 0
    for text in texts:
        if head is None:
            place = text.find(b"\n")
            if place < 0:
                parts.append(text)
                size += len(text)
                _check_line_bytes(size)
                continue
            head, parts, text, size = b"".join([*parts, text[:place]]), [], text[place + 1 :], 0
        size += len(text)
        last = text.rfind(b"\n") + 1
        if size >= PIECE and last:
            scan(b"".join([*parts, text[:last]]), found)
            parts, text, size = [], text[last:], len(text) - last
        parts.append(text)
        if not last:
            _check_line_bytes(size)
    rest = b"".join(parts)
    if head is None:
        return rest, None
    last = rest.rfind(b"\n") + 1
    if last:
        scan(rest[:last], found)
    return head, rest[last:]


def read_dump(
    dump: Dump, query: DumpQuery, folder: Path, workers: WorkerOptions, progress: Progress
) -> tuple[Extract, FinishedUnit]:
    """Return the findings in the dump after a pass over it, and a summary of all of its units.

    folder: keeps finished units, which are not read again. Raises DataError if the dump is damaged or breaks off.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for part in folder.glob(".*.part"):
        part.unlink()
    job = Scan(folder.resolve(), dump.form, query)
    read, bases = 0, []
    progress("bytes of the dump", 0, dump.total)
    for number, size in map_chunks(job, dump.units(), workers):
        read += size
        bases.append(job.base(number))
        progress("bytes of the dump", read if dump.total is None else min(read, dump.total), dump.total)
    summaries = [summary for base in bases if (summary := finished(base)) is not None]
    seams = folder / "seams"
    found = UnitFindings()
    scan = FILTERS[dump.form](query)
    for line in _seams(summaries):
        scan(line + b"\n", found)
    keep(seams, "seams", found)
    summaries.append(FinishedUnit("seams", found.counts, b"", b"", found.broken, found.day))
    counts = sum((summary.counts for summary in summaries), Counter[str]())
    if counts["["] and not counts["]"]:
        raise DataError(f"{dump.name} breaks off: its last line is not the ] that ends its array; fetch it again")
    broken = next((summary.broken for summary in summaries if summary.broken), b"")
    if counts["broken"]:
        _log.warning("%s: %d broken lines are left out, such as %r", dump.name, counts["broken"], broken)
    day = max(summary.day for summary in summaries)
    return Extract(folder, [*bases, seams]), FinishedUnit("", counts, b"", b"", broken, day)


def _check_line_bytes(size: int) -> None:
    """Raise DataError if a line of `size` bytes, which goes on, is longer than any of a dump."""
    if size > LONGEST:
        raise DataError(f"a line of the dump has more than {LONGEST:,} bytes, which cannot be right: is it a dump?")


def _seams(units: Iterable[FinishedUnit]) -> Iterator[bytes]:
    """Yield the lines that cross the boundaries of units, the dump's first and last line among them."""
    line = b""
    for unit in units:
        line += unit.head
        _check_line_bytes(len(line))
        if unit.tail is not None:
            yield line
            line = unit.tail
    if line:
        yield line
