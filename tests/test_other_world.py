"""A graph of other items, names, classes, sizes and dates than the excerpt's, fetched, generated and audited whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import OtherGraph
from other_plants import CODES, EACH, PLANTS, other_world
from other_world import FEW_SUBJECTS, INSTANCE, STATED, SUBCLASS, Excerpt

from cfbuild.data import UNKNOWN, Entity, Fact, Record
from cfbuild.facts.relations import SYMMETRIC
from cfbuild.pipeline.audit import AuditOptions, audit
from cfbuild.pipeline.fetch import FetchOptions, fetch
from cfbuild.records.prompts import prompts_of
from cfbuild.store import codec, jsonl
from cfbuild.store.folder import BuildFolder

pytestmark = pytest.mark.shared


@pytest.fixture(scope="module")
def records(other_graph: OtherGraph) -> list[Record]:
    return list(jsonl.read_values(other_graph.folder.path("records.jsonl"), codec.decode_record))


@pytest.fixture(scope="module")
def facts(other_graph: OtherGraph) -> list[Fact]:
    return list(jsonl.read_values(other_graph.folder.path("facts.jsonl"), codec.decode_fact))


@pytest.fixture(scope="module")
def entities(other_graph: OtherGraph) -> dict[str, Entity]:
    rows = jsonl.read_values(other_graph.folder.path("entities.jsonl"), codec.decode_entity)
    return {one.id: one for one in rows}


def texts(record: Record) -> Iterator[str]:
    """Yield every text of a record that a model reads, and its names."""
    yield from (text for _, text, *_ in prompts_of(record))
    yield from record.generation
    yield from (record.subject.label, record.target_true.label, record.target_new.label)


def test_the_same_seed_and_day_give_the_same_graph(other_graph: OtherGraph, excerpt: Path) -> None:
    world = other_graph.world
    again, seeded = (other_world(excerpt, world.relations, world.day, seed) for seed in (0, 1))
    assert again == world and {one[0] for one in seeded.facts & world.facts} <= {SUBCLASS}  # classes keep their ids


def test_names_are_none_of_the_excerpts(other_graph: OtherGraph, excerpt: Path) -> None:
    known = Excerpt.read(excerpt)
    classes = {value for _, value in known.facts[INSTANCE]}
    names = {label.casefold() for one, label in other_graph.world.labels.items() if one not in classes}
    assert len(names) > 8_000 and names & {one.casefold() for one in known.names} <= set(CODES)


def test_relations_have_other_sizes_than_the_excerpts(other_graph: OtherGraph) -> None:
    world = other_graph.world
    assert 8_000 <= len(world.facts) <= 15_000
    sizes = Counter(relation for relation, _, _ in world.facts)
    assert len(sizes) == len(world.relations) and max(sizes.values()) > 10 * min(sizes.values())
    most: Counter[str] = Counter()
    for (relation, _), count in Counter((relation, value) for relation, _, value in world.facts).items():
        most[relation] = max(most[relation], count)
    assert sum(count <= 2 * FEW_SUBJECTS for count in most.values()) >= 8
    assert sum(count >= 100 for count in most.values()) >= 5


def test_every_fact_comes_with_its_rank_and_dates(other_graph: OtherGraph, facts: list[Fact]) -> None:
    found = {(one.relation, one.subject, one.object) for one in facts}
    assert other_graph.world.facts <= found and len(found) > len(other_graph.world.facts)
    assert sum(other_graph.fetched.facts.values()) == len(facts)
    ranks = Counter(one.rank for one in facts if one.relation in STATED)
    assert min(ranks["preferred"], ranks["normal"], ranks["deprecated"]) >= EACH
    assert {one.rank for one in facts if one.relation == "P106"} == {None}
    assert sum(one.start is not None for one in facts) > 500 and sum(one.end is not None for one in facts) > 300


def test_without_statements_the_truthy_facts_come(other_graph: OtherGraph, tmp_path: Path) -> None:
    folder = BuildFolder(tmp_path)
    fetch(folder, FetchOptions(endpoint=other_graph.endpoint, relations=("P19", "P39")))
    rows = jsonl.read_values(folder.path("facts.jsonl"), codec.decode_fact)
    found = {(one.relation, one.subject, one.object) for one in rows if one.object != UNKNOWN}
    moved = set(other_graph.world.planted["object under its former id"])
    expected = {one for one in other_graph.world.facts if one[0] in ("P19", "P39")}
    assert found & expected == expected - moved
    assert {(relation, subject) for relation, subject, _ in found - expected} == {
        (relation, subject) for relation, subject, _ in moved if relation == "P19"
    }


def test_the_build_is_large_and_clean(other_graph: OtherGraph) -> None:
    made, path = other_graph.made, other_graph.folder.path("records.jsonl")
    # The other relations have too few subjects of an object for ten neighbours.
    assert made.kept >= 2_500 and sum(one["kept"] > 0 for one in made.by_relation.values()) >= 15
    summary = audit(AuditOptions(path, other_graph.folder))
    assert summary.rules == {} and summary.rows == summary.known == made.kept


@pytest.mark.parametrize("kind", [kind for kind, plant in PLANTS.items() if plant.kept is not None])
def test_planted_items_have_the_expected_verdicts(other_graph: OtherGraph, records: list[Record], kind: str) -> None:
    plant, planted = PLANTS[kind], other_graph.world.planted[kind]
    made = Counter((one.relation, one.subject.id, one.target_true.id) for one in records)
    assert [made[fact] for fact in planted] == [int(bool(plant.kept))] * EACH
    if plant.rule is not None:
        rejected = jsonl.read_values(other_graph.folder.path("rejected.jsonl"), codec.decode_rejection)
        rules = {(one.fact.relation, one.fact.subject, one.fact.object): one.decision.rule for one in rejected}
        assert [rules.get(fact) for fact in planted] == [plant.rule] * EACH
    if plant.named:
        everything = "\n".join(text for record in records for text in texts(record))
        labels = [other_graph.world.labels[subject] for _, subject, _ in planted]
        assert [label for label in labels if label in everything] == []


def test_items_without_a_fault_become_neighbours(other_graph: OtherGraph, records: list[Record]) -> None:
    neighbours = {prompt.entity for record in records for prompt in record.neighborhood}
    for kind in ("general label", "bracket of a title", "in office", "article in the name"):
        assert not neighbours.isdisjoint(subject for _, subject, _ in other_graph.world.planted[kind]), kind


def test_a_language_code_is_nobodys_name(entities: dict[str, Entity]) -> None:
    names = {name for one in entities.values() for name in (*one.labels.values(), *one.aliases.get("en", ()))}
    assert names.isdisjoint(CODES)


def test_symmetric_relations_give_no_record(records: list[Record]) -> None:
    assert {one.relation for one in records}.isdisjoint(SYMMETRIC)


@pytest.mark.parametrize("kind", ["article told by an alias", "article in the name"])
def test_names_that_take_an_article_have_it(other_graph: OtherGraph, records: list[Record], kind: str) -> None:
    subjects = {subject: other_graph.world.labels[subject] for _, subject, _ in other_graph.world.planted[kind]}
    prompts = [(one.rewrite, subjects[one.subject.id]) for one in records if one.subject.id in subjects]
    assert len(prompts) >= EACH
    for text, label in prompts:
        assert f"the {label.removeprefix('The ')}".casefold() in text.casefold()
