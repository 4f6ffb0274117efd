"""The collection of a fetch: facts, their entities with all containers, and reference texts, written to a folder.

Rows are written one by one, so that a relation of millions of facts fits into memory.
"""

from __future__ import annotations

import heapq
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cfbuild.data import UNKNOWN, Entity, Fact, id_number
from cfbuild.errors import SourceError
from cfbuild.facts.dates import ASSUMED_TODAY
from cfbuild.facts.relations import CONTAINMENT
from cfbuild.progress import Progress
from cfbuild.sources import wikidata, wikipedia
from cfbuild.sources.endpoints import endpoint_url
from cfbuild.sources.journal import JournaledClient
from cfbuild.sources.objects import ObjectSource
from cfbuild.sources.source import ChosenPart, FactSource, FileSource, SourceOptions, SourceTally, TooLargeError
from cfbuild.sources.sparql import Endpoint
from cfbuild.store.codec import decode_entity, decode_fact, encode_entity, encode_fact, encode_reference
from cfbuild.store.jsonl import Row, read_rows, read_values, write_jsonl

LEVELS = 12
"""The most steps from an entity to its containers; a village takes about six, a profession about ten."""

_log = logging.getLogger(__name__)


@dataclass
class Collection:
    """The state of a fetch.

    path: the folder for files until they are moved into the build. facts: the number of facts by relation. items: the
    ids of their subjects and objects. choices: how the facts of relations that are too large to scan were chosen.
    today: the day for which the facts hold, that of the last answer; None if there was no request.
    """

    path: Path
    client: JournaledClient
    relations: tuple[str, ...]
    progress: Progress
    facts: Counter[str] = field(default_factory=Counter)
    items: set[str] = field(default_factory=set)
    choices: dict[str, ChosenPart] = field(default_factory=dict)
    today: str | None = None


def write_facts(collection: Collection, source: FactSource, objects: ObjectSource) -> int:
    """Write facts.jsonl in the collection's folder, relation by relation, and return the number of its rows.

    Relations too large to scan are fetched last, by the objects known by then. Raises SourceError if there is no fact.
    """
    large: dict[str, TooLargeError] = {}
    for done, relation in enumerate(collection.relations):
        collection.progress("relations", done, len(collection.relations))
        try:
            _write_relation(collection, relation, source.facts(relation))
        except TooLargeError as error:
            large[relation] = error
    for relation, refusal in large.items():
        _write_by_object(collection, relation, refusal, objects)
    collection.progress("relations", len(collection.relations), len(collection.relations))
    parts = [_part(collection, relation) for relation in collection.relations]
    count = write_jsonl(collection.path / "facts.jsonl", (row for path in parts for _, row in read_rows(path)))
    for path in parts:
        path.unlink()
    if not count:
        reasons = "; ".join(f"{number} left out: {reason}" for reason, number in source.tally.left_out.items())
        raise SourceError(
            f"the source has no fact of {', '.join(collection.relations)}{' (' + reasons + ')' if reasons else ''}; "
            "is it Wikidata's graph, and are these its relations?"
        )
    retrieved = collection.client.journal.retrieved()
    fetched = retrieved[1][: len("2026-11-26")] if retrieved else None
    collection.today = source.today if isinstance(source, FileSource) else fetched
    return count


def _part(collection: Collection, relation: str) -> Path:
    return collection.path / f"facts-{relation}.jsonl"


def _write_relation(collection: Collection, relation: str, facts: Iterable[Fact]) -> None:
    def rows() -> Iterator[Row]:
        for fact in facts:
            collection.facts[relation] += 1
            collection.items.update({fact.subject, fact.object} - {UNKNOWN})
            yield encode_fact(fact)

    if not write_jsonl(_part(collection, relation), rows()):
        _log.warning("%s has no facts in this source", relation)


def _write_by_object(collection: Collection, relation: str, error: TooLargeError, objects: ObjectSource) -> None:
    _log.warning("%s; its facts are fetched by object", error)
    written = (_part(collection, name) for name in collection.relations if collection.facts[name])
    subjects = {fact.subject for path in written for fact in read_values(path, decode_fact)}
    facts, choice = error.by_object(objects.of(relation, subjects), collection.progress)
    _log.warning("%s: of its %s facts, %s", relation, f"{choice.of_facts:,}", choice)
    collection.choices[relation] = choice
    _write_relation(collection, relation, facts)


def write_entities(collection: Collection, source: FactSource) -> int:
    """Write entities.jsonl in the collection's folder and return the number of its rows.

    It holds, by id, the items of the facts, their containers level by level, and those values of their other
    attributes (such as classes) that have a label.
    """
    parts: list[Path] = []
    seen: set[str] = set()
    classes: set[str] = set()
    front = collection.items
    while front and len(parts) < LEVELS:
        seen |= front
        containers: set[str] = set()
        parts.append(collection.path / f"level-{len(parts)}.jsonl")
        described = _described(collection, source, "containers" if len(parts) > 1 else "entities", front)
        write_jsonl(parts[-1], map(encode_entity, _collecting(described, containers, classes)))
        front = containers - seen
    parts.append(collection.path / "classes.jsonl")
    named = (entity for entity in _described(collection, source, "classes", (classes | front) - seen) if entity.labels)
    write_jsonl(parts[-1], map(encode_entity, named))
    rows = heapq.merge(*(read_values(path, decode_entity) for path in parts), key=lambda entity: id_number(entity.id))
    count = write_jsonl(collection.path / "entities.jsonl", map(encode_entity, rows))
    for path in parts:
        path.unlink()
    return count


def _collecting(entities: Iterable[Entity], containers: set[str], classes: set[str]) -> Iterator[Entity]:
    """Yield the entities unchanged; add the ids of their containers and of their other attributes to the sets."""
    for entity in entities:
        for relation, ids in entity.attributes.items():
            (containers if relation in CONTAINMENT else classes).update(ids)
        yield entity


def write_references(
    collection: Collection, options: SourceOptions, texts: wikipedia.ReferenceOptions, tally: SourceTally
) -> int:
    """Write references.jsonl in the collection's folder and return the number of its rows.

    It holds lead texts of articles about subjects, by relation and object. `tally` counts those that are left out.
    """
    language, per_object = wikidata.language_code(options.language), texts.references_per_object
    endpoint = Endpoint(options.service or endpoint_url(None), collection.client, wikipedia.PROLOGUE)
    facts = read_values(collection.path / "facts.jsonl", decode_fact)
    chosen = wikipedia.candidates(facts, per_object, options.seed, collection.today or ASSUMED_TODAY)
    linked = wikipedia.titles(endpoint, {item for subjects in chosen.values() for item in subjects}, language)
    titles = wikipedia.first_titles(chosen, linked, per_object)
    articles: dict[str, wikipedia.Article] = {}
    for article in wikipedia.Wikipedia(texts.api(language), collection.client, tally).articles(titles):
        articles[article.entity] = article
        if len(articles) % wikipedia.TITLES == 0:
            collection.progress("articles", len(articles), len(titles))
    collection.progress("articles", len(titles), len(titles))
    entities = read_values(collection.path / "entities.jsonl", decode_entity)
    names = {one.id: one.labels[language] for one in entities if one.id in articles and language in one.labels}
    rows = wikipedia.references(chosen, articles, names, per_object)
    return write_jsonl(collection.path / "references.jsonl", map(encode_reference, rows))


def _described(collection: Collection, source: FactSource, task: str, items: Iterable[str]) -> Iterator[Entity]:
    ids: Sequence[str] = sorted(items, key=id_number)
    for done, entity in enumerate(source.entities(ids)):
        if done % wikidata.ENTITIES == 0:
            collection.progress(task, done, len(ids))
        yield entity
    collection.progress(task, len(ids), len(ids))
