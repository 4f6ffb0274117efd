"""The pass over a dump: its units, in this process or in several, each kept when it is finished."""

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
PIECE = 1 << 20
"""Bytes of text that are filtered at once: enough that calls cost nothing, few enough for a processor's cache."""
LONGEST = 1 << 26
"""The most bytes of a line: sixteen times those of Wikidata's largest items, so that no file fills the memory."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scan:
    """The job of a pass: filters a unit and keeps what is found in `folder`, unless it is there already."""

    folder: Path
    form: str
    wanted: DumpQuery

    def base(self, number: int) -> Path:
        """Return where the findings of a unit are kept."""
        return self.folder / f"{number:06d}"

    def open(self) -> Callable[[Unit], tuple[int, int]]:
        """Return a function that does a unit and returns its number and its bytes."""
        scan = FILTERS[self.form](self.wanted)

        def do(unit: Unit) -> tuple[int, int]:
            key = f"{self.wanted.digest()} {self.form} {unit.key}"
            base = self.base(unit.number)
            kept = finished(base)
            if kept is None or kept.key != key:
                found = UnitFindings()
                head, tail = _filter(unit.texts(), scan, found)
                keep(base, key, found, head, tail)
            return unit.number, unit.size

        return do


def _filter(
    texts: Iterable[bytes], scan: Callable[[bytes, UnitFindings], None], found: UnitFindings
) -> tuple[bytes, bytes | None]:
    """Filter the whole lines of a unit's text; return what stands before its first line break, and after its last."""
    head: bytes | None = None
    parts: list[bytes] = []
    size = 0
    for text in texts:
        if head is None:
            place = text.find(b"\n")
            if place < 0:
                parts.append(text)
                size = _line_of(size + len(text))
                continue
            head, parts, text, size = b"".join([*parts, text[:place]]), [], text[place + 1 :], 0
        size += len(text)
        last = text.rfind(b"\n") + 1
        if size >= PIECE and last:
            scan(b"".join([*parts, text[:last]]), found)
            parts, text, size = [], text[last:], len(text) - last
        parts.append(text)
        if not last:
            _line_of(size)
    rest = b"".join(parts)
    if head is None:
        return rest, None
    last = rest.rfind(b"\n") + 1
    if last:
        scan(rest[:last], found)
    return head, rest[last:]


def read_dump(
    dump: Dump, wanted: DumpQuery, folder: Path, workers: WorkerOptions, progress: Progress
) -> tuple[Extract, FinishedUnit]:
    """Return what the dump holds of what is wanted, and the counts of all of its units, after a pass over it.

    folder: where units are kept, and found again when the pass was interrupted. Raises DataError where the dump is
    damaged or breaks off.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for part in folder.glob(".*.part"):
        part.unlink()
    job = Scan(folder.resolve(), dump.form, wanted)
    read, bases = 0, []
    progress("bytes of the dump", 0, dump.total)
    for number, size in map_chunks(job, dump.units(), workers):
        read += size
        bases.append(job.base(number))
        progress("bytes of the dump", read if dump.total is None else min(read, dump.total), dump.total)
    told = [kept for base in bases if (kept := finished(base)) is not None]
    seams = folder / "seams"
    found = UnitFindings()
    scan = FILTERS[dump.form](wanted)
    for line in _seams(told):
        scan(line + b"\n", found)
    keep(seams, "seams", found)
    told.append(FinishedUnit("seams", found.counts, b"", b"", found.broken, found.day))
    counts = sum((one.counts for one in told), Counter[str]())
    if counts["["] and not counts["]"]:
        raise DataError(f"{dump.name} breaks off: its array has a beginning and no end ( ] in the last line)")
    broken = next((one.broken for one in told if one.broken), b"")
    if counts["broken"]:
        _log.warning("%s: %d broken lines are left out, such as %r", dump.name, counts["broken"], broken)
    day = max(one.day for one in told)
    return Extract(folder, [*bases, seams]), FinishedUnit("", counts, b"", b"", broken, day)


def _line_of(size: int) -> int:
    """Return the bytes of a line that goes on. Raises DataError if it is longer than any of a dump."""
    if size > LONGEST:
        raise DataError(f"a line of the dump has more than {LONGEST:,} bytes, which cannot be right: is it a dump?")
    return size


def _seams(units: Iterable[FinishedUnit]) -> Iterator[bytes]:
    """Yield the lines that cross the boundaries of units, the dump's first and last line among them."""
    held = b""
    for unit in units:
        held += unit.head
        _line_of(len(held))
        if unit.tail is not None:
            yield held
            held = unit.tail
    if held:
        yield held
