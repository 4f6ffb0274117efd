"""A small world of facts, and the test data's excerpt as a build folder."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cfbuild.data import Entity, Fact, Template
from cfbuild.facts.graph import FactGraph
from cfbuild.filter.context import Rules
from cfbuild.pipeline.generate import GenerateOptions
from cfbuild.store import codec, jsonl
from cfbuild.templates import builtin
from cfbuild.templates.patterns import templates as pararel_templates

TRIPLE = re.compile(r'<[^>]*/(Q\d+)> <([^>]*)> (?:<[^>]*/(Q\d+)>|"((?:[^"\\]|\\.)*)"@([\w-]+)) \.\n')


def item(number: int, label: str | None, *aliases: str) -> Entity:
    return Entity(f"Q{number}", {} if label is None else {"en": label}, {"en": aliases} if aliases else {})


def templates(relation: str, count: int = 4) -> list[Template]:
    texts = ("{} lives in", "The home of {} is in", "{}, who resides in", "{} has a house in")
    return [Template(relation, "rewrite", text, "test") for text in texts[:count]]


def rewrites(relation: str, texts: Iterable[str]) -> tuple[Template, ...]:
    return tuple(Template(relation, "rewrite", text, "test") for text in texts)


def graph_of(labels: Mapping[int, str | None], facts: Iterable[tuple[int, int]], relation: str = "P551") -> FactGraph:
    """Return a graph of one relation from labels by number and (subject, object) pairs of numbers."""
    entities = [item(number, label) for number, label in labels.items()]
    return FactGraph((Fact(relation, f"Q{s}", f"Q{o}") for s, o in facts), entities)


OBJECTS = ("Oslo", "Lima", "Cairo", "Quito", "Hanoi", "Accra", "Sofia")


def world(people: int = 120, relations: Sequence[str] = ("P551", "P937")) -> tuple[list[Fact], list[Entity]]:
    """Return people who live and work in seven cities, the first city being the most frequent; some in two."""
    entities = [item(1 + place, name, f"{name} City") for place, name in enumerate(OBJECTS)]
    facts = []
    for number in range(people):
        subject = 1000 + number
        entities.append(item(subject, f"Person {chr(65 + number % 26)}{number}"))
        for shift, relation in enumerate(relations):
            first = min((number * (7 + shift)) % 13, len(OBJECTS) - 1) % len(OBJECTS)
            facts.append(Fact(relation, f"Q{subject}", f"Q{1 + first}", source="test"))
            if number % 11 == 0:
                facts.append(Fact(relation, f"Q{subject}", f"Q{1 + (first + 1) % len(OBJECTS)}", source="test"))
    return facts, entities


SMALL = Rules(min_neighbors=0, min_pool=2)
"""The rules for a world that has few people in a city, and few cities."""


def small_options(**options: Any) -> GenerateOptions:
    """Return the options of generating a small world, with `options` for those that are given."""
    return GenerateOptions(**{"min_neighbors": 0, "min_pool": 2} | options)


def write_build(root: Path, facts: Iterable[Fact], entities: Iterable[Entity], prompts: Iterable[Template]) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    jsonl.write_jsonl(root / "facts.jsonl", map(codec.encode_fact, facts))
    jsonl.write_jsonl(root / "entities.jsonl", map(codec.encode_entity, entities))
    jsonl.write_jsonl(root / "templates.jsonl", map(codec.encode_template, prompts))
    return root


def write_world(root: Path, people: int = 120) -> Path:
    facts, entities = world(people)
    return write_build(root, facts, entities, [*templates("P551"), *templates("P937")])


def read_triples(path: Path) -> Iterator[tuple[str, str, str | None, str, str]]:
    """Yield the excerpt's triples: subject, predicate, and the object, or else (None) a name and its language."""
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        for line in stream:
            match = TRIPLE.fullmatch(line)
            assert match, line
            subject, predicate, value, text, language = match.groups()
            yield subject, predicate, value, "" if text is None else json.loads(f'"{text}"'), language


def write_excerpt(root: Path, triples: Path, patterns: Path | None = None, language: str = "en") -> Path:
    """Write the excerpt's facts, names, classes, and ParaRel's templates or else ours, as fetch would; return `root`.

    language: that of our templates; names are there in all languages that the excerpt has.
    """
    facts: list[Fact] = []
    classes: dict[str, dict[str, list[str]]] = {}
    labels: dict[str, dict[str, str]] = {}
    aliases: dict[str, dict[str, list[str]]] = {}
    for subject, predicate, value, name, tag in read_triples(triples):
        relation = predicate.rsplit("/", 1)[1]
        if value is not None and relation in ("P31", "P21"):
            classes.setdefault(subject, {}).setdefault(relation, []).append(value)
        elif value is not None:
            facts.append(Fact(relation, subject, value, source="excerpt"))
        elif predicate.endswith("#label"):
            labels.setdefault(subject, {})[tag] = name
        else:
            aliases.setdefault(subject, {}).setdefault(tag, []).append(name)
    ids = {*labels, *aliases, *(fact.subject for fact in facts), *(fact.object for fact in facts)}
    entities = [
        Entity(
            entity_id,
            labels.get(entity_id, {}),
            {code: tuple(names) for code, names in aliases.get(entity_id, {}).items()},
            {relation: tuple(sorted(values)) for relation, values in classes.get(entity_id, {}).items()},
        )
        for entity_id in sorted(ids)
    ]
    if patterns is None:
        ours = (one for relation in builtin.relations(language) for one in builtin.templates(relation, language))
        return write_build(root, facts, entities, ours)
    prompts = []
    for file in sorted(patterns.glob("*.jsonl")):
        kept, _ = pararel_templates(file.stem, (row["pattern"] for _, row in jsonl.read_rows(file)))
        prompts += kept
    return write_build(root, facts, entities, prompts)


def cases(graph: FactGraph) -> Iterator[tuple[int, Fact]]:
    """Yield every fact of a graph with its case id."""
    for relation in graph.relations:
        yield from graph.cases(graph.case_ids(relation))
