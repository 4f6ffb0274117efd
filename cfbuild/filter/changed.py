"""Rules for records of real changes: what held is over, what holds now is true, and only a change was made of it.

Fact rules judge what holds now, as they judge any fact. What held is judged by those that a fact which is over can
pass (PAST names the others), and o* by the target rules that do not want it to be false (HELD names the others).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cfbuild.data import Decision, Fact, Measured, Target
from cfbuild.filter.context import RuleContext
from cfbuild.filter.rules import FACT_RULES, KEPT, TARGET_RULES, judge_fact

PAST = frozenset({"deprecated-fact", "ended-fact", "future-fact", "outranked-fact", "several-objects"})
"""Fact rules about time and rank, which drop every fact that held and does not any longer."""
HELD = frozenset({"target-true", "target-contains"})
"""Target rules that drop an o* because it is true, or may be."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A change of which a record may be made: the fact that held, and the one that holds."""

    old: Fact
    new: Fact


ChangeRule = Callable[[Judged, RuleContext], "Measured | None"]


def judge_change(change: Judged, context: RuleContext) -> Decision:
    """Return the decision about a change: kept, or the first rule that drops it and what it measured."""
    for name, rule in CHANGE_RULES.items():
        measured = rule(change, context)
        if measured is not None:
            return Decision(False, name, measured)
    decision = judge_fact(change.new, context)
    if not decision.kept:
        return decision
    return next(iter(faults_of_old(change, context)), KEPT)


def faults_of_old(change: Judged, context: RuleContext) -> list[Decision]:
    """Return the decisions of the rules that drop the fact that held, and of those that drop o* beside it."""
    found = ((name, rule(change.old, context)) for name, rule in FACT_RULES.items() if name not in PAST)
    target = Target(change.new.object, context.graph.label(change.new.object) or "")
    refused = (
        (name, target_rule(change.old, target, context))
        for name, target_rule in TARGET_RULES.items()
        if name not in HELD
    )
    return [Decision(False, name, measured) for name, measured in (*found, *refused) if measured is not None]


def _untrue(change: Judged, context: RuleContext) -> Measured | None:
    """Return what holds of the subject where that is not o*, or what held still does, or None."""
    values = context.graph.current_values(change.new.subject, change.new.relation)
    if change.new.object in values and change.old.object not in values:
        return None
    return {"holds": ", ".join(values) or "nothing", "new": change.new.object, "old": change.old.object}


def _nested(change: Judged, context: RuleContext) -> Measured | None:
    """Return the inner and the outer object where one of the two contains the other, or None: both may be right."""
    for inner, outer in ((change.old.object, change.new.object), (change.new.object, change.old.object)):
        if outer in context.graph.containers(inner):
            return {"inner": inner, "outer": outer}
    return None


CHANGE_RULES: Mapping[str, ChangeRule] = {"untrue-change": _untrue, "nested-change": _nested}
"""The rules about the change itself."""
