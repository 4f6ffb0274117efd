"""The bundled snapshot: well-known facts in English that need no network, for the demo and for tests.

It has three tables of tab-separated text. A line of `snapshot.tsv` holds a fact (relation, subject's id and label,
object's id and label); lines are sorted by relation, object and subject number. `aliases.tsv` holds other names of
objects, which rules look for in subjects ("NYC" in a station's name). `classes.tsv` holds the classes of objects of
relations that mix kinds: a borough is no false object where countries are expected.

The facts were chosen by hand: single-valued, current, the object's name not part of the subject's, and enough subjects
for each object that a full neighborhood can be drawn. Facts that are over are left out, and so are people whom a
made-up sentence could harm: `scripts/snapshot_removed.tsv` lists them, and `scripts/check_snapshot.py` checks that they
stay out. Ids, labels and facts are Wikidata's (CC0).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from cfbuild.data import Entity, Fact, id_number, item_id, property_id
from cfbuild.errors import ConfigError, DataError
from cfbuild.facts.bundled import table_cells
from cfbuild.facts.relations import INSTANCE_OF
from cfbuild.sources.journal import JournaledClient
from cfbuild.sources.source import FactSource, SourceOptions, SourceSpec, SourceTally
from cfbuild.sources.subset import sampled

LANGUAGE = "en"
ORIGIN = "snapshot"
FACTS = "snapshot.tsv"
ALIASES = "aliases.tsv"
FACT_COLUMNS = ("relation", "subject_id", "subject", "object_id", "object")
CLASSES = "classes.tsv"
CLASS_COLUMNS = ("id", "label", "class_id", "class")
ALIAS_COLUMNS = ("id", "label", "alias")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the table of facts."""

    relation: str
    subject: str
    subject_label: str
    object: str
    object_label: str


@dataclass(frozen=True)
class SnapshotOptions(SourceOptions):
    """Options of the bundled snapshot: those of every source."""

    def known_relations(self) -> frozenset[str]:
        return frozenset(Snapshot().relations())


def load(options: SourceOptions, client: JournaledClient | None = None) -> FactSource:
    """Return the bundled snapshot as a source. Raises ConfigError for a language other than English."""
    if options.language != LANGUAGE:
        raise ConfigError(
            f"the bundled snapshot is in {LANGUAGE} only, not in {options.language!r}; "
            "choose --source wikidata for another language"
        )
    return Snapshot(options.per_relation, options.seed)


SPEC = SourceSpec(SnapshotOptions, load, frozenset({"facts", "names"}))


class Snapshot:
    """A `FactSource` over the bundled tables: at most `per_relation` facts of a relation (None: all), by `seed`."""

    def __init__(self, per_relation: int | None = None, seed: int = 0) -> None:
        self.tally = SourceTally()
        self._per_relation = per_relation
        self._seed = seed

    def relations(self) -> tuple[str, ...]:
        """Return the relations that have facts, by number."""
        return tuple(sorted({row.relation for row in rows()}, key=id_number))

    def facts(self, relation: str) -> Iterator[Fact]:
        """Yield the facts of `relation`, or their seeded sample, by subject then object number."""
        facts = (Fact(relation, row.subject, row.object, source=ORIGIN) for row in rows() if row.relation == relation)
        yield from sampled(facts, relation, self._per_relation, self._seed)

    def entities(self, ids: Sequence[str] | None = None) -> Iterator[Entity]:
        """Yield an Entity for each of `ids`, in their order; for None, for all ids of the snapshot by number.

        The Entity of an unknown id has no labels.
        """
        names = {**labels(), **dict(classes().values())}
        also_known_as, class_of = aliases(), classes()
        for item in sorted(names, key=id_number) if ids is None else ids:
            yield Entity(
                item,
                labels={LANGUAGE: names[item]} if item in names else {},
                aliases={LANGUAGE: also_known_as[item]} if item in also_known_as else {},
                attributes={INSTANCE_OF: (class_of[item][0],)} if item in class_of else {},
            )


@cache
def rows() -> tuple[Line, ...]:
    """Return the bundled table of facts, in the file's order. Raises DataError as `read_rows` does."""
    return tuple(read_rows(_lines(FACTS), FACTS))


@cache
def labels() -> dict[str, str]:
    """Return the label of every item in the table of facts. Raises DataError if an item has two."""
    found: dict[str, str] = {}
    for row in rows():
        for item, label in ((row.subject, row.subject_label), (row.object, row.object_label)):
            if found.setdefault(item, label) != label:
                raise DataError(f"{FACTS}: {item} is called both {found[item]!r} and {label!r}; expected one label")
    return found


@cache
def aliases() -> dict[str, tuple[str, ...]]:
    """Return the other names of each item that has any, in the file's order. Raises as `_about_items`."""
    found: dict[str, tuple[str, ...]] = {}
    for item, alias in _about_items(ALIASES, ALIAS_COLUMNS):
        found[item] = (*found.get(item, ()), alias)
    return found


@cache
def classes() -> dict[str, tuple[str, str]]:
    """Return (class id, class label) by item, for the items that have a class here. Raises as `_about_items`."""
    return {item: (item_id(class_id), label) for item, class_id, label in _about_items(CLASSES, CLASS_COLUMNS)}


def _about_items(name: str, columns: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield the cells of a table about items, without the items' labels.

    Raises DataError for a row whose id and label no fact has.
    """
    for number, (item, label, *cells) in table_cells(_lines(name), name, columns):
        if labels().get(item_id(item)) != label:
            raise DataError(f"{name}:{number}: no fact names {item} ({label!r})")
        yield (item, *cells)


def read_rows(lines: Iterable[str], name: str) -> Iterator[Line]:
    """Yield the rows of a table of facts, given as `lines` of which the first holds the names of the columns.

    Raises DataError as `table_cells`, and for a bad id or a second object for the same subject and relation.
    """
    seen: dict[tuple[str, str], int] = {}
    for number, cells in table_cells(lines, name, FACT_COLUMNS):
        row = Line(*cells)
        try:
            property_id(row.relation)
            item_id(row.subject)
            item_id(row.object)
        except DataError as error:
            raise DataError(f"{name}:{number}: {error}") from error
        first = seen.setdefault((row.relation, row.subject), number)
        if first != number:
            raise DataError(f"{name}:{number}: {row.subject} has an object for {row.relation} in line {first} already")
        yield row


def _cells(lines: Iterable[str], name: str, columns: Sequence[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield (line number, cells) of each line but the first, which must hold `columns`. Raises as `read_rows`."""
    for number, line in enumerate(lines, 1):
        cells = tuple(line.split("\t"))
        if number == 1:
            if cells != tuple(columns):
                raise DataError(f"{name}:1: the columns are {cells}, expected {tuple(columns)}")
            continue
        if len(cells) != len(columns) or not all(cell and cell == cell.strip() for cell in cells):
            raise DataError(f"{name}:{number}: expected {len(columns)} tab-separated cells with text in each: {line!r}")
        yield number, cells


def _lines(name: str) -> list[str]:
    # Not splitlines(): labels may hold line separators other than the newline.
    text = resources.files("cfbuild.sources").joinpath("data").joinpath(name).read_text(encoding="utf-8")
    return text.removesuffix("\n").split("\n")
