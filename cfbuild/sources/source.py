"""The contract of fact sources: their options, the kinds of data they offer, and the protocol of facts and names."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Literal, Protocol, runtime_checkable

from cfbuild.data import Entity, Fact, id_number
from cfbuild.errors import SourceError
from cfbuild.option import WORD, option, seed_option
from cfbuild.progress import Progress
from cfbuild.sources.endpoints import DEFAULT, ENDPOINTS, HELP
from cfbuild.sources.journal import Asker
from cfbuild.text.languages import LANGUAGES

Offer = Literal["facts", "statements", "names", "references"]
"""A kind of data that a source can have: facts, their statements (ranks, dates), items' names, articles on items."""


@dataclass(frozen=True)
class SourceOptions:
    """Options of every source. `per_relation` None means all facts. A source with more options derives a subclass."""

    language: str = option("en", "Language of labels and aliases.", form=WORD.naming(*LANGUAGES))
    per_relation: int | None = option(None, "A seeded sample of N facts a relation.")
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

    endpoint: str | None = option(
        None, f"SPARQL endpoint: a URL, or {HELP}. [default: {DEFAULT}]", form=WORD.naming(*ENDPOINTS)
    )


@dataclass(frozen=True)
class StatementOptions(SourceOptions):
    """Options of a source that may have statements of every rank."""

    statements: bool = option(False, "Ask for ranks, dates, redirects and revisions too (Wikidata).")


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


CENSUS = "the service's own count"
"""The source of known objects if the service counts the facts of each object but does not list all of them."""


@dataclass(frozen=True, slots=True)
class ObjectGroup:
    """Items that may be objects of a relation, in the order in which they are tried, and where they are known from.

    `guessed`: few of them can be expected to be objects.
    """

    origin: str
    ids: Sequence[str]
    guessed: bool = False


ObjectGroups = Sequence[ObjectGroup]


@dataclass(frozen=True, slots=True)
class KnownObjects:
    """The objects of a relation that are known before its facts: those that the user named, or else `others`."""

    named: ObjectGroups
    others: Callable[[], ObjectGroups]


@dataclass(frozen=True, slots=True)
class ChosenPart:
    """The choice of a part of a relation that is too large to scan; it has `of_facts` facts.

    `objects` counts the objects by where they were known from, `of_each` is the most facts of one (None: all). Of
    `only_first` the service gave the first facts only, of `refused` nothing.
    """

    of_facts: int
    objects: Mapping[str, int]
    of_each: int | None
    only_first: tuple[str, ...]
    refused: tuple[str, ...]

    def __str__(self) -> str:
        objects = ", ".join(f"{number:,} of {origin}" for origin, number in self.objects.items())
        each = "all" if self.of_each is None else f"at most {self.of_each:,}"
        text = f"{each} facts of each of {sum(self.objects.values()):,} objects ({objects})"
        if self.only_first:
            text += f"; of {', '.join(self.only_first)} from the first that the service gives"
        if self.refused:
            text += f"; none of {', '.join(self.refused)}, which the service does not manage"
        return text


class TooLargeError(SourceError):
    """A relation that the service does not manage to scan.

    `by_object` returns facts of objects that are known, and how they were chosen; it raises SourceError if an answer
    did not come.
    """

    def __init__(
        self, message: str, by_object: Callable[[KnownObjects, Progress], tuple[Iterator[Fact], ChosenPart]]
    ) -> None:
        super().__init__(message)
        self.by_object = by_object


def in_seeded_order(groups: Mapping[str, Iterable[str]], seed: object, guessed: Container[str] = ()) -> ObjectGroups:
    """Return the groups, given as ids by origin, with their ids in an order drawn from the seed.

    guessed: the origins of ids of which few can be expected to be objects.
    """
    found = []
    for origin, ids in groups.items():
        drawn = sorted(set(ids), key=id_number)
        Random(f"{seed}:objects:{origin}").shuffle(drawn)
        found.append(ObjectGroup(origin, drawn, origin in guessed))
    return found


class FactSource(Protocol):
    """A source of facts, a relation at a time, and of the entities that they name, both in the order of their ids."""

    tally: LeftOut

    def facts(self, relation: str) -> Iterator[Fact]:
        """Return an iterator over the facts of `relation`, by subject then object number.

        Raises SourceError if not all of them could be read; TooLargeError, before any, for a relation of which only
        facts by object can be.
        """
        ...

    def entities(self, ids: Sequence[str]) -> Iterator[Entity]:
        """Return an iterator over the entities of `ids`, in their order.

        Raises SourceError if not all of them could be read.
        """
        ...


@runtime_checkable
class ReadsFirst(Protocol):
    """A source that reads a file as a whole before its first fact. `today` is the day of the file; None if untold."""

    today: str | None

    def read(self, relations: tuple[str, ...], folder: Path, progress: Progress) -> None:
        """Read the file for the facts of `relations`; what is found is kept in `folder`, to go on from there."""
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
