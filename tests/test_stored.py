"""The graph of an index on the disk answers what the graph in memory answers, in bounded memory."""

from __future__ import annotations

import pickle
import sqlite3
from dataclasses import replace
from itertools import islice
from pathlib import Path
from random import Random

import pytest
from small_world import SMALL, templates, world

from cfbuild.data import UNKNOWN, Entity, Fact
from cfbuild.errors import DataError
from cfbuild.facts import bounded, stored
from cfbuild.facts import graph as graph_module
from cfbuild.facts.graph import FactGraph
from cfbuild.facts.index import is_whole, write_index
from cfbuild.facts.stored import StoredGraph
from cfbuild.records.factset import FactSet, StoredFacts, snapshot
from cfbuild.records.maker import RecordMaker

TODAY = "2026-11-26"
NAMES = ("Ruda", "Ruda (Silesia)", "RUDA", "Lima", "en", "Ann", "Ann (painter)", "", "straße", "STRASSE", "Łódź")
LABELS = [*filter(None, NAMES), "nobody"]


def tangled(seed: int, items: int = 60) -> FactSet:
    """Facts and entities with every difficulty: ranks, dates, unknown objects, repetitions, names that are shared."""
    random = Random(seed)
    ids = [f"Q{number}" for number in random.sample(range(1, 400), items)]

    def name() -> str:
        return random.choice(NAMES)

    facts = [
        Fact(
            random.choice(("P17", "P36", "P131", "P31")),
            random.choice(ids),
            random.choice([*ids[:9], *ids[:9], random.choice(ids), UNKNOWN]),
            random.choice((None, "normal", "preferred", "deprecated")),
            random.choice((None, None, "1990", "2030-01-01", UNKNOWN)),
            random.choice((None, None, "2001-05", "2031", UNKNOWN)),
            random.choice(("wikidata", "")),
        )
        for _ in range(items * 4)
    ]
    entities = [
        Entity(
            entity_id,
            {code: name() for code in random.sample(("en", "mul", "de", "ru"), random.randrange(4))},
            {code: (name(), name()) for code in random.sample(("en", "mul", "en-gb"), random.randrange(3))},
            {relation: (random.choice(ids),) for relation in random.sample(("P31", "P279", "P361"), 1)},
            random.choice((None, 3)),
        )
        for entity_id in ids[3:]
    ]
    again = replace(entities[0], labels={"en": "Ruda"})
    language = random.choice(("en", "ru"))
    return FactSet(tuple(facts + facts[:7]), (*entities, again), (), language, TODAY)


def index_of(facts: FactSet, folder: Path) -> Path:
    path = folder / "facts.sqlite"
    write_index(path, facts.facts, facts.entities, facts.language, facts.today or TODAY)
    return path


def answers(graph: FactGraph, items: list[str], labels: list[str]) -> list[object]:
    """Every answer of a graph about these items and labels."""
    about: list[object] = [
        graph.relations,
        sorted(graph.entities),
        [graph.entities.get(entity_id) for entity_id in items],
    ]
    for relation in graph.relations:
        about += [graph.facts_of(relation), graph.case_ids(relation), graph.cases(graph.case_ids(relation)[::-2])]
        about += [list(graph.object_counts(relation).items())]
        about += [graph.objects_named(relation, label) for label in labels]
        for entity_id in items:
            about += [
                graph.values(entity_id, relation),
                graph.statements(entity_id, relation),
                graph.subjects(relation, entity_id),
                list(graph.holders(relation, entity_id)),
            ]
            about += [graph.current_values(entity_id, relation), graph.attributes(entity_id, relation)]
    for entity_id in items:
        about += [
            graph.label(entity_id),
            graph.names(entity_id),
            graph.containers(entity_id),
            graph.class_names(entity_id),
            graph.article(entity_id),
        ]
        about += [graph.known_values(entity_id), graph.subject_kinds(entity_id), graph.folded_names(entity_id)]
    for label in labels:
        about += [graph.items_named(label), graph.namesakes(label), graph.items_called(label)]
    return about


@pytest.mark.parametrize("seed", range(12))
def test_the_same_questions_have_the_same_answers(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = tangled(seed)
    items = [*sorted({one for fact in facts.facts for one in (fact.subject, fact.object)}), "Q999", ""]
    plain = answers(facts.graph(), items, LABELS)
    path = index_of(facts, tmp_path)
    assert answers(StoredGraph(path, facts.language, TODAY), items, LABELS) == plain
    for module, name in (
        (stored, "CACHED_ITEMS"),
        (stored, "CACHED_VALUES"),
        (stored, "CACHED_COUNTS"),
        (bounded, "MOST"),
    ):
        monkeypatch.setattr(module, name, 2)  # too small a memory changes nothing
    assert answers(StoredGraph(path, facts.language, TODAY), items, LABELS) == plain


def test_what_a_graph_forgot_it_answers_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = tangled(1)
    items = sorted({one for fact in facts.facts for one in (fact.subject, fact.object)})
    graphs = facts.graph(), StoredGraph(index_of(facts, tmp_path), facts.language, TODAY)
    before = [answers(graph, items, LABELS) for graph in graphs]
    for most, is_kept in ((50_000, True), (2, False)):
        monkeypatch.setattr(graph_module, "MOST", most)
        for graph in graphs:
            graph.forget()
            assert bool(graph._folded) is is_kept
    assert graphs[1].values.cache_info().currsize == 0  # type: ignore[attr-defined]
    assert [answers(graph, items, LABELS) for graph in graphs] == before


def test_the_order_of_rows_changes_no_answer(tmp_path: Path) -> None:
    facts = tangled(3)
    mixed = FactSet(tuple(Random(1).sample(facts.facts, len(facts.facts))), facts.entities, (), facts.language, TODAY)
    both = [index_of(one, tmp_path) and StoredGraph(tmp_path / "facts.sqlite", "en", TODAY) for one in (facts, mixed)]
    assert len({tuple(graph.facts_of(one) for one in graph.relations) for graph in both}) == 1


def test_records_are_the_same_in_any_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, entities = world()
    asking = (*templates("P551"), *templates("P937"))
    facts = FactSet(tuple(made), tuple(entities), asking, today=TODAY)
    whole = RecordMaker(facts, SMALL).make()
    index = StoredFacts(index_of(facts, tmp_path), facts.templates, facts.language, TODAY)
    for most in (3, 50_000):
        for module, name in ((stored, "CACHED_ITEMS"), (stored, "CACHED_VALUES"), (bounded, "MOST")):
            monkeypatch.setattr(module, name, most)
        assert RecordMaker(index, SMALL).make() == whole
    again = pickle.loads(pickle.dumps(RecordMaker(index, SMALL)))
    assert again.make(limit=9) == RecordMaker(facts, SMALL).make(limit=9)


def test_records_of_the_bundled_facts_are_the_same(tmp_path: Path) -> None:
    facts = snapshot()
    index = StoredFacts(index_of(facts, tmp_path), facts.templates, facts.language, facts.today)
    made, plain = RecordMaker(index).make(limit=60), RecordMaker(facts).make(limit=60)
    assert made == plain and made.records
    relations = "P36", "P103"
    sentences = RecordMaker(index).references(relations), RecordMaker(facts).references(relations)
    assert list(islice(sentences[0], 200)) == list(islice(sentences[1], 200))


def test_an_index_is_whole_or_made_again(tmp_path: Path) -> None:
    path = index_of(tangled(1), tmp_path)
    assert is_whole(path)
    content = path.read_bytes()
    for broken in (content[:-100], content[:5000] + b"x" + content[5001:], b""):
        path.write_bytes(broken)
        assert not is_whole(path)
    with pytest.raises(DataError, match="damaged"):
        path.write_bytes(b"nothing of the kind" * 300)
        StoredGraph(path)
    write_index(path, (), (), "en", TODAY)
    assert is_whole(path) and StoredGraph(path).relations == ()

    def breaks() -> object:
        yield Fact("P36", "Q1", "Q2")
        raise DataError("line 2 is broken")

    with pytest.raises(DataError, match="line 2"):
        write_index(path, breaks(), (), "en", TODAY)  # type: ignore[arg-type]
    assert not is_whole(path)  # what was there was of other facts
    with pytest.raises(DataError, match="64 bits"):
        write_index(path, [Fact("P36", "Q9999999999999999999", "Q2")], (), "en", TODAY)


def test_an_index_is_read_only(tmp_path: Path) -> None:
    path = index_of(tangled(1), tmp_path)
    before = path.read_bytes()
    graph = StoredGraph(path)
    with pytest.raises(DataError, match="damaged"):
        graph._select("DELETE FROM facts")
    assert path.read_bytes() == before
    with sqlite3.connect(path) as plain:
        (count,) = plain.execute("SELECT count(*) FROM facts").fetchone()
    assert count == sum(1 for _ in {*tangled(1).facts})
