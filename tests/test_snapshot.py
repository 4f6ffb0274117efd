"""The bundled snapshot: its format, its size, and that it can carry whole records."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections import Counter
from importlib import resources
from pathlib import Path

import pytest

from cfbuild.data import ITEM_ID, PROPERTY_ID, Target
from cfbuild.errors import ConfigError, DataError
from cfbuild.facts.bundled import table_cells
from cfbuild.facts.graph import FactGraph
from cfbuild.filter.rules import RuleContext, judge_target
from cfbuild.sources.snapshot import (
    ALIAS_COLUMNS,
    CLASS_COLUMNS,
    FACT_COLUMNS,
    Snapshot,
    SnapshotOptions,
    aliases,
    classes,
    labels,
    load,
    rows,
)
from cfbuild.templates import builtin
from cfbuild.text.names import find_name

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "check_snapshot.py"
HEADER = "\t".join(FACT_COLUMNS)
GOOD = "P17\tQ64\tBerlin\tQ183\tGermany"


@pytest.fixture(scope="module")
def graph() -> FactGraph:
    source = Snapshot()
    facts = [fact for relation in source.relations() for fact in source.facts(relation)]
    return FactGraph(facts, source.entities())


def test_size() -> None:
    count = Counter(row.relation for row in rows())
    assert len(count) >= 24
    assert min(count.values()) >= 40, count.most_common()[-1]
    assert sum(count.values()) >= 1200


def test_full_neighborhoods(graph: FactGraph) -> None:
    """Check that a record has prompts about 10 other subjects with the object, and 10 about subjects of any o*."""
    full = [row for row in rows() if len(graph.subjects(row.relation, row.object)) >= 11]
    assert len(full) / len(rows()) >= 0.9
    for relation in graph.relations:
        assert len(graph.object_counts(relation)) >= 3, f"{relation} has too few objects to draw o* from"


def test_order_and_uniqueness() -> None:
    """One object for a subject and relation, and an order in which a new fact has one place."""
    keys = [(int(row.relation[1:]), int(row.object[1:]), int(row.subject[1:])) for row in rows()]
    assert keys == sorted(set(keys))
    assert len({(row.relation, row.subject) for row in rows()}) == len(rows())


def test_label_names_one_subject_of_a_relation() -> None:
    count = Counter((row.relation, row.subject_label.casefold()) for row in rows())
    assert [name for name, number in count.items() if number > 1] == []


def test_object_is_not_named_in_subject(graph: FactGraph) -> None:
    named = [
        (row.relation, row.subject_label, name)
        for row in rows()
        if (name := find_name(row.subject_label, graph.names(row.object)))
    ]
    assert named == []


def test_nothing_that_was_taken_out_is_back() -> None:
    """Nobody known for crimes, nothing that was true once only, and no relation whose facts end unnoticed."""
    spec = importlib.util.spec_from_file_location("check_snapshot", SCRIPT)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = script
    spec.loader.exec_module(script)
    gone = script.removed()
    assert gone["*", "Q352"] == "sensitive" and gone["P159", "Q731938"] == "dissolved, merged, or moved"
    assert list(script.unwanted()) == []
    assert not {row.relation for row in rows()} & set(script.PASSING)
    people = script.Excerpt(labels={"Q1": "serial killer"}, objects={(rows()[0].subject, "P106"): {"Q1"}})
    assert list(script.criminals(people)) == [f"{rows()[0].subject}: {rows()[0].subject_label} is serial killer"]
    people.objects = {(rows()[0].subject, "P1399"): {"Q2"}}
    assert list(script.criminals(people)) == [f"{rows()[0].subject}: {rows()[0].subject_label} is convicted"]


def test_every_relation_has_templates() -> None:
    assert set(Snapshot().relations()) <= set(builtin.relations())


def test_aliases_belong_to_objects() -> None:
    objects = {row.object for row in rows()}
    assert set(aliases()) <= objects
    assert "New York" in aliases()["Q60"]


def test_classes_keep_kinds_apart(graph: FactGraph) -> None:
    context = RuleContext(graph, {})
    fact = next(fact for fact in graph.facts_of("P131") if fact.object == "Q22")
    assert judge_target(fact, Target("Q99", "California"), context).kept
    assert judge_target(fact, Target("Q11299", "Manhattan"), context).rule == "target-kind"
    assert all(graph.label(kind) == label for kind, label in classes().values())


def test_files_end_in_one_newline() -> None:
    for name in ("snapshot.tsv", "aliases.tsv", "classes.tsv"):
        text = resources.files("cfbuild.sources").joinpath("data", name).read_text(encoding="utf-8")
        assert text.endswith("\n") and not text.endswith("\n\n") and "\r" not in text


def test_source() -> None:
    source = load(SnapshotOptions())
    facts = list(source.facts("P37"))
    assert [fact.source for fact in facts] == ["snapshot"] * len(facts)
    assert facts == sorted(facts, key=lambda fact: (int(fact.subject[1:]), int(fact.object[1:])))
    assert list(source.facts("P9999")) == []
    known, unknown = source.entities(["Q64", "Q999999999"])
    assert known.labels == {"en": "Berlin"} and unknown.labels == {}
    assert source.tally.left_out == {}


def test_sample_is_seeded() -> None:
    few = list(load(SnapshotOptions(per_relation=7)).facts("P103"))
    assert len(few) == 7
    assert few == list(load(SnapshotOptions(per_relation=7)).facts("P103"))
    assert few != list(load(SnapshotOptions(per_relation=7, seed=1)).facts("P103"))
    assert set(few) <= set(Snapshot().facts("P103"))


def test_other_languages_are_refused() -> None:
    with pytest.raises(ConfigError, match="'fr'"):
        load(SnapshotOptions(language="fr"))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([GOOD], r"table:1: the columns are"),
        ([HEADER, "P17\tQ64\tBerlin\tQ183"], r"table:2: expected 5 tab-separated cells"),
        ([HEADER, "P17\tQ64\t \tQ183\tGermany"], r"table:2: expected 5 tab-separated cells"),
        ([HEADER, "P17\tQ64\tBerlin \tQ183\tGermany"], r"table:2: expected 5 tab-separated cells"),
        ([HEADER, ""], r"table:2: expected 5 tab-separated cells"),
    ],
)
def test_bad_rows_are_named(lines: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(table_cells(lines, "table", FACT_COLUMNS))


def test_every_item_has_an_id_and_one_label_in_all_three_tables() -> None:
    named = [named for row in rows() for named in ((row.subject, row.subject_label), (row.object, row.object_label))]
    for name, columns in (("aliases.tsv", ALIAS_COLUMNS), ("classes.tsv", CLASS_COLUMNS)):
        text = resources.files("cfbuild.sources").joinpath("data", name).read_text(encoding="utf-8")
        named += [(cells[0], cells[1]) for _, cells in table_cells(text.removesuffix("\n").split("\n"), name, columns)]
    assert set(named) == set(labels().items()) and len(labels()) > 1000
    assert all(ITEM_ID.match(item) for item in labels()) and all(PROPERTY_ID.match(row.relation) for row in rows())
    assert all(ITEM_ID.match(kind) for kind, _ in classes().values())


@pytest.mark.shared
def test_ids_and_labels_are_wikidatas(excerpt: Path) -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), str(excerpt)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert done.stdout.splitlines()[-1].endswith("0 wrong ids or labels")
