"""The facts, entities and templates that records are made of: the bundled ones, a build's, or a user's own."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from cfbuild.data import Entity, Fact, FactChange, Template, id_number
from cfbuild.facts.dates import ASSUMED_TODAY, of_precision
from cfbuild.facts.graph import FactGraph
from cfbuild.facts.index import is_whole, write_index
from cfbuild.facts.stored import StoredGraph
from cfbuild.store import codec, jsonl
from cfbuild.store.folder import BuildFolder
from cfbuild.store.schema import conforming
from cfbuild.templates import builtin

FILES = ("facts.jsonl", "entities.jsonl", "templates.jsonl")
"""A build's files of facts, entities and templates."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FactSet:
    """Facts, the entities that they name, and templates of their relations, in any order.

    language: the code of the language whose labels records use, such as `en`. An entity without a label in it becomes
    neither subject nor object.
    today: the day for which the facts hold, such as `2026-11-26`; None if it is not known.
    changes: the changes since an older fetch, of which records are made too (`records/updates.py`).
    """

    facts: tuple[Fact, ...]
    entities: tuple[Entity, ...]
    templates: tuple[Template, ...]
    language: str = "en"
    today: str | None = None
    changes: tuple[FactChange, ...] = ()

    @property
    def relations(self) -> tuple[str, ...]:
        """Return the relations that have facts, ordered by number."""
        return tuple(sorted({fact.relation for fact in self.facts}, key=id_number))

    def graph(self) -> FactGraph:
        """Return the graph of the facts, in memory."""
        return FactGraph(self.facts, self.entities, self.language, self.today)


@dataclass(frozen=True, slots=True)
class StoredFacts:
    """As `FactSet`, with the facts and entities of a build in an index on the disk (`facts/index.py`)."""

    index: Path
    templates: tuple[Template, ...]
    language: str = "en"
    today: str | None = None
    changes: tuple[FactChange, ...] = ()

    @property
    def relations(self) -> tuple[str, ...]:
        """Return the relations that have facts, ordered by number."""
        return self.graph().relations

    def graph(self) -> FactGraph:
        """Return the graph of the facts, which reads from the index when it is asked."""
        return StoredGraph(self.index, self.language, self.today)


def read_facts(
    root: Path | str, language: str = "en", today: str | None = None, changes: Path | None = None
) -> FactSet:
    """Return the facts, entities and templates that `cfbuild fetch` wrote into the build folder `root`.

    language: the code of the language whose labels records use.
    today: the day for which the facts hold, if not that of the fetch.
    changes: the file that `cfbuild diff` wrote, if records are made of changes too.
    Raises BuildStateError if a file is missing and DataError, naming file and line, for a row that is not valid.
    """
    folder = BuildFolder(Path(root))
    (facts, entities), templates = _read_facts(folder, today), _read_templates(folder)
    today = today or folder.manifest().today
    return FactSet(tuple(facts), tuple(entities), tuple(templates), language, today, _read_changes(changes))


def index_facts(
    folder: BuildFolder, index: Path, language: str, today: str | None, changes: Path | None = None
) -> StoredFacts:
    """Return a build's facts and entities, indexed in the file `index`.

    index: a whole file is used again; it must be of the same facts.
    language, today, changes: as in `read_facts`, which raises the same.
    """
    templates = _read_templates(folder)
    if not is_whole(index):
        write_facts_index(folder, index, language, today)
    today = today or folder.manifest().today
    return StoredFacts(index, tuple(templates), language, today, _read_changes(changes))


def write_facts_index(folder: BuildFolder, index: Path, language: str, today: str | None) -> None:
    """Write the index of a build's facts and entities (`facts/index.py`), which `StoredGraph` opens.

    language, today: as in `read_facts`, which raises the same; no templates are needed.
    """
    facts, entities = _read_facts(folder, today)
    write_index(index, facts, entities, language, today or folder.manifest().today or ASSUMED_TODAY)


def _read_facts(folder: BuildFolder, today: str | None) -> tuple[Iterator[Fact], Iterator[Entity]]:
    """Return iterators over a build's facts and entities. Raises BuildStateError if a file is missing."""
    facts, entities = (folder.require(name) for name in FILES[:2])
    return (
        dated_facts(folder, jsonl.read_values(facts, conforming("facts", codec.decode_fact)), today),
        jsonl.read_values(entities, conforming("entities", codec.decode_entity)),
    )


def _read_templates(folder: BuildFolder) -> Iterator[Template]:
    """Return an iterator over a build's templates. Raises BuildStateError if the file is missing."""
    return jsonl.read_values(folder.require(FILES[2]), conforming("templates", codec.decode_template))


def _read_changes(path: Path | None) -> tuple[FactChange, ...]:
    return tuple(jsonl.read_values(path, conforming("changes", codec.decode_change))) if path else ()


def dated_facts(folder: BuildFolder, facts: Iterable[Fact], today: str | None) -> Iterator[Fact]:
    """Yield a build's facts. If the fetch did not note how precise dates are, a first of January becomes its year.

    today: as in `read_facts`. A warning tells what is assumed, if any fact has a date.
    """
    manifest = folder.manifest()
    if manifest.notes_today:
        yield from facts
        return
    warned = False
    for fact in facts:
        if (fact.start or fact.end) and not warned:
            warned = True
            _log.warning(
                "%s: the fetch noted neither its day nor how precise dates are; %s is taken for today (--today of "
                "`cfbuild generate` sets another day), and a first of January for its year",
                folder.root,
                today or manifest.today or ASSUMED_TODAY,
            )
        yield _by_year(fact) if fact.start or fact.end else fact


def _by_year(fact: Fact) -> Fact:
    start, end = (date and of_precision(date, None) for date in (fact.start, fact.end))
    return replace(fact, start=start, end=end)


def snapshot() -> FactSet:
    """Return the bundled English facts with their entities and templates."""
    # Imported here because the source's module loads the HTTP client.
    from cfbuild.sources.snapshot import LANGUAGE, Snapshot

    source = Snapshot()
    relations = tuple(sorted({*source.relations()} & {*builtin.relations()}, key=id_number))
    return FactSet(
        tuple(fact for relation in relations for fact in source.facts(relation)),
        tuple(source.entities()),
        tuple(template for relation in relations for template in builtin.templates(relation)),
        LANGUAGE,
    )
