"""Answers kept for many facts are those of the plain rule; too small a memory changes nothing."""

from __future__ import annotations

from collections import Counter
from itertools import islice, permutations, product
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_world import SMALL, world

from cfbuild.data import SLOT, Entity, Fact, article_before
from cfbuild.facts.graph import FactGraph
from cfbuild.facts.kinds import Kinds
from cfbuild.facts.relations import CONTAINMENT
from cfbuild.filter import rules as rules_module
from cfbuild.filter.context import RuleContext
from cfbuild.records import pools as pools_module
from cfbuild.records.builder import Builder, _alike
from cfbuild.records.draft import BuildOptions
from cfbuild.records.factset import FactSet, snapshot
from cfbuild.records.maker import RecordMaker
from cfbuild.records.pools import FAR, Pools
from cfbuild.records.shuffling import sampled, shuffled
from cfbuild.text.languages.english import derived
from cfbuild.text.names import _word_place, find_name, gives_away

FACTS = snapshot()
GRAPH = FactGraph(FACTS.facts, FACTS.entities)
RELATIONS = ("P19", "P36", "P106", "P176", "P1001")
SOME = [fact for relation in RELATIONS for fact in GRAPH.facts_of(relation)[::12]]
"""Facts of relations whose subjects and objects differ: people, cities, occupations, companies, countries."""


def builder() -> Builder:
    return Builder(GRAPH, FACTS.templates, BuildOptions(seed=3))


def distance(kinds: Kinds, true: str, new_object: str) -> int:
    """Return the steps from `true` up to the closest class that it shares with `other`."""
    classes = {one for step in kinds.ladder(new_object) for one in step}
    return next((steps for steps, step in enumerate(kinds.ladder(true), 1) if classes & step), FAR)


def test_tiers_hold_every_object_once_by_its_distance() -> None:
    pools, kinds = Pools(GRAPH), Kinds(GRAPH)
    for relation in RELATIONS:
        objects = pools.objects(relation)
        for true in objects[:20]:
            tiers = pools.tiers(relation, true.id)
            found = [(tier.steps, place) for tier in tiers for place in tier.places]
            assert found == sorted((distance(kinds, true.id, one.id), place) for place, one in enumerate(objects))
            far = (distance(kinds, true.id, one.id) for one in objects if one.id != true.id)
            nearest = next(tier.steps for tier in tiers if {*tier.places} - {objects.index(true)})
            assert nearest == min(far)


def test_objects_are_drawn_in_the_order_of_their_times_tier_by_tier() -> None:
    made, kinds = builder(), Kinds(GRAPH)
    for fact in SOME:
        random, objects = Random(f"3:{fact.relation}:{fact.subject}:draws"), made.pools.objects(fact.relation)
        times = [random.expovariate(GRAPH.object_counts(fact.relation)[one.id]) for one in objects]
        ranks = [(distance(kinds, fact.object, one.id), time) for one, time in zip(objects, times, strict=True)]
        drawn = made.pools.drawn(fact.relation, fact.object, made._random(fact, "draws"))
        assert list(drawn) == [one for _, one in sorted(zip(ranks, objects, strict=True), key=lambda x: x[0])]


def test_of_many_objects_each_is_drawn_once_tier_by_tier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools_module, "MANY", 0)
    pools = Pools(GRAPH)
    for fact in SOME[::4]:
        objects = pools.objects(fact.relation)
        found = list(pools.drawn(fact.relation, fact.object, Random(fact.subject)))
        places = {one.id: place for place, one in enumerate(objects)}
        tiers = iter([places[one.id] for one in found])
        for tier in pools.tiers(fact.relation, fact.object):
            assert sorted(next(tiers) for _ in tier.places) == list(tier.places)
        assert len(found) == len(objects)


@pytest.mark.parametrize("many", [0, 1_000])
def test_few_or_many_objects_are_drawn_in_proportion_to_their_counts(
    many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Draw the first two of five objects, of 6,000 draws: each pair comes as often as weighted draws give it."""
    monkeypatch.setattr(pools_module, "MANY", many)
    counts = (1, 2, 3, 5, 9)
    subjects = iter(range(100, 200))
    facts = [Fact("P551", f"Q{next(subjects)}", f"Q{place}") for place, n in enumerate(counts, 1) for _ in range(n)]
    classes = {1: ("Q71", "Q72"), 2: ("Q71",), 3: ("Q72",), 4: ("Q71", "Q72"), 5: ("Q72",)}
    entities = [Entity(f"Q{one}", {"en": f"Name {one}"}, attributes={"P31": of}) for one, of in classes.items()]
    pools = Pools(FactGraph(facts, entities))
    random, number = Random(1), 6_000
    pairs = Counter(tuple(one.id for one in islice(pools.drawn("P551", "Q1", random), 2)) for _ in range(number))
    total = sum(counts)
    for (i, first), (j, second) in permutations(enumerate(counts, 1), 2):
        share = first / total * second / (total - first)
        error = (number * share * (1 - share)) ** 0.5
        assert abs(pairs[f"Q{i}", f"Q{j}"] - number * share) < 4.5 * error


def test_items_of_a_form_are_asked_about_by_the_same_templates() -> None:
    made, clash = builder(), GRAPH.wording.article_clash
    for fact, neighbor in product(SOME[::3], SOME[::4]):
        item, label = neighbor.subject, GRAPH.label(fact.object) or ""
        kinds, article = GRAPH.subject_kinds(item), GRAPH.article(item)
        fitting = [one for one in made.templates(fact.relation) if one.suits(kinds) and not clash(one.text, label)]
        inside = [one for one in fitting if not one.text.startswith(SLOT)]
        small = GRAPH.wording.begins_small(GRAPH.label(item) or "") and not article
        for needed in (1, 3):
            expected = inside if small and len(inside) >= needed else fitting
            ways = made._fitting_templates(fact, needed)[made._forms[item]]
            assert [one.template for one in ways] == expected
            assert [one.text for one in ways] == [article_before(one.text, article) for one in expected]
        count = RuleContext(GRAPH, {fact.relation: tuple(made.templates(fact.relation))}).fitting(
            Fact(fact.relation, item, fact.object)
        )
        assert count == len(fitting)


def test_containers_are_reached_by_containing_relations_alone() -> None:
    for item in list(GRAPH.entities)[::5]:
        found: set[str] = set()
        front = {item}
        while front:
            front = {outer for one in front for name in CONTAINMENT for outer in GRAPH.attributes(one, name)} - found
            found |= front
        assert GRAPH.containers(item) == found - {item}


@given(seed=st.integers(), size=st.integers(1, 40))
def test_draws_are_those_of_the_standard_library(seed: int, size: int) -> None:
    items, plain, swapped = range(size), Random(seed), list(range(size))
    for place in range(size):
        chosen = plain.randrange(place, size)
        swapped[place], swapped[chosen] = swapped[chosen], swapped[place]
    assert list(shuffled(Random(seed), items)) == swapped
    for most in (1, 2):
        assert sampled(Random(seed), items, most) == Random(seed).sample(items, min(most, size))
    assert sampled(Random(seed), [], 1) == []


NAMES = st.text(alphabet="aAbBsSßİ '-1é", min_size=1, max_size=8)


@given(left=NAMES, right=NAMES)
def test_names_of_which_none_is_in_the_other_are_not_alike(left: str, right: str) -> None:
    first, second = left.casefold(), right.casefold()
    assert first in second or second in first or not _alike(left, right)


@given(text=NAMES, label=NAMES, aliases=st.lists(NAMES, max_size=3))
def test_the_first_name_that_a_text_holds_gives_it_away(text: str, label: str, aliases: list[str]) -> None:
    names = (label, *aliases)
    found = next((name for name in names if find_name(text, (name,)) is not None), None)
    whole = label if _word_place(text.casefold(), label.casefold()) is not None else None
    assert find_name(text, names) == found
    assert gives_away(text, label, names, GRAPH.wording) == (found or whole or derived(text, label))


def test_memory_that_holds_a_single_answer_changes_no_record(monkeypatch: pytest.MonkeyPatch) -> None:
    facts, entities = world()
    given_facts = FactSet(
        tuple(facts), tuple(entities), tuple(one for one in FACTS.templates if one.relation == "P937")
    )
    plenty = RecordMaker(given_facts, SMALL).make(relations=["P937"])
    assert plenty.records
    monkeypatch.setattr(pools_module, "TIERS", 1)
    monkeypatch.setattr(rules_module, "REMEMBERED", 1)
    monkeypatch.setattr("cfbuild.filter.context.REMEMBERED", 1)
    assert RecordMaker(given_facts, SMALL).make(relations=["P937"]) == plenty
