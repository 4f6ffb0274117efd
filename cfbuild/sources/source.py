"""The contract of fact sources: what each is told, what it offers, and how its facts and names are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from cfbuild.data import Entity, Fact
from cfbuild.option import option, seed_option
from cfbuild.sources.journal import Asker

Offer = Literal["facts", "statements", "names", "references"]
"""A thing that a source can have: facts, their statements (ranks, dates), names of items, articles about them."""


@dataclass(frozen=True)
class SourceOptions:
    """Options of every source. `per_relation` None means all facts. A source with more of them derives its own."""

    language: str = option("en", "Language of labels and aliases.")
    per_relation: int | None = option(None, "A seeded sample of so many facts a relation.")
    seed: int = seed_option()

    @property
    def service(self) -> str | None:
        """Return the address of the SPARQL endpoint that is asked; None where none is."""
        return None

    def addresses(self) -> tuple[str, ...]:
        """Return every address that is asked for facts and names."""
        return () if self.service is None else (self.service,)

    def known_relations(self) -> frozenset[str] | None:
        """Return the relations that have facts; None for a source that has to be asked."""
        return None


@dataclass(frozen=True)
class EndpointOptions(SourceOptions):
    """Options of a source that may ask a SPARQL endpoint: `endpoint` is a preset's name or a URL."""

    endpoint: str | None = option(None, "SPARQL endpoint: a URL, wikidata, or qlever. [default: wikidata]")


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


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """A source, as the table of sources has it.

    `options` is a type of SourceOptions. `make` opens the source: its options, and what requests go through. `offers`
    tells what can be had of it; "references" needs that its options name a service.
    """

    options: type[SourceOptions]
    make: Callable[[Any, Asker], FactSource]
    offers: frozenset[Offer]


def local_path(location: str) -> Path | None:
    """The folder that `location` names, or None if it is a URL."""
    return None if "://" in location else Path(location)
