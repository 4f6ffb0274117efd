from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from small_world import item, rewrites

from cfbuild.data import UNKNOWN, Entity, Fact, Target, Template
from cfbuild.facts.graph import FactGraph
from cfbuild.filter.context import Rules
from cfbuild.filter.rules import (
    DRAFT_RULES,
    FACT_RULES,
    TARGET_RULES,
    TEMPLATE_RULES,
    Outcome,
    RuleContext,
    judge_draft,
    judge_fact,
    judge_target,
    judge_template,
)
from cfbuild.records.factset import FactSet
from cfbuild.records.maker import RecordMaker
from cfbuild.records.prefixes import Prefixes
from cfbuild.text.languages import language

ENGLISH = language("en")
FACT = Fact("P551", "Q100", "Q1")
CLEAN = (item(1, "Oslo", "Kristiania"), item(2, "Lima"), item(100, "Ann Lee"), item(101, "Bob"))
PAIRS = ((100, 1), (101, 2))


TEXTS = ("{} lives in", "The home of {} is in", "{}, who resides in")


def context(
    entities: Iterable[Entity] = CLEAN,
    pairs: Iterable[tuple[int, int]] = PAIRS,
    facts: Iterable[Fact] = (),
    **options: object,
) -> RuleContext:
    """Return the clean world with some entities, pairs or whole facts put in the place of its own."""
    by_id = {entity.id: entity for entity in (*CLEAN, *entities)}
    texts = options.pop("rewrite_templates", {"P551": TEXTS})
    assert isinstance(texts, dict)
    prompts = {relation: rewrites(relation, some) for relation, some in texts.items()}
    plain = (Fact("P551", f"Q{s}", f"Q{o}") for s, o in pairs)
    return replace(RuleContext(FactGraph((*plain, *facts), by_id.values()), prompts), **options)  # type: ignore[arg-type]


def stated(rank: str, value: int = 1, subject: int = 100, **dates: str) -> Fact:
    return Fact("P551", f"Q{subject}", f"Q{value}", rank=rank, **dates)


def linked(sitelinks: int | None) -> Entity:
    return Entity("Q100", {"en": "Ann Lee"}, sitelinks=sitelinks)


def classed(number: int, label: str, *classes: int) -> Entity:
    return Entity(f"Q{number}", {"en": label}, attributes={"P31": tuple(f"Q{one}" for one in classes)})


CLASSES = (item(50, "city of Norway"), item(51, "big city"), item(52, "sovereign state"), item(53, "brook trout"))


def with_kinds(true: Entity, new: Entity) -> RuleContext:
    return context([*CLASSES, true, new])


def inside(*facts: tuple[str, int, int]) -> RuleContext:
    return context(facts=[Fact(relation, f"Q{s}", f"Q{o}") for relation, s, o in facts])


BORDER = Fact("P47", "Q100", "Q1")
PREFERRED = [stated("preferred", 2)]
PROFESSION = {"P551": ("{} is a", "{} works as", "{} earns money as")}
JOBS = (item(1, "poet"), item(2, "actor"))


def album(label: str, *entities: Entity, **about: object) -> RuleContext:
    """Return the clean world with a subject of this label, an album unless `about` says otherwise, and others."""
    given = {"attributes": {"P31": ("Q60",), "P361": ("Q61",)}, **about}
    classes = item(60, "live album"), item(61, "IRT Pelham Line"), item(62, "television series", "TV series")
    return context([*classes, *entities, Entity("Q100", {"en": label}, **given)])  # type: ignore[arg-type]


BRACKETS = [
    (album("Girl (Why You Wanna)"), album("Generator (Bad Religion album)")),
    (album("Girl (Why You Wanna)", item(102, "Girl")), album("Girl (Hyde Park)", item(102, "girl"))),
    (album("Girl (Hyde Park)", item(102, "Girls")), album("Girl (Hyde Park)", item(102, "Girl (Abbey Road)"))),
    (album("Girl (Hyde Park)"), album("Girl (Hyde Park)", aliases={"en": ("Girl",)})),
    (album("Girl (West End)"), album("Whitlock Avenue (IRT Pelham Line)")),
    (album("Web (My Own Web of Life)"), album("Web of Life (TV Series)", attributes={"P31": ("Q62",)})),
    (album("Web (The US Live)"), album("Dirt (The US Live)", item(103, "Dirt"))),
    (album("iron(III) oxide"), album("Nova (American band)")),
]
"""Subjects whose bracket is their own, and subjects whose bracket only tells namesakes apart."""

FACT_CASES = [
    ("missing-label", context(), context([item(100, None)])),
    ("missing-label", context(), context([item(1, "  ")])),
    ("qid-label", context([item(1, "Q1 Tower")]), context([item(1, "Q1")])),
    ("label-noise", context([item(100, "Girl (Why You Wanna)")]), context([item(100, "Girl (film)")])),
    ("label-noise", context([item(1, "iron(II) oxide")]), context([item(1, "Oslo (Norway)")])),
    ("label-noise", context([item(1, "AT&T")]), context([item(1, "<i>Oslo</i>")])),
    ("label-noise", context([item(1, "Ōsaka – Kōbe")]), context([item(1, "Os\u00adlo")])),
    ("label-noise", context([item(1, "Os lo")]), context([item(1, "Os\tlo")])),
    ("missing-label", context([item(100, "war")]), context([item(100, "en")])),
    ("missing-label", context([item(1, "Io")]), context([item(1, "pt-br")])),
    *(("label-noise", *worlds) for worlds in BRACKETS),
    ("deprecated-fact", context(pairs=[], facts=[stated("normal")]), context(pairs=[], facts=[stated("deprecated")])),
    (
        "ended-fact",
        context(facts=[stated("normal", start="1990")]),
        context(pairs=[], facts=[stated("normal", end="1991")]),
    ),
    (
        "ended-fact",
        context(facts=[stated("normal", end="2031-01-20")]),
        context(pairs=[], facts=[stated("normal", end="2025")]),
    ),
    (
        "ended-fact",
        context(pairs=[], facts=[stated("normal", end="2026")]),
        context(pairs=[], facts=[stated("normal", end="unknown")]),
    ),
    (
        "future-fact",
        context(pairs=[], facts=[stated("normal", start="2026", end="2031")]),
        context(pairs=[], facts=[stated("normal", start="2027-01-20")]),
    ),
    (
        "outranked-fact",
        context(pairs=[], facts=[stated("preferred"), stated("normal", 2)]),
        context(pairs=[], facts=[stated("normal"), *PREFERRED]),
    ),
    ("too-few-templates", context(), context(rewrite_templates={"P551": TEXTS[:2]})),
    ("too-few-templates", context(), context(rewrite_templates={})),
    (
        "too-few-templates",
        context([*JOBS, item(1, "poet")], rewrite_templates=PROFESSION),
        context([item(1, "actor"), item(2, "poet")], rewrite_templates=PROFESSION),
    ),
    ("several-objects", context(), context(pairs=[(100, 1), (100, 2)])),
    (
        "several-objects",
        context(pairs=[], facts=[stated("normal"), stated("normal", 2, end="1999"), stated("deprecated", 3)]),
        context(pairs=[], facts=[stated("normal"), stated("normal", 2, start="1999")]),
    ),
    (
        "several-objects",
        context(pairs=[], facts=[stated("normal", start="2023", end="2031"), stated("normal", 2, start="2030")]),
        context(pairs=[], facts=[stated("normal", end="2031"), stated("normal", 2, start="1990")]),
    ),
    (
        "several-objects",
        context(pairs=[], facts=[stated("normal"), replace(stated("deprecated"), object=UNKNOWN)]),
        context(pairs=[], facts=[stated("normal"), replace(stated("normal"), object=UNKNOWN)], allow_several=True),
    ),
    ("ambiguous-subject", context(), context([item(101, "ann lee")])),
    ("ambiguous-object", context([item(3, "Oslo")]), context([item(2, "oslo")])),
    ("same-name", context([item(100, "Ann Oslo")]), context([item(100, "Ann", "kristiania")])),
    ("object-in-subject", context([item(100, "Osloer")]), context([item(100, "Oslo Bank")])),
    ("object-in-subject", context([item(100, "New Kristianiagate")]), context([item(100, "Kristiania Bank")])),
    ("object-in-subject", context([item(1, "Annville")]), context([item(1, "Ann Lee City")])),
    ("object-in-subject", context([item(100, "Oslovik")]), context([item(1, "Devon"), item(100, "Devonian")])),
    ("object-in-subject", context([item(1, "Ital")]), context([item(1, "Italy"), item(100, "The Italian Job")])),
    ("object-in-subject", context([item(1, "Rom")]), context([item(1, "Abraham"), item(100, "Abrahamic religion")])),
    ("object-in-subject", context([item(100, "Satyrs")]), context([item(1, "satire"), item(100, "Satires")])),
    ("object-in-subject", context([item(100, "party")]), context([item(1, "art"), item(100, "art school")])),
    ("label-noise", context([item(100, "Ada Lee Jr."), item(1, "Corp.")]), context([item(100, "Ali al-Mahdi.")])),
    ("popularity", context([linked(3)], min_sitelinks=3), context([linked(2)], min_sitelinks=3)),
    ("popularity", context([linked(3)], max_sitelinks=3), context([linked(4)], max_sitelinks=3)),
    ("popularity", context([linked(None)]), context([linked(None)], min_sitelinks=0)),
]

TARGET_CASES = [
    ("target-true", context(), context(pairs=[(100, 1), (100, 2)])),
    ("target-true", context(), context(pairs=[(100, 1)], facts=[stated("normal", 2, end="1901")])),
    ("target-true", context(pairs=[(100, 1)], facts=[stated("deprecated", 2)]), context([item(2, "Lima", "oslo")])),
    ("target-same-name", context(), context([item(100, "Ann", "LIMA")])),
    ("target-in-subject", context([item(100, "Limassol")]), context([item(100, "Lima Bean")])),
    ("target-in-subject", context([item(2, "Leeds")]), context([item(2, "Fort Ann Lee")])),
    ("target-contains", inside(("P131", 1, 3)), inside(("P131", 1, 3), ("P17", 3, 2))),
    ("target-contains", inside(("P47", 1, 2)), inside(("P361", 2, 1))),
    ("target-contains", inside(("P131", 2, 100)), inside(("P30", 100, 2))),
    ("target-contains", inside(("P279", 1, 1)), inside(("P279", 1, 3), ("P279", 3, 1), ("P279", 3, 2))),
    (
        "target-kind",
        with_kinds(classed(1, "Oslo", 50), classed(2, "Lima", 51)),
        with_kinds(classed(1, "Oslo", 50), classed(2, "Peru", 52)),
    ),
    (
        "target-kind",
        with_kinds(classed(1, "Oslo", 50), classed(2, "Lima")),
        with_kinds(classed(1, "Oslo", 50), classed(2, "Fin", 53)),
    ),
    (
        "target-kind",
        with_kinds(classed(1, "Gill", 53), classed(2, "Fin", 53)),
        with_kinds(classed(1, "Fin", 53), classed(2, "Peru", 52)),
    ),
    (
        "target-in-true",
        context([item(1, "poet"), item(2, "poem")]),
        context([item(1, "bishop"), item(2, "archbishop")]),
    ),
    (
        "target-in-true",
        context([item(1, "Niger"), item(2, "Nigeria")]),
        context([item(1, "bass guitar"), item(2, "guitar")]),
    ),
    (
        "target-article",
        context([item(1, "poet"), item(2, "writer")], rewrite_templates=PROFESSION),
        context([item(1, "poet"), item(2, "actor")], rewrite_templates=PROFESSION),
    ),
]


def stored(context: RuleContext) -> Fact:
    """FACT with the rank and dates that the context's facts give it."""
    return next(one for one in context.graph.facts_of("P551") if (one.subject, one.object) == ("Q100", "Q1"))


@pytest.mark.parametrize(("rule", "keep", "drop"), FACT_CASES)
def test_fact_rule_keeps_and_drops(rule: str, keep: RuleContext, drop: RuleContext) -> None:
    kept, dropped = stored(keep), stored(drop)
    assert FACT_RULES[rule](kept, keep) is None
    assert FACT_RULES[rule](dropped, drop)
    decision = judge_fact(dropped, drop)
    assert (decision.kept, decision.rule) == (False, rule) and decision.measured


@pytest.mark.parametrize(("rule", "keep", "drop"), TARGET_CASES)
def test_target_rule_keeps_and_drops(rule: str, keep: RuleContext, drop: RuleContext) -> None:
    target = Target("Q2", drop.graph.label("Q2") or "")
    assert TARGET_RULES[rule](FACT, Target("Q2", keep.graph.label("Q2") or ""), keep) is None
    decision = judge_target(FACT, target, drop)
    assert (decision.kept, decision.rule) == (False, rule) and decision.measured


def test_a_noisy_target_is_refused() -> None:
    assert judge_target(FACT, Target("Q2", "Lima"), context()).kept
    assert judge_target(FACT, Target("Q2", "Lima (city)"), context([item(2, "Lima (city)")])).rule == "target-noise"


def test_a_place_behind_a_comma_is_noise_where_asked_for() -> None:
    ruda = Entity("Q100", {"en": "Ruda, Podlaskie Voivodeship"}, attributes={"P131": ("Q70",)})
    outer = item(70, "Grajewo County"), item(71, "Podlaskie Voivodeship"), Entity("Q1", {"en": "Oslo"})
    inside = Fact("P131", "Q70", "Q71")
    world = context([ruda, *outer], facts=[inside])
    assert judge_fact(FACT, world).kept
    dropped = judge_fact(FACT, replace(world, no_place_suffix=True))
    assert dropped.rule == "label-noise" and dropped.measured["noise"] == ", Podlaskie Voivodeship"
    title = context([item(100, "Ruda, She Wrote"), *outer], facts=[inside])
    assert judge_fact(FACT, replace(title, no_place_suffix=True)).kept


def test_a_false_object_and_a_neighbor_have_no_bracket_either() -> None:
    noisy = Entity("Q2", {"en": "Lima (Inca Road)"}, {"en": ("Lima",)})
    assert judge_target(FACT, Target("Q2", "Lima (Inca Road)"), context([noisy])).rule == "target-noise"
    people = [Entity("Q102", {"en": "Cid (Oslo Jazz Men)"}, {"en": ("Cid",)}), item(103, "Dora")]
    known = context(people, [(100, 1), (101, 2), (102, 1), (103, 1)])
    facts, entities = known.graph.facts, tuple(known.graph.entities.values())
    texts = tuple(Template("P551", "rewrite", text, "test") for text in TEXTS)
    records = RecordMaker(FactSet(facts, entities, texts), Rules(min_neighbors=0), prefixes=Prefixes()).make().records
    assert {prompt.entity for record in records for prompt in record.neighborhood} == {"Q100", "Q103"}


def test_symmetric_relations_are_dropped_unless_asked_for() -> None:
    both = context(facts=[BORDER], rewrite_templates={"P47": TEXTS})
    assert judge_fact(BORDER, both).rule == "symmetric-relation"
    assert judge_fact(BORDER, replace(both, allow_symmetric=True)).kept


def test_relations_with_untold_objects_are_dropped_unless_several_are_allowed() -> None:
    part = Fact("P527", "Q100", "Q1")
    world = context(facts=[part], rewrite_templates={"P527": TEXTS})
    assert judge_fact(part, world).rule == "open-relation"
    assert judge_fact(part, replace(world, allow_several=True)).kept


def test_a_city_is_no_country_where_nearly_all_objects_are_countries() -> None:
    entities = [*CLASSES, classed(1, "Oslo", 50), classed(2, "Peru", 52), item(100, "Ann Lee")]
    several = [(number, 2) for number in range(200, 230)]
    assert judge_fact(FACT, context([*entities], [(100, 1), *several])).rule == "object-kind"
    assert judge_fact(FACT, context([*entities], [(100, 1), *several[:9]])).kept
    assert judge_fact(FACT, context([*entities, item(1, "Oslo")], [(100, 1), *several])).kept


def test_prompts_that_speak_of_a_person_are_about_persons() -> None:
    born = Fact("P19", "Q100", "Q1")
    for classes, rule in (((), "kept"), ((5, 7), "kept"), ((7,), "subject-kind")):
        world = context([classed(100, "Ann Lee", *classes)], [], [born], rewrite_templates={"P19": TEXTS})
        assert judge_fact(born, world).rule == rule
    assert judge_fact(FACT, context([classed(100, "Ann Lee", 7)])).kept, "P551 speaks of no person"


@pytest.mark.parametrize(
    ("keep", "drop"),
    [
        ("{} works as a", "{} is the a"),
        ("{}'s home is in", "{} 's home is in"),
        ("The home of {} is", "The home of {} is is"),
        ("{} (born there) lives in", "{} (born there lives in"),
        ("Home of {}:", "The home is {}"),
        ("{}, a native of", "{} , a native of"),
        ("{} lives in", "{} lives in."),
    ],
)
def test_template_rules_keep_and_drop(keep: str, drop: str) -> None:
    assert judge_template(Template("P551", "rewrite", keep, "test"), ENGLISH).kept
    assert judge_template(Template("P551", "rewrite", drop, "test"), ENGLISH).rule == "template-grammar"
    assert judge_template(Template("P551", "generation", drop, "test"), ENGLISH).kept


def test_draft_rules_keep_and_drop() -> None:
    strict = replace(context(), min_neighbors=3)
    assert judge_draft(FACT, Outcome(1, 3), strict).kept
    few = judge_draft(FACT, Outcome(1, 2), strict)
    assert (few.rule, few.measured) == ("too-few-neighbors", {"neighbors": 2, "needed": 3})
    small = judge_draft(FACT, Outcome(1, 3, pool=49), strict)
    assert (small.rule, small.measured) == ("pool-too-small", {"pool": 49, "needed": 50})
    assert judge_draft(FACT, Outcome(1, 3, pool=50), strict).kept
    none = judge_draft(FACT, Outcome(0, 9, {"target-in-subject": 1}), strict)
    assert (none.rule, none.measured) == ("no-counterfactual", {"pool": 2, "target-in-subject": 1})


def test_every_rule_has_a_case() -> None:
    own = {"symmetric-relation", "open-relation", "subject-kind", "object-kind"}
    assert {rule for rule, _, _ in FACT_CASES} | own == set(FACT_RULES)
    assert {rule for rule, _, _ in TARGET_CASES} | {"target-noise"} == set(TARGET_RULES)
    assert set(TEMPLATE_RULES) == {"template-grammar"}
    assert set(DRAFT_RULES) == {"no-counterfactual", "too-few-neighbors", "pool-too-small"}


def test_a_clean_fact_is_kept() -> None:
    assert judge_fact(FACT, context()).kept
    assert judge_target(FACT, Target("Q2", "Lima"), context()).kept


def test_of_several_objects_one_gets_through_if_allowed() -> None:
    for seed in range(20):
        several = replace(context(pairs=[(100, 1), (100, 2), (100, 3)]), allow_several=True, seed=seed)
        kept = [FACT_RULES["several-objects"](Fact("P551", "Q100", f"Q{o}"), several) is None for o in (1, 2, 3)]
        assert sum(kept) == 1
