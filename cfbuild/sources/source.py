"""The contract of fact sources: their options, the kinds of data they offer, and the protocol of facts and names."""

from __future__ import annotations

from collections import Counter
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
from cfbuild.sources.journal import JournaledClient
from cfbuild.text.languages import LANGUAGES

Offer = Literal["facts", "statements", "names", "references"]
"""A kind of data of a source: facts, their statements (ranks, dates), names of items, articles about items."""


@dataclass(frozen=True)
class SourceOptions:
    """Options of every source. `per_relation` None means all facts. A source with more options derives a subclass."""

    language: str = option("en", "The language of labels and aliases, such as en.", form=WORD.naming(*LANGUAGES))
    per_relation: int | None = option(None, "Fetch a random sample of N facts of each relation. [default: all]")
    seed: int = seed_option()

    @property
    def service(self) -> str | None:
        """Return the address of the SPARQL endpoint that is queried; None if there is none."""
        return None

    def addresses(self) -> tuple[str, ...]:
        """Return all addresses from which facts and names are requested."""
        return () if self.service is None else (self.service,)

    def known_relations(self) -> frozenset[str] | None:
        """Return the relations that have facts; None for a source that would have to send a request."""
        return None


@dataclass(frozen=True)
class EndpointOptions(SourceOptions):
    """Options of a source that may query a SPARQL endpoint: `endpoint` is a preset's name or a URL."""

    endpoint: str | None = option(
        None, f"The SPARQL endpoint: a URL, or {HELP}. [default: {DEFAULT}]", form=WORD.naming(*ENDPOINTS)
    )


@dataclass(frozen=True)
class StatementOptions(SourceOptions):
    """Options of a source that may have statements of every rank."""

    statements: bool = option(False, "Also get ranks, dates, redirects and revisions (wikidata, JSON dumps).")


@dataclass(slots=True)
class SourceTally:
    """The counts of what a source left out, by reason, and of labels by the language that stood in for the build's."""

    left_out: Counter[str] = field(default_factory=Counter)
    borrowed: Counter[str] = field(default_factory=Counter)

    def add(self, reason: str, number: int = 1) -> None:
        """Count `number` things left out for `reason`, such as "object is no item"."""
        if number:
            self.left_out[reason] += number


CENSUS = "the service's own count"
"""The origin of known objects if the service counts the facts of each object but does not list all of them."""


@dataclass(frozen=True, slots=True)
class ObjectGroup:
    """Items that may be objects of a relation, in order, known from `origin`; if `guessed`, few of them are."""

    origin: str
    ids: Sequence[str]
    guessed: bool = False


ObjectGroups = Sequence[ObjectGroup]


@dataclass(frozen=True, slots=True)
class KnownObjects:
    """The objects of a relation that are known before its facts: those that the user named, else `others()`."""

    named: ObjectGroups
    others: Callable[[], ObjectGroups]


@dataclass(frozen=True, slots=True)
class ChosenPart:
    """The choice of facts of a relation that is too large to scan; it has `of_facts` facts in all.

    `objects` is the number of chosen objects by origin, `of_each` the most facts of an object (None: all). Of the
    objects `only_first` the service gave the first facts only, of `refused` none.
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
            text += f"; none of {', '.join(self.refused)}, which are too much for the service"
        return text


class TooLargeError(SourceError):
    """A relation that is too large for the service to scan.

    by_object: returns facts of known objects, and how they were chosen; raises SourceError if an answer did not come.
    """

    def __init__(
        self, message: str, by_object: Callable[[KnownObjects, Progress], tuple[Iterator[Fact], ChosenPart]]
    ) -> None:
        super().__init__(message)
        self.by_object = by_object


def in_seeded_order(groups: Mapping[str, Iterable[str]], seed: object, guessed: Container[str] = ()) -> ObjectGroups:
    """Return the `groups`, ids by origin, each in an order drawn from the seed; `guessed` origins have few objects."""
    found = []
    for origin, ids in groups.items():
        drawn = sorted(set(ids), key=id_number)
        Random(f"{seed}:objects:{origin}").shuffle(drawn)
        found.append(ObjectGroup(origin, drawn, origin in guessed))
    return found


class FactSource(Protocol):
    """A source of facts, one relation at a time, and of the entities in them; `tally` counts what it leaves out."""

    tally: SourceTally

    def facts(self, relation: str) -> Iterator[Fact]:
        """Return an iterator over the facts of `relation`, by subject then object number.

        Raises SourceError if not all could be read; TooLargeError, before any, for one to be fetched by object.
        """

    def entities(self, ids: Sequence[str]) -> Iterator[Entity]:
        """Return the entities of `ids`, in their order. Raises SourceError if not all of them could be read."""


@runtime_checkable
class FileSource(Protocol):
    """A source that reads a file as a whole before its first fact. `today` is the day of the file; None if unknown."""

    today: str | None

    def read(self, relations: tuple[str, ...], folder: Path, progress: Progress) -> None:
        """Read the file for the facts of `relations`; finished work is kept in `folder`, and used by a second call."""


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """A line in the table of sources.

    options: the subclass of SourceOptions. make: returns the source for options and a client. offers: the kinds of data
    that the source has; "references" needs options that name a service.
    """

    options: type[SourceOptions]
    make: Callable[[Any, JournaledClient], FactSource]
    offers: frozenset[Offer]


def local_path(location: str) -> Path | None:
    """Return `location` as a path, or None if it is a URL."""
    return None if "://" in location else Path(location)
