from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from small_world import item

from cfbuild.data import Entity, Fact, Target
from cfbuild.filter.rules import (
    DRAFT_RULES,
    FACT_RULES,
    TARGET_RULES,
    Outcome,
    RuleContext,
    judge_draft,
    judge_fact,
    judge_target,
)
from cfbuild.graph import FactGraph

FACT = Fact("P551", "Q100", "Q1")
CLEAN = (item(1, "Oslo", "Kristiania"), item(2, "Lima"), item(100, "Ann Lee"), item(101, "Bob"))
PAIRS = ((100, 1), (101, 2))


def context(entities: Iterable[Entity] = CLEAN, pairs: Iterable[tuple[int, int]] = PAIRS) -> RuleContext:
    by_id = {entity.id: entity for entity in (*CLEAN, *entities)}
    facts = (Fact("P551", f"Q{s}", f"Q{o}") for s, o in pairs)
    return RuleContext(FactGraph(facts, by_id.values()), {"P551": 3})


FACT_CASES = [
    ("missing-label", context(), context([item(100, None)])),
    ("missing-label", context(), context([item(1, "  ")])),
    ("qid-label", context([item(1, "Q1 Tower")]), context([item(1, "Q1")])),
    ("too-few-templates", context(), replace(context(), rewrite_templates={"P551": 2})),
    ("too-few-templates", context(), replace(context(), rewrite_templates={})),
    ("several-objects", context(), context(pairs=[(100, 1), (100, 2)])),
    ("ambiguous-subject", context(), context([item(101, "ann lee")])),
    ("same-name", context([item(100, "Ann Oslo")]), context([item(100, "Ann", "kristiania")])),
    ("object-in-subject", context([item(100, "Osloer")]), context([item(100, "Oslo Bank")])),
    ("object-in-subject", context([item(100, "New Kristianiagate")]), context([item(100, "Kristiania Bank")])),
    ("object-in-subject", context([item(1, "Annville")]), context([item(1, "Ann Lee City")])),
]

TARGET_CASES = [
    ("target-same-name", context(), context([item(100, "Ann", "LIMA")])),
    ("target-in-subject", context([item(100, "Limassol")]), context([item(100, "Lima Bean")])),
    ("target-in-subject", context([item(2, "Leeds")]), context([item(2, "Fort Ann Lee")])),
]


@pytest.mark.parametrize(("rule", "keep", "drop"), FACT_CASES)
def test_fact_rule_keeps_and_drops(rule: str, keep: RuleContext, drop: RuleContext) -> None:
    assert FACT_RULES[rule](FACT, keep) is None
    assert FACT_RULES[rule](FACT, drop)
    decision = judge_fact(FACT, drop)
    assert (decision.kept, decision.rule) == (False, rule) and decision.measured


@pytest.mark.parametrize(("rule", "keep", "drop"), TARGET_CASES)
def test_target_rule_keeps_and_drops(rule: str, keep: RuleContext, drop: RuleContext) -> None:
    target = Target("Q2", "Lima")
    assert TARGET_RULES[rule](FACT, target, keep) is None
    decision = judge_target(FACT, target, drop)
    assert (decision.kept, decision.rule) == (False, rule) and decision.measured


def test_draft_rules_keep_and_drop() -> None:
    asked = replace(context(), min_neighbors=3)
    assert judge_draft(FACT, Outcome(1, 3), asked).kept
    few = judge_draft(FACT, Outcome(1, 2), asked)
    assert (few.rule, few.measured) == ("too-few-neighbors", {"neighbors": 2, "needed": 3})
    none = judge_draft(FACT, Outcome(0, 9, {"target-in-subject": 1}), asked)
    assert (none.rule, none.measured) == ("no-counterfactual", {"pool": 2, "target-in-subject": 1})


def test_every_rule_has_a_case() -> None:
    assert {rule for rule, _, _ in FACT_CASES} == set(FACT_RULES)
    assert {rule for rule, _, _ in TARGET_CASES} == set(TARGET_RULES)
    assert set(DRAFT_RULES) == {"no-counterfactual", "too-few-neighbors"}


def test_a_clean_fact_is_kept() -> None:
    assert judge_fact(FACT, context()).kept
    assert judge_target(FACT, Target("Q2", "Lima"), context()).kept


def test_of_several_objects_one_gets_through_if_allowed() -> None:
    for seed in range(20):
        several = replace(context(pairs=[(100, 1), (100, 2), (100, 3)]), allow_several=True, seed=seed)
        kept = [FACT_RULES["several-objects"](Fact("P551", "Q100", f"Q{o}"), several) is None for o in (1, 2, 3)]
        assert sum(kept) == 1
