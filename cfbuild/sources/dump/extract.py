"""The extract of a dump on the disk: the findings of each finished unit, and all of them together.

A unit has two files in the fetch's progress folder: `N.items` with the lines about items, and `N.npz` with facts,
redirects, counts and the places of items in the lines; the second is written last and says that the unit is finished.
The names of all items are kept, because only at the end it is known which are needed; so the dump is read once.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from cfbuild.sources.dump.query import UnitFindings

Numbers = npt.NDArray[np.int64]
PLAIN = [("relation", "<i8"), ("subject", "<i8"), ("object", "<i8")]
STATED = [*PLAIN, ("rank", "S1"), ("start", "S24"), ("end", "S24")]
"""The columns of facts, without and with statements. The longest date is a sign, 16 digits of a year, month and day."""
CHAIN = 64
"""The most redirects that are followed; Wikidata resolves double redirects within days."""
OPEN_FILES = 64
"""The most files that are open at once, far below a process's usual limit of 1,024."""


@dataclass(frozen=True)
class FinishedUnit:
    """The summary of a finished unit: its key, counts, first broken line, day, and the text at its two ends.

    `head` is the text before the first line break, `tail` the text after the last: parts of lines that begin or end in
    other units. `tail` is None if the unit has no line break.
    """

    key: str
    counts: Counter[str]
    head: bytes
    tail: bytes | None
    broken: bytes
    day: str


def _write(path: Path, save: Any) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with part.open("wb") as stream:
        save(stream)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(path)


def keep(base: Path, key: str, found: UnitFindings, head: bytes = b"", tail: bytes | None = b"") -> None:
    """Write the findings of a unit to `base`.items and `base`.npz, the latter last and whole.

    key: the unit's, with that of the query. head, tail: as in `FinishedUnit`.
    """
    summary = {
        "key": key,
        "counts": dict(found.counts),
        "head": head.hex(),
        "tail": None if tail is None else tail.hex(),
        "broken": found.broken.hex(),
        "day": found.day,
    }
    with_ranks = any(row.rank for row in found.facts)
    facts = np.array([row if with_ranks else row[:3] for row in found.facts], STATED if with_ranks else PLAIN)
    items = np.array(found.items, np.int64).reshape(-1, 2)
    _write(base.with_suffix(".items"), lambda stream: stream.write(b"".join(line + b"\n" for line in found.lines)))
    arrays: dict[str, Any] = {
        "facts": facts,
        "redirects": np.array(found.redirects, np.int64).reshape(-1, 2),
        "ids": items[:, 0],
        "starts": np.append(items[:, 1], found.size),
        "told": np.frombuffer(json.dumps(summary).encode(), np.uint8),
    }
    _write(base.with_suffix(".npz"), lambda stream: np.savez(stream, **arrays))


def finished(base: Path) -> FinishedUnit | None:
    """Return the summary of the unit kept at `base`; None if the unit is not finished, or damaged."""
    try:
        summary = json.loads(_arrays(base, "told")[0].tobytes())
        if _arrays(base, "starts")[0][-1] != base.with_suffix(".items").stat().st_size:
            return None
        return FinishedUnit(
            summary["key"],
            Counter(summary["counts"]),
            bytes.fromhex(summary["head"]),
            None if summary["tail"] is None else bytes.fromhex(summary["tail"]),
            bytes.fromhex(summary["broken"]),
            summary["day"],
        )
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, EOFError):
        return None


def _arrays(base: Path, *names: str) -> list[Any]:
    with np.load(base.with_suffix(".npz"), allow_pickle=False) as arrays:
        return [arrays[name] for name in names]


class Extract:
    """The findings in a dump, from its finished units at `bases`, in any order; `folder` gets a file for each relation.

    Memory: 24 bytes a fact of a single relation (73 with statements), 16 a redirect, 32 an item that is looked up.
    """

    def __init__(self, folder: Path, bases: Sequence[Path]) -> None:
        self._folder = folder
        self._bases = bases
        self._columns: Any = PLAIN
        for old in self._folder.glob("P*.facts"):
            old.unlink()
        moved = [np.zeros((0, 2), np.int64)]
        for base in self._bases:
            facts, redirects = _arrays(base, "facts", "redirects")
            moved.append(redirects)
            for relation in np.unique(facts["relation"]):
                with self._file(int(relation)).open("ab") as stream:
                    stream.write(facts[facts["relation"] == relation].tobytes())
            if len(facts):
                self._columns = facts.dtype
        pairs = np.concatenate(moved)
        pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
        self._moved, self._targets = pairs[:, 0], pairs[:, 1]

    def _file(self, relation: int) -> Path:
        return self._folder / f"P{relation}.facts"

    def final(self, numbers: Numbers) -> Numbers:
        """Return the numbers of the items to which the items `numbers` finally lead by redirects."""
        found: Numbers = numbers.copy()
        for _ in range(CHAIN if len(self._moved) else 0):
            places = np.searchsorted(self._moved, found).clip(max=len(self._moved) - 1)
            redirected = self._moved[places] == found
            if not redirected.any():
                break
            found[redirected] = self._targets[places[redirected]]
        return found

    def facts(self, relation: int) -> Any:
        """Return the facts of a relation, given as its number, as an array of PLAIN or STATED, redirects resolved."""
        path = self._file(relation)
        if not path.exists():
            return np.zeros(0, PLAIN)
        found: Any = np.fromfile(path, self._columns)
        for column in ("subject", "object"):
            found[column] = self.final(found[column])
        return found

    def lines(self, numbers: Numbers) -> Iterator[tuple[int, list[bytes]]]:
        """Yield (number, lines about the item) for each item of `numbers`, in their order."""
        places = self._places(np.unique(numbers))
        firsts = np.searchsorted(places[:, 0], numbers, "left")
        lasts = np.searchsorted(places[:, 0], numbers, "right")
        with ExitStack() as opened:
            files: dict[int, IO[bytes]] = {}
            for number, first, last in zip(numbers.tolist(), firsts.tolist(), lasts.tolist(), strict=True):
                text = b""
                for _, unit, start, stop in places[first:last].tolist():
                    if unit not in files:
                        if len(files) == OPEN_FILES:
                            opened.close()
                            files.clear()
                        files[unit] = opened.enter_context(self._bases[unit].with_suffix(".items").open("rb"))
                    files[unit].seek(start)
                    text += files[unit].read(stop - start)
                yield number, text.split(b"\n")[:-1]

    def _places(self, numbers: Numbers) -> Numbers:
        """Return the places of lines about the items `numbers` (ascending): [places, (item, unit, start, stop)].

        They are sorted by these columns; `start` and `stop` are bytes of the unit's file.
        """
        places = [np.zeros((0, 4), np.int64)]
        for unit, base in enumerate(self._bases if len(numbers) else ()):
            ids, starts = _arrays(base, "ids", "starts")
            nearest = numbers[np.searchsorted(numbers, ids).clip(max=len(numbers) - 1)]
            rows = np.flatnonzero(nearest == ids)
            places.append(np.stack([ids[rows], np.full(len(rows), unit), starts[rows], starts[rows + 1]], axis=1))
        found: Numbers = np.concatenate(places)
        ordered: Numbers = found[np.lexsort((found[:, 2], found[:, 1], found[:, 0]))]
        return ordered
