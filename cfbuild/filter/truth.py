"""Rules about what is true: several or former objects, an o* that is true after all, or of another kind than o_c.

A rule returns what it found if it rejects a fact or refuses an o*, and None if it keeps it.
"""

from __future__ import annotations

from random import Random

from cfbuild.data import UNKNOWN, Fact, Measured, Target
from cfbuild.facts.dates import is_over, is_to_come
from cfbuild.facts.kinds import PLACES
from cfbuild.facts.relations import INSTANCE_OF, OPEN, SYMMETRIC
from cfbuild.filter.context import RuleContext
from cfbuild.filter.naming import shared_name


def symmetric(fact: Fact, context: RuleContext) -> Measured | None:
    """Return the relation if it holds both ways, or None: an edit of (s, r, o) contradicts (o, r, s) too."""
    return {"relation": fact.relation} if fact.relation in SYMMETRIC and not context.allow_symmetric else None


def open_relation(fact: Fact, context: RuleContext) -> Measured | None:
    """Return the relation if its subjects have objects that Wikidata does not list, or None.

    Of arginine's parts nitrogen is listed and oxygen is not, so no fact shows that an o* is false.
    """
    return {"relation": fact.relation} if fact.relation in OPEN and not context.allow_several else None


def deprecated(fact: Fact, context: RuleContext) -> Measured | None:
    """Return the rank of a statement that Wikidata's editors consider wrong, or None."""
    return {"rank": fact.rank} if fact.rank == "deprecated" else None


def ended(fact: Fact, context: RuleContext) -> Measured | None:
    """Return the date on which the fact ended (P582), or None if that is after the day of the fetch."""
    return {"end": fact.end, "today": context.graph.today} if is_over(fact.end, context.graph.today) else None


def to_come(fact: Fact, context: RuleContext) -> Measured | None:
    """Return the date on which the fact begins (P580) if that is after the day of the fetch, or None."""
    begins = is_to_come(fact.start, context.graph.today)
    return {"start": fact.start, "today": context.graph.today} if begins else None


def outranked(fact: Fact, context: RuleContext) -> Measured | None:
    """Return another object of the subject that is preferred to a fact of normal rank, or None."""
    if fact.rank != "normal":
        return None
    others = context.graph.statements(fact.subject, fact.relation)
    best = next((one for one in others if one.rank == "preferred" and context.graph.holds(one)), None)
    return None if best is None else {"preferred": best.object}


def several_objects(fact: Fact, context: RuleContext) -> Measured | None:
    """Return the number of the subject's current objects if there are several, or None.

    Prompts then have several right answers. Where several are allowed, the object that the seed draws is kept, unless
    one of the others is unknown, for that may be any o*.
    """
    if len(context.graph.statements(fact.subject, fact.relation)) == 1:
        return None
    values = context.graph.current_values(fact.subject, fact.relation)
    if len(values) <= 1:
        return None
    if UNKNOWN in values:
        return {"objects": len(values), "unknown": True}
    if not context.allow_several:
        return {"objects": len(values)}
    chosen = Random(f"{context.seed}:{fact.relation}:{fact.subject}:value").choice(values)
    return None if chosen == fact.object else {"objects": len(values), "chosen": chosen}


def unpopular(fact: Fact, context: RuleContext) -> Measured | None:
    """Return the subject's number of sitelinks if it is unknown, below the minimum or above the maximum, or None."""
    low, high = context.min_sitelinks, context.max_sitelinks
    if low is None and high is None:
        return None
    entity = context.graph.entities.get(fact.subject)
    sitelinks = entity.sitelinks if entity else None
    if sitelinks is not None and (low is None or sitelinks >= low) and (high is None or sitelinks <= high):
        return None
    return {"sitelinks": sitelinks, "min": low, "max": high}


def unsuited(fact: Fact, context: RuleContext) -> Measured | None:
    """Return the subject's classes if the relation's templates speak of a person and it is none, or None."""
    if context.suits(fact.relation, fact.subject):
        return None
    return {"classes": ", ".join(context.graph.attributes(fact.subject, INSTANCE_OF))}


def object_kind(fact: Fact, context: RuleContext) -> Measured | None:
    """Return the object's kinds if it is a place of an unusual kind for the relation, or None."""
    usual, kinds = context.usual_place(fact.relation), context.kinds(fact.object)
    if usual is None or usual in kinds or kinds.isdisjoint(PLACES):
        return None
    return {"kind": _kind_names(kinds), "usual": usual}


def target_true(fact: Fact, target: Target, context: RuleContext) -> Measured | None:
    """Return the object of the subject, at any time, that is o* or shares a name with it, or None."""
    for value in context.graph.values(fact.subject, fact.relation):
        if value == target.id:
            return {"item": value}
        if (shared := shared_name(value, target.id, context.graph)) is not None:
            return shared
    return None


def target_contains(fact: Fact, target: Target, context: RuleContext) -> Measured | None:
    """Return an item and its container if o* contains the subject or an object of it, or is inside one, or None."""
    graph = context.graph
    values = graph.values(fact.subject, fact.relation)
    pairs = [pair for value in values for pair in ((value, target.id), (target.id, value))]
    for inner, outer in (*pairs, (fact.object, target.id), (target.id, fact.object), (fact.subject, target.id)):
        if outer in graph.containers(inner):
            return {"inner": inner, "outer": outer}
    return None


def target_kind(fact: Fact, target: Target, context: RuleContext) -> Measured | None:
    """Return the kinds of o_c and o* if both have some and they share none (a city for a country), or None."""
    true, new = context.kinds(fact.object), context.kinds(target.id)
    if not true or not new or true & new:
        return None
    return {"true": _kind_names(true), "new": _kind_names(new)}


def _kind_names(kinds: frozenset[str]) -> str:
    return ", ".join(sorted(kinds))
