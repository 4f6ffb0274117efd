"""The query with which a dump is read, and the findings in a unit of it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

NO_ITEM, NO_VALUE = -1, -2
"""The numbers of an object that is no item, and of the object in a statement that there is none."""


@dataclass(frozen=True)
class DumpQuery:
    """A query for facts of relations, names in languages, and attributes; with `statements`, of every rank."""

    relations: tuple[str, ...]
    attributes: tuple[str, ...]
    languages: tuple[str, ...]
    statements: bool = False

    @property
    def properties(self) -> tuple[str, ...]:
        """Return relations and attributes, each once."""
        return tuple(dict.fromkeys((*self.relations, *self.attributes)))

    def digest(self) -> str:
        """Return a digest of the query, which tells whether a finished unit was read for the same one."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:16]


class FactRow(NamedTuple):
    """A fact as numbers: (36, 1, 2) is P36, Q1, Q2. The object 0 is one that nobody knows; see NO_ITEM and NO_VALUE.

    `rank` is n, p or d, `start` and `end` are dates; all are empty if the query asks for no statements.
    """

    relation: int
    subject: int
    object: int
    rank: bytes = b""
    start: bytes = b""
    end: bytes = b""


@dataclass
class UnitFindings:
    """The findings in a unit.

    lines: names and attributes, those of an item together. A line is a kind, a space and a value: `P31 Q5`,
    `L en a label`, `A en an alias`, `S 12` (sitelinks), `R 99` (revision); texts are as the dump writes them.
    items: (item, byte at which its lines begin). redirects: (item, target). broken: the beginning of the first broken
    line. day: that of the dump. size: the bytes of the lines.
    """

    facts: list[FactRow] = field(default_factory=list)
    redirects: list[tuple[int, int]] = field(default_factory=list)
    items: list[tuple[int, int]] = field(default_factory=list)
    lines: list[bytes] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    broken: bytes = b""
    day: str = ""
    size: int = 0

    def add(self, number: int, line: bytes) -> None:
        """Add a line about the item `number`."""
        if not self.items or self.items[-1][0] != number:
            self.items.append((number, self.size))
        self.lines.append(line)
        self.size += len(line) + 1

    def break_off(self, line: bytes) -> None:
        """Count a broken line, or a broken part of one; keep the beginning of the first."""
        self.counts["broken"] += 1
        self.broken = self.broken or line[:80]


def alternation(words: Iterable[str]) -> bytes:
    """Return a regular expression for any of `words` (letters, digits, -), such as en(?:-gb)?; it never backtracks."""
    tree: dict[str, dict] = {}  # type: ignore[type-arg]
    for word in sorted(words):
        node = tree
        for character in word:
            node = node.setdefault(character, {})
        node[""] = {}
    return _pattern(tree).encode()


def _pattern(node: dict[str, dict]) -> str:  # type: ignore[type-arg]
    parts = [character + _pattern(rest) for character, rest in node.items() if character]
    if not parts:
        return ""
    whole = parts[0] if len(parts) == 1 else f"(?:{'|'.join(parts)})"
    return f"(?:{whole})?" if "" in node else whole
