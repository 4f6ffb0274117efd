"""What a fact source is, and what every one of them is told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cfbuild.data import Entity, Fact
from cfbuild.sources.journal import Asker


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is wanted of a source: the language of names, how many facts a relation, and where to ask.

    `endpoint` and `location` (ParaRel's folder or raw URL) are used by the sources that have use for them; a request
    goes through `asker` only. `statements` asks for ranks, dates, redirects and revisions too, where a source has them.
    """

    asker: Asker
    language: str = "en"
    per_relation: int | None = None
    seed: int = 0
    endpoint: str | None = None
    location: str | None = None
    statements: bool = False


@dataclass(slots=True)
class LeftOut:
    """What a source left out, by reason, counted as it goes."""

    left_out: dict[str, int] = field(default_factory=dict)

    def add(self, reason: str, number: int = 1) -> None:
        if number:
            self.left_out[reason] = self.left_out.get(reason, 0) + number


class FactSource(Protocol):
    """Facts of one relation at a time, then the entities that they name, both in the order of their ids."""

    tally: LeftOut

    def facts(self, relation: str) -> Iterator[Fact]:
        """The facts of `relation`, by subject then object number. Raises SourceError if not all could be had."""
        ...

    def entities(self, ids: Sequence[str]) -> Iterator[Entity]:
        """One Entity for each of `ids`, in their order. Raises SourceError if not all could be had."""
        ...


def local_path(location: str) -> Path | None:
    """The folder that `location` names, or None if it is a URL."""
    return None if "://" in location else Path(location)
