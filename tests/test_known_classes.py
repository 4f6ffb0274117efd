"""Kinds told by the ids of classes, in graphs of any language."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from cfbuild.data import Entity, Fact, id_number
from cfbuild.facts.bundled import bundled_classes
from cfbuild.facts.graph import FactGraph
from cfbuild.facts.kinds import Kinds, kinds_in
from cfbuild.facts.known_classes import known_above, known_classes
from cfbuild.facts.subjects import kinds_of_class

CITY, STATE, FILM = "Q515", "Q3624078", "Q11424"


def graph(code: str, classes: dict[str, tuple[str, ...]], above: dict[str, tuple[str, ...]] | None = None) -> FactGraph:
    """Return items named in `code` alone with classes, which have no names; `above` holds what is above a class."""
    items = [Entity(item, {code: f"Jina {item}"}, attributes={"P31": ids}) for item, ids in classes.items()]
    outer = [Entity(one, attributes={"P279": ids}) for one, ids in (above or {}).items()]
    return FactGraph([Fact("P17", "Q1001", "Q1002")], [*items, *outer], code)


@pytest.mark.parametrize("code", ["sw", "fr", "ja", "en"])
def test_kinds_need_no_english_names(code: str) -> None:
    kinds = Kinds(graph(code, {"Q1001": (CITY,), "Q1002": (STATE,), "Q1003": (FILM,), "Q1004": ("Q99999999",)}))
    assert kinds.of("Q1001") == {"settlement"} and kinds.of("Q1002") == {"country"}
    assert kinds.of("Q1003") == {FILM, "work"} and kinds.of("Q1004") == {"Q99999999"}


def test_a_class_that_is_not_known_is_told_by_those_above_it() -> None:
    above = {"Q90000001": ("Q90000002",), "Q90000002": ("Q90000001", "Q90000003"), "Q90000003": (FILM, CITY)}
    world = graph("de", {"Q1001": ("Q90000001",)}, above)
    assert world.class_name("Q90000001") == "city" and Kinds(world).of("Q1001") == {"settlement"}
    assert world.subject_kinds("Q1001") == frozenset()
    assert known_above("Q90000001", lambda name: above.get(name, ())) == "city"
    assert known_above("Q1", lambda name: (f"Q{id_number(name) + 1}",)) in known_classes().values()
    assert known_above("Q1", lambda name: ("Q1",)) == ""


def test_a_french_name_of_a_class_is_not_read_as_english() -> None:
    french = FactGraph(
        [], [Entity("Q1001", {"fr": "Nom"}, attributes={"P31": ("Q5000",)}), Entity("Q5000", {"fr": "film"})], "fr"
    )
    assert french.class_names("Q1001") == () and french.subject_kinds("Q1001") == frozenset()
    named = FactGraph([], [Entity("Q1001", attributes={"P31": ("Q5000",)}), Entity("Q5000", {"en": "film"})], "fr")
    assert named.subject_kinds("Q1001") == {"film"}


def test_every_class_of_the_table_tells_a_kind() -> None:
    table = known_classes()
    assert len(table) > 250
    silent = {name for one, name in table.items() if not (kinds_in({one: name}) - {one} or kinds_of_class(name))}
    assert silent <= {one.name for one in bundled_classes().values()}


@pytest.mark.shared
def test_ids_and_names_of_classes_are_wikidatas(excerpt: Path) -> None:
    label = re.compile(r'<http://www\.wikidata\.org/entity/(Q\d+)> <[^>]*#label> "(.*)"@en \.\n')
    with gzip.open(excerpt, "rt", encoding="utf-8") as stream:
        labels = dict(match.groups() for line in stream if (match := label.fullmatch(line)))
    differing = {one for one, name in known_classes().items() if labels.get(one, name).casefold() != name.casefold()}
    # Somebody's prank, as it was when the excerpt was made.
    assert {labels[one] for one in differing} <= {"Relajación"}
