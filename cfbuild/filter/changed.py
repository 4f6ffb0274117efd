"""Rules for records of real changes: the old fact is over, the new one is true, and neither object contains the other.

Fact rules judge the new fact as any other. The old fact is judged by the fact rules that an ended fact can pass (not
those in PAST), and o*, the new object, by the target rules that a true object can pass (not those in HELD).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cfbuild.data import Decision, Fact, Measured, Target
from cfbuild.filter.context import RuleContext
from cfbuild.filter.rules import FACT_RULES, KEPT, TARGET_RULES, first_decision, judge_fact

PAST = frozenset({"deprecated-fact", "ended-fact", "future-fact", "outranked-fact", "several-objects"})
"""Fact rules about time and rank, which reject every fact that is over."""
HELD = frozenset({"target-true", "target-contains"})
"""Target rules that refuse an o* because it is true, or may be."""


@dataclass(frozen=True, slots=True)
class ChangePair:
    """The two facts of a change: the `old` one, which is over, and the `new` one."""

    old: Fact
    new: Fact


ChangeRule = Callable[[ChangePair, RuleContext], "Measured | None"]


def judge_change(change: ChangePair, context: RuleContext) -> Decision:
    """Return the decision about a change: kept, or rejected by the first rule that finds a fault."""
    decision = first_decision(CHANGE_RULES, change, context)
    if decision.kept:
        decision = judge_fact(change.new, context)
    if not decision.kept:
        return decision
    return next(iter(faults_of_old(change, context)), KEPT)


def faults_of_old(change: ChangePair, context: RuleContext) -> list[Decision]:
    """Return the decisions of the rules that reject the old fact, then of those that refuse the new object as o*."""
    found = ((name, rule(change.old, context)) for name, rule in FACT_RULES.items() if name not in PAST)
    target = Target(change.new.object, context.graph.label(change.new.object) or "")
    refused = (
        (name, target_rule(change.old, target, context))
        for name, target_rule in TARGET_RULES.items()
        if name not in HELD
    )
    return [Decision(False, name, measured) for name, measured in (*found, *refused) if measured is not None]


def _untrue(change: ChangePair, context: RuleContext) -> Measured | None:
    """Return the subject's current objects if the new one is missing or the old one is still there, or None."""
    values = context.graph.current_values(change.new.subject, change.new.relation)
    if change.new.object in values and change.old.object not in values:
        return None
    return {"holds": ", ".join(values) or "nothing", "new": change.new.object, "old": change.old.object}


def _nested(change: ChangePair, context: RuleContext) -> Measured | None:
    """Return the inner and the outer object if one of the two contains the other, or None: both may be right."""
    for inner, outer in ((change.old.object, change.new.object), (change.new.object, change.old.object)):
        if outer in context.graph.containers(inner):
            return {"inner": inner, "outer": outer}
    return None


CHANGE_RULES: Mapping[str, ChangeRule] = {"untrue-change": _untrue, "nested-change": _nested}
"""The rules about the change itself."""
