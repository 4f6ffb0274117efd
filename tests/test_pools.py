"""The pool that o* is ranked in, the objects that it is drawn from, and the bundled objects by class."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from math import log
from pathlib import Path
from random import Random

import numpy as np
import pytest
from small_world import item, templates

from cfbuild.data import Entity, Fact, SharedClass, Target
from cfbuild.errors import DataError
from cfbuild.facts.bundled import COLUMNS, bundled_classes, classes_by_member, read_bundled
from cfbuild.facts.graph import FactGraph
from cfbuild.facts.kinds import Kinds, kinds_in
from cfbuild.filter.context import Rules
from cfbuild.records.builder import Builder
from cfbuild.records.draft import BuildOptions
from cfbuild.records.draws import SCOUTS, race, random_numbers
from cfbuild.records.factset import FactSet, snapshot
from cfbuild.records.maker import RecordMaker
from cfbuild.records.pools import ENOUGH, FAR, Pools

HEADER = "\t".join(COLUMNS)
LANGUAGE, CITY = "Q34770", "Q515"
CAR, MAKER, FIRM, YARD = 900_001, 900_002, 900_003, 900_004
"""Classes: a car maker is a maker, a maker and a shipyard are firms."""


def classed(number: int, label: str, *classes: int, above: Iterable[int] = ()) -> Entity:
    attributes = {"P31": tuple(f"Q{one}" for one in classes), "P279": tuple(f"Q{one}" for one in above)}
    return Entity(f"Q{number}", {"en": label}, attributes={name: ids for name, ids in attributes.items() if ids})


def firms() -> list[Entity]:
    return [
        classed(CAR, "car maker", above=[MAKER]),
        classed(MAKER, "maker", above=[FIRM]),
        classed(YARD, "shipyard", above=[FIRM]),
        item(FIRM, "firm"),
        classed(800_001, "Abarth", CAR),
        classed(800_002, "Bizzarrini", CAR),
        classed(800_003, "Foundry Inc", MAKER),
        classed(800_004, "Dockside", YARD),
        item(800_005, "Nobody"),
        classed(800_006, "Lonely", 900_009),
    ]


def made_by(*makers: int) -> FactGraph:
    """Return a graph of things, one for each of `makers`, and these by P176."""
    things = [item(700_000 + place, f"Thing {place}") for place, _ in enumerate(makers)]
    facts = [Fact("P176", f"Q{700_000 + place}", f"Q{800_000 + maker}") for place, maker in enumerate(makers)]
    return FactGraph(facts, [*firms(), *things])


# ------------------------------------------------------------------------------------------------------ bundled table


def test_every_bundled_class_but_the_continents_has_fifty_members() -> None:
    few = {class_.name: len(class_.members) for class_ in bundled_classes().values() if len(class_.members) < 50}
    assert few == {"continent": 7}
    assert len(bundled_classes()) >= 18
    for class_ in bundled_classes().values():
        assert kinds_in({class_.id: class_.name}), "a class without a kind helps no pool"
        ids = [member.id for member in class_.members if member.id]
        assert len(set(ids)) == len(ids)


def test_members_know_their_classes() -> None:
    assert LANGUAGE in classes_by_member()["Q1860"] and "" not in classes_by_member()
    kinds = Kinds(FactGraph([], []))
    assert kinds.of("Q1860") == {LANGUAGE, "language"} and kinds.of("Q90") == {"settlement"}
    dutch = Kinds(FactGraph([], [classed(7411, "Dutch", 900_001, above=[900_002])]))
    assert dutch.ladder("Q7411") == ({"Q900001", "Q900002"}, {LANGUAGE}), "the facts' own classes are nearer"
    assert kinds.of("Q999999999999") == frozenset() and kinds.ladder("Q999999999999") == ()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([f"{LANGUAGE}\tlanguage\t-\tDutch"], "table:1: the columns are"),
        ([HEADER, f"{LANGUAGE}\tlanguage\tDutch"], "table:2: expected 4 tab-separated cells"),
        ([HEADER, f"{LANGUAGE}\tlanguage\t-\t "], "table:2: expected 4 tab-separated cells"),
        ([HEADER, f"{LANGUAGE}\tlanguage\tQ07\tDutch"], "table:2: 'Q07' is not an item id"),
        ([HEADER, "P1\tlanguage\t-\tDutch"], "table:2: 'P1' is not an item id"),
        ([HEADER, "Q7\tlanguage\t-\tDutch", "Q7\ttongue\t-\tThai"], "table:3: Q7 is called both"),
        ([HEADER, "Q7\tlanguage\t-\tDutch", "Q7\tlanguage\t-\tDUTCH"], "table:3: language has 'DUTCH' already"),
    ],
)
def test_bad_lines_are_named(lines: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(read_bundled(lines, "table"))


@pytest.mark.shared
def test_ids_and_names_are_wikidatas(excerpt: Path) -> None:
    members = {member.id: member.label for one in bundled_classes().values() for member in one.members if member.id}
    seen = {}
    with gzip.open(excerpt, "rt", encoding="utf-8") as stream:
        for line in stream:
            subject, predicate, value = line.split(" ", 2)
            name = subject.rsplit("/", 1)[1].removesuffix(">")
            if name in members and predicate.endswith("#label>") and value.endswith("@en .\n"):
                seen[name] = json.loads(value.removesuffix("@en .\n"))
    assert len(seen) > 400
    assert {name: (members[name], label) for name, label in seen.items() if members[name] != label} == {}


# --------------------------------------------------------------------------------------------------------------- pools


def spoken(*languages: Entity, language: str = "en") -> Pools:
    """Pools of a graph in which someone speaks each of `languages`, and somebody was born in Springfield."""
    facts = [Fact("P103", f"Q{600_000 + place}", one.id) for place, one in enumerate(languages)]
    return Pools(
        FactGraph([*facts, Fact("P19", "Q600000", "Q600999")], [*languages, item(600_999, "Springfield")], language), 50
    )


def test_a_pool_holds_all_that_could_be_said_and_each_name_once() -> None:
    dutch = Entity("Q7411", {"en": "Dutch"}, {"en": ("Flemish", "Danish")})
    pools = spoken(dutch, item(600_001, "FRENCH"), item(600_002, "Gibberish"))
    pool = pools.pool("P103", "Q7411")
    names = [target.label.casefold() for target in pool]
    assert len(pool) == ENOUGH and len(set(names)) == len(names)
    assert pool[:3] == (Target("Q7411", "Dutch"), Target("Q600001", "FRENCH"), Target("Q600002", "Gibberish"))
    assert "danish" not in names, "another name of Dutch is no second object"
    assert "springfield" not in names and "paris" not in names


def test_the_build_s_own_objects_of_the_kind_come_before_the_bundled_ones() -> None:
    elvish, valyrian = classed(600_003, "Elvish", 34770), classed(600_004, "Valyrian", 34770)
    facts = [Fact("P103", "Q1", elvish.id), Fact("P407", "Q2", valyrian.id)]
    pool = Pools(FactGraph(facts, [elvish, valyrian, item(34770, "language")]), 50).pool("P103", elvish.id)
    assert pool[:2] == (Target(elvish.id, "Elvish"), Target(valyrian.id, "Valyrian")) and len(pool) > 50


def test_bundled_names_are_not_said_in_other_languages() -> None:
    dutch = Entity("Q7411", {"de": "Niederländisch"})
    assert spoken(dutch, language="de").pool("P103", "Q7411") == (Target("Q7411", "Niederländisch"),)


def test_an_object_of_another_kind_is_in_no_pool() -> None:
    english, paris = item(1860, "English"), item(90, "Paris")
    pools = spoken(english, paris)
    assert Target("Q90", "Paris") not in pools.pool("P103", "Q1860")
    assert Target("Q1860", "English") not in pools.pool("P103", "Q90")
    assert len(pools.pool("P103", "Q90")) == ENOUGH


def test_an_object_without_a_class_has_the_kinds_of_most() -> None:
    languages = [item(1860, "English"), item(7411, "Dutch")]
    assert len(spoken(*languages, item(600_001, "Gibberish")).pool("P103", "Q600001")) > 90
    rare = [item(600_000 + number, f"Gibberish {number}") for number in range(1, 9)]
    assert len(spoken(*languages, *rare).pool("P103", "Q600001")) == 10


def test_coarser_kinds_fill_a_pool_that_is_too_small() -> None:
    graph = FactGraph([Fact("P176", "Q1", "Q800001")], [classed(800_001, "Abarth", CAR), item(CAR, "car manufacturer")])
    assert len(Pools(graph, 1).pool("P176", "Q800001")) == 1
    assert len(Pools(graph, 50).pool("P176", "Q800001")) == ENOUGH, "bundled companies are of the kind too"
    several = [classed(800_001 + number, f"Firm {number}", CAR) for number in range(60)]
    facts = [Fact("P176", f"Q{number}", one.id) for number, one in enumerate(several, 1)]
    assert len(Pools(FactGraph(facts, [*several, item(CAR, "car manufacturer")]), 50).pool("P176", "Q800001")) == 60


def test_most_bundled_facts_have_a_pool_of_fifty() -> None:
    given = snapshot()
    graph = FactGraph(given.facts, given.entities)
    pools = Pools(graph, Rules().min_pool)
    sizes = {(fact.relation, fact.object): len(pools.pool(fact.relation, fact.object)) for fact in given.facts}
    small = [fact for fact in given.facts if sizes[fact.relation, fact.object] < 50]
    assert len(small) < 0.06 * len(given.facts)
    assert {fact.relation for fact in small} <= {"P30", "P361"}


def test_facts_without_a_pool_are_rejected_where_a_model_ranks() -> None:
    from test_generate import FakeFilter

    few = [item(600_001, "Ook"), item(600_002, "Eek!"), item(600_003, "Aaargh")]
    speakers = [item(610_000 + number, f"Ape {chr(65 + number)}{number}") for number in range(12)]
    facts = tuple(Fact("P551", one.id, few[place % 3].id) for place, one in enumerate(speakers))
    given = FactSet(facts, (*few, *speakers), tuple(templates("P551")))
    made = RecordMaker(given, Rules(min_neighbors=0)).make(model=FakeFilter())
    assert not made.records and len(made.rejected) == 12
    assert made.rejected[0].decision.rule == "pool-too-small"
    assert made.rejected[0].decision.measured == {"pool": 3, "needed": 50}
    assert RecordMaker(given, Rules(min_neighbors=0, min_pool=3)).make(model=FakeFilter()).records
    assert len(RecordMaker(given, Rules(min_neighbors=0)).make().records) == 12, "without a model nothing is ranked"


# --------------------------------------------------------------------------------------------------------------- class


def test_tiers_are_the_objects_by_the_steps_up_to_the_closest_shared_class() -> None:
    pools = Pools(made_by(1, 2, 3, 4, 5, 6))
    labels = [target.label for target in pools.objects("P176")]
    tiers = [(tier.steps, [labels[place] for place in tier.places]) for tier in pools.tiers("P176", "Q800001")]
    assert tiers == [
        (1, ["Abarth", "Bizzarrini"]),
        (2, ["Foundry Inc"]),
        (3, ["Dockside"]),
        (FAR, ["Nobody", "Lonely"]),
    ]
    assert [tier.steps for tier in pools.tiers("P176", "Q800005")] == [FAR]
    assert pools.tiers("P176", "Q800005") is pools.tiers("P176", "Q800005")


def test_classes_that_lie_in_a_circle_end() -> None:
    entities = [classed(1, "one", 2), classed(2, "two", above=[3]), classed(3, "three", above=[2, 1])]
    assert Kinds(FactGraph([], entities)).ladder("Q1") == ({"Q2"}, {"Q3"})


def test_the_class_that_is_shared_and_why_no_nearer_one() -> None:
    pools = Pools(made_by(1, 2, 3, 4, 5, 6))

    def shared(true: int, new: int) -> SharedClass:
        return pools.shared_class("P176", f"Q{800_000 + true}", f"Q{800_000 + new}")

    assert shared(1, 2) == SharedClass(f"Q{CAR}", 1, None)
    assert shared(1, 3) == SharedClass(f"Q{MAKER}", 2, "nearer-refused")
    assert shared(1, 5) == SharedClass(None, None, "nearer-refused")
    assert shared(3, 4) == SharedClass(f"Q{FIRM}", 2, "nearer-refused")
    assert shared(5, 1) == SharedClass(None, None, "class-unknown")
    assert shared(6, 1) == SharedClass(None, None, "none-shares")
    assert Pools(made_by(1, 4, 5)).shared_class("P176", "Q800001", "Q800004") == SharedClass(f"Q{FIRM}", 3, None)


def test_false_objects_of_the_closest_class_are_drawn_first() -> None:
    graph = made_by(1, 2, 3, 4, 4, 4, 4, 5, 6)
    for seed in range(10):
        builder = Builder(graph, [*templates("P176")], BuildOptions(seed=seed, max_draws=10))
        draft = builder.draft(0, Fact("P176", "Q700000", "Q800001"))
        assert [target.label for target in draft.draws][:3] == ["Bizzarrini", "Foundry Inc", "Dockside"]
        assert {target.label for target in draft.draws[3:]} == {"Nobody", "Lonely"}
        record = builder.record(draft, draft.draws[0])
        assert record.shared_class == SharedClass(f"Q{CAR}", 1, None)


@pytest.mark.parametrize("size", [1, SCOUTS, SCOUTS + 1, 400])
@pytest.mark.parametrize("seed", range(20))
def test_a_race_has_the_order_of_all_arrivals(size: int, seed: int) -> None:
    random = Random(seed)
    counts = [random.choice((1, 1, 2, 5, 1000)) for _ in range(2 * size)]
    places = sorted(random.sample(range(2 * size), size))
    numbers = np.array([random.choice((0.0, 0.5, random.random())) for _ in counts])  # equal numbers: ties go by place
    arrivals = sorted((-log(1.0 - numbers[place]) / counts[place], place) for place in places)
    assert list(race(places, counts, numbers)) == [place for _, place in arrivals]


def test_random_numbers_are_those_that_python_draws_one_by_one() -> None:
    together, alone = Random("seed"), Random("seed")
    for count in (0, 1, 7, 1000):
        assert random_numbers(together, count).tolist() == [alone.random() for _ in range(count)]
    assert together.random() == alone.random()
