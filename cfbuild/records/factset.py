"""The facts, entities and templates that records are made of: the bundled ones, a build's, or your own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cfbuild.data import Entity, Fact, Template, id_number
from cfbuild.store import codec, jsonl
from cfbuild.store.folder import BuildFolder
from cfbuild.store.schema import conforming
from cfbuild.templates import builtin

FILES = ("facts.jsonl", "entities.jsonl", "templates.jsonl")
"""A build's files of facts, entities and templates."""


@dataclass(frozen=True, slots=True)
class FactSet:
    """Facts, the entities that they name, and templates of their relations, in any order.

    language: the code of the language whose labels records use, such as `en`. An entity without a label in it becomes
    neither subject nor object.
    """

    facts: tuple[Fact, ...]
    entities: tuple[Entity, ...]
    templates: tuple[Template, ...]
    language: str = "en"

    @property
    def relations(self) -> tuple[str, ...]:
        """The relations that have facts, ordered by number."""
        return tuple(sorted({fact.relation for fact in self.facts}, key=id_number))


def read_facts(root: Path | str, language: str = "en") -> FactSet:
    """Return the facts, entities and templates that `cfbuild fetch` wrote into the build folder `root`.

    language: the code of the language whose labels records use.
    Raises BuildStateError if a file is missing and DataError, naming file and line, for a row that is not valid.
    """
    folder = BuildFolder(Path(root))
    facts, entities, templates = (folder.require(name) for name in FILES)
    return FactSet(
        tuple(jsonl.read_values(facts, conforming("facts", codec.decode_fact))),
        tuple(jsonl.read_values(entities, conforming("entities", codec.decode_entity))),
        tuple(jsonl.read_values(templates, conforming("templates", codec.decode_template))),
        language,
    )


def snapshot() -> FactSet:
    """Return the bundled English facts with their entities and the bundled templates: no file and no network."""
    # Imported here, because the source's module loads the HTTP client.
    from cfbuild.sources.snapshot import LANGUAGE, Snapshot

    source = Snapshot()
    relations = tuple(sorted({*source.relations()} & {*builtin.relations()}, key=id_number))
    return FactSet(
        tuple(fact for relation in relations for fact in source.facts(relation)),
        tuple(source.entities()),
        tuple(template for relation in relations for template in builtin.templates(relation)),
        LANGUAGE,
    )
