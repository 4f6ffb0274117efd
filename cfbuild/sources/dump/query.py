"""The part of a dump that a fetch wants, and what is found of it in a unit."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

NO_ITEM, NO_VALUE = -1, -2
"""Stand for an object that is a value, but no item; and for a statement that there is no object."""


@dataclass(frozen=True)
class DumpQuery:
    """A search: facts of relations, names in languages, attributes; and statements of every rank."""

    relations: tuple[str, ...]
    attributes: tuple[str, ...]
    languages: tuple[str, ...]
    statements: bool = False

    @property
    def properties(self) -> tuple[str, ...]:
        """Relations and attributes, each once."""
        return tuple(dict.fromkeys((*self.relations, *self.attributes)))

    def digest(self) -> str:
        """Return a digest of it, by which finished units of other fetches are told."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:16]


class FactRow(NamedTuple):
    """A fact as numbers: P36, Q1, Q2 is (36, 1, 2); the object 0 is one that nobody knows, NO_ITEM no item.

    `rank` is n, p or d, `start` and `end` are dates; all empty where statements are not wanted.
    """

    relation: int
    subject: int
    object: int
    rank: bytes = b""
    start: bytes = b""
    end: bytes = b""


@dataclass
class UnitFindings:
    """The findings in a unit. Items' names and attributes are lines of bytes, an item's together.

    A line is a kind, a space and a value: `P31 Q5`, `L en a label`, `A en an alias`, `S 12` (sitelinks), `R 99`
    (revision). Texts are kept as the dump writes them.
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
        """Count a broken line, and keep the beginning of the first."""
        self.counts["broken"] += 1
        self.broken = self.broken or line[:80]


def alternation(words: Iterable[str]) -> bytes:
    """Return a regular expression for any of `words` (letters, digits, `-`), which looks at each character once."""
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
