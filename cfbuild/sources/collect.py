"""Collection from a source: facts, their entities, level by level the containers of these, and reference texts.

Rows are written one by one into a working folder, so that a relation of millions of facts fits into memory.
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
from cfbuild.sources.journal import Asker
from cfbuild.sources.objects import ObjectSource
from cfbuild.sources.source import ChosenPart, FactSource, LeftOut, ReadsFirst, SourceOptions, TooLargeError
from cfbuild.sources.sparql import Endpoint
from cfbuild.store.codec import decode_entity, decode_fact, encode_entity, encode_fact, encode_reference
from cfbuild.store.jsonl import Row, read_rows, read_values, write_jsonl

LEVELS = 12
"""The most levels of entities and their containers; a village is in about six, a profession in about ten."""

_log = logging.getLogger(__name__)


@dataclass
class Work:
    """A run of a fetch: the folder that it writes into before its files are put in place, and its counts.

    `facts` counts facts by relation; `items` are the ids of their subjects and objects. `choices` says how the facts
    of relations that are too large to scan were chosen. `today` is the day on which the last answer about facts came;
    None if none was asked for.
    """

    path: Path
    asker: Asker
    relations: tuple[str, ...]
    progress: Progress
    facts: Counter[str] = field(default_factory=Counter)
    items: set[str] = field(default_factory=set)
    choices: dict[str, ChosenPart] = field(default_factory=dict)
    today: str | None = None


def write_facts(work: Work, source: FactSource, objects: ObjectSource) -> int:
    """Write facts.jsonl in the working folder, relation by relation; return the number of its rows.

    Relations that are too large to scan come last, by objects that are known by then. Raises SourceError if the source
    has no fact at all.
    """
    large: dict[str, TooLargeError] = {}
    for done, relation in enumerate(work.relations):
        work.progress("relations", done, len(work.relations))
        try:
            _write_relation(work, relation, source.facts(relation))
        except TooLargeError as error:
            large[relation] = error
    for relation, refusal in large.items():
        _write_by_object(work, relation, refusal, objects)
    work.progress("relations", len(work.relations), len(work.relations))
    parts = [_part(work, relation) for relation in work.relations]
    count = write_jsonl(work.path / "facts.jsonl", (row for path in parts for _, row in read_rows(path)))
    for path in parts:
        path.unlink()
    if not count:
        reasons = "; ".join(f"{number} left out: {reason}" for reason, number in source.tally.left_out.items())
        raise SourceError(
            f"the source has no fact of {', '.join(work.relations)}{' (' + reasons + ')' if reasons else ''}; "
            "is it Wikidata's graph, and are these its relations?"
        )
    retrieved = work.asker.journal.retrieved()
    fetched = retrieved[1][: len("2026-11-26")] if retrieved else None
    work.today = source.today if isinstance(source, ReadsFirst) else fetched
    return count


def _part(work: Work, relation: str) -> Path:
    return work.path / f"facts-{relation}.jsonl"


def _write_relation(work: Work, relation: str, facts: Iterable[Fact]) -> None:
    def rows() -> Iterator[Row]:
        for fact in facts:
            work.facts[relation] += 1
            work.items.update({fact.subject, fact.object} - {UNKNOWN})
            yield encode_fact(fact)

    if not write_jsonl(_part(work, relation), rows()):
        _log.warning("%s has no facts in this source", relation)


def _write_by_object(work: Work, relation: str, error: TooLargeError, objects: ObjectSource) -> None:
    _log.warning("%s; its facts are asked for by object", error)
    others = (_part(work, other) for other in work.relations if work.facts[other])
    subjects = {fact.subject for path in others for fact in read_values(path, decode_fact)}
    facts, choice = error.by_object(objects.of(relation, subjects), work.progress)
    _log.warning("%s: of its %s facts, %s", relation, f"{choice.of_facts:,}", choice)
    work.choices[relation] = choice
    _write_relation(work, relation, facts)


def write_entities(work: Work, source: FactSource) -> int:
    """Write entities.jsonl in the working folder; return the number of its rows.

    It holds, sorted by id, the items of the facts, level by level their containers, and those of their other
    attributes (such as classes) that have a label.
    """
    parts: list[Path] = []
    seen: set[str] = set()
    classes: set[str] = set()
    front = work.items
    while front and len(parts) < LEVELS:
        seen |= front
        outer: set[str] = set()
        parts.append(work.path / f"level-{len(parts)}.jsonl")
        described = _described(work, source, "containers" if len(parts) > 1 else "entities", front)
        write_jsonl(parts[-1], map(encode_entity, _noting(described, outer, classes)))
        front = outer - seen
    parts.append(work.path / "classes.jsonl")
    named = (entity for entity in _described(work, source, "classes", (classes | front) - seen) if entity.labels)
    write_jsonl(parts[-1], map(encode_entity, named))
    rows = heapq.merge(*(read_values(path, decode_entity) for path in parts), key=lambda entity: id_number(entity.id))
    count = write_jsonl(work.path / "entities.jsonl", map(encode_entity, rows))
    for path in parts:
        path.unlink()
    return count


def _noting(entities: Iterable[Entity], outer: set[str], others: set[str]) -> Iterator[Entity]:
    """Yield the entities as they come; add their containers to `outer` and the ids of other attributes to `others`."""
    for entity in entities:
        for relation, ids in entity.attributes.items():
            (outer if relation in CONTAINMENT else others).update(ids)
        yield entity


def write_references(work: Work, options: SourceOptions, texts: wikipedia.ReferenceOptions, tally: LeftOut) -> int:
    """Write references.jsonl in the working folder; return the number of its rows.

    It holds lead texts of articles about subjects, for each relation and object. `options` must name a service;
    `tally` counts the articles left out.
    """
    language, wanted = wikidata.language_code(options.language), texts.references_per_object
    endpoint = Endpoint(options.service or endpoint_url(None), work.asker, wikipedia.PROLOGUE)
    facts = read_values(work.path / "facts.jsonl", decode_fact)
    chosen = wikipedia.candidates(facts, wanted, options.seed, work.today or ASSUMED_TODAY)
    linked = wikipedia.titles(endpoint, {one for subjects in chosen.values() for one in subjects}, language)
    asked = wikipedia.wanted_titles(chosen, linked, wanted)
    articles: dict[str, wikipedia.Article] = {}
    for article in wikipedia.Wikipedia(texts.api(language), work.asker, tally).articles(asked):
        articles[article.entity] = article
        if len(articles) % wikipedia.TITLES == 0:
            work.progress("articles", len(articles), len(asked))
    work.progress("articles", len(asked), len(asked))
    named = (one for one in read_values(work.path / "entities.jsonl", decode_entity) if one.id in articles)
    names = {one.id: one.labels[language] for one in named if language in one.labels}
    rows = wikipedia.references(chosen, articles, names, wanted)
    return write_jsonl(work.path / "references.jsonl", map(encode_reference, rows))


def _described(work: Work, source: FactSource, task: str, items: Iterable[str]) -> Iterator[Entity]:
    ids: Sequence[str] = sorted(items, key=id_number)
    for done, entity in enumerate(source.entities(ids)):
        if done % wikidata.ENTITIES == 0:
            work.progress(task, done, len(ids))
        yield entity
    work.progress(task, len(ids), len(ids))
