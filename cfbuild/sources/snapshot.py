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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from cfbuild.data import Entity, Fact, id_number
from cfbuild.errors import ConfigError
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
        """Yield the Entity of each of `ids` (None: all, by number); that of an unknown id has no labels."""
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
    """Return the bundled table of facts, in the file's order."""
    return tuple(Line(*cells) for cells in _table(FACTS, FACT_COLUMNS))


@cache
def labels() -> dict[str, str]:
    """Return the label of every item in the table of facts."""
    pairs = (((row.subject, row.subject_label), (row.object, row.object_label)) for row in rows())
    return {item: label for pair in pairs for item, label in pair}


@cache
def aliases() -> dict[str, tuple[str, ...]]:
    """Return the other names of each item that has any, in the file's order."""
    found: dict[str, tuple[str, ...]] = {}
    for item, _, alias in _table(ALIASES, ALIAS_COLUMNS):
        found[item] = (*found.get(item, ()), alias)
    return found


@cache
def classes() -> dict[str, tuple[str, str]]:
    """Return (class id, class label) by item, for the items that have a class here."""
    return {item: (class_id, label) for item, _, class_id, label in _table(CLASSES, CLASS_COLUMNS)}


def _table(name: str, columns: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    # Not splitlines(): labels may hold line separators other than the newline.
    text = resources.files("cfbuild.sources").joinpath("data").joinpath(name).read_text(encoding="utf-8")
    return (cells for _, cells in table_cells(text.removesuffix("\n").split("\n"), name, columns))
