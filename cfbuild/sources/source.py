"""The contract of fact sources: their options, the kinds of data they offer, and the protocol of facts and names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from cfbuild.data import Entity, Fact
from cfbuild.option import option, seed_option
from cfbuild.sources.journal import Asker

Offer = Literal["facts", "statements", "names", "references"]
"""A kind of data that a source can have: facts, their statements (ranks, dates), items' names, articles on items."""


@dataclass(frozen=True)
class SourceOptions:
    """Options of every source. `per_relation` None means all facts. A source with more options derives a subclass."""

    language: str = option("en", "Language of labels and aliases.")
    per_relation: int | None = option(None, "A seeded sample of so many facts a relation.")
    seed: int = seed_option()

    @property
    def service(self) -> str | None:
        """The address of the SPARQL endpoint that is queried; None if there is none."""
        return None

    def addresses(self) -> tuple[str, ...]:
        """Return every address that facts and names are requested from."""
        return () if self.service is None else (self.service,)

    def known_relations(self) -> frozenset[str] | None:
        """Return the relations that have facts; None for a source that cannot say without a request."""
        return None


@dataclass(frozen=True)
class EndpointOptions(SourceOptions):
    """Options of a source that may query a SPARQL endpoint: `endpoint` is a preset's name or a URL."""

    endpoint: str | None = option(None, "SPARQL endpoint: a URL, wikidata, or qlever. [default: wikidata]")


@dataclass(slots=True)
class LeftOut:
    """A count, by reason, of what a source left out; and of labels by the language that stood in for the build's."""

    left_out: dict[str, int] = field(default_factory=dict)
    borrowed: dict[str, int] = field(default_factory=dict)

    def add(self, reason: str, number: int = 1) -> None:
        if number:
            self.left_out[reason] = self.left_out.get(reason, 0) + number

    def borrow(self, language: str) -> None:
        """Count a label taken from `language`."""
        self.borrowed[language] = self.borrowed.get(language, 0) + 1


class FactSource(Protocol):
    """A source of facts, a relation at a time, and of the entities that they name, both in the order of their ids."""

    tally: LeftOut

    def facts(self, relation: str) -> Iterator[Fact]:
        """Return an iterator over the facts of `relation`, by subject then object number.

        Raises SourceError if not all of them could be read.
        """
        ...

    def entities(self, ids: Sequence[str]) -> Iterator[Entity]:
        """Return an iterator over the entities of `ids`, in their order.

        Raises SourceError if not all of them could be read.
        """
        ...


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """A source's line in the table of sources.

    `options` is its subclass of SourceOptions. `make` opens the source with options and the asker for its requests.
    `offers` are the kinds of data that it has; "references" needs options that name a service.
    """

    options: type[SourceOptions]
    make: Callable[[Any, Asker], FactSource]
    offers: frozenset[Offer]


def local_path(location: str) -> Path | None:
    """Return the path that `location` is, or None if it is a URL."""
    return None if "://" in location else Path(location)
