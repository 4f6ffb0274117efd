"""Rules about what is true: several or former objects, an o* that is true after all, or of another kind than o_c."""

from __future__ import annotations

from random import Random

from cfbuild.data import Fact, Measured, Target
from cfbuild.facts.kinds import PLACES
from cfbuild.facts.relations import INSTANCE_OF, OPEN, SYMMETRIC
from cfbuild.filter.context import RuleContext
from cfbuild.filter.naming import shared_name


def symmetric(fact: Fact, context: RuleContext) -> Measured | None:
    """The relation holds both ways: an edit of (s, r, o) contradicts (o, r, s), which no prompt tests."""
    return {"relation": fact.relation} if fact.relation in SYMMETRIC and not context.allow_symmetric else None


def open_relation(fact: Fact, context: RuleContext) -> Measured | None:
    """The subject surely has objects that nobody wrote down: of arginine's parts nitrogen is told, oxygen is not, so
    that nothing tells whether an o* is false."""
    return {"relation": fact.relation} if fact.relation in OPEN and not context.allow_several else None


def deprecated(fact: Fact, context: RuleContext) -> Measured | None:
    """Wikidata's editors hold the statement for wrong."""
    return {"rank": fact.rank} if fact.rank == "deprecated" else None


def ended(fact: Fact, context: RuleContext) -> Measured | None:
    """The fact has ended (P582): a citizen of a state that is gone."""
    return {"end": fact.end} if fact.end is not None else None


def outranked(fact: Fact, context: RuleContext) -> Measured | None:
    """Another object of the subject is preferred to this one, which is therefore no best answer."""
    if fact.rank != "normal":
        return None
    others = context.graph.statements(fact.subject, fact.relation)
    best = next((one for one in others if one.rank == "preferred" and one.end is None), None)
    return None if best is None else {"preferred": best.object}


def several_objects(fact: Fact, context: RuleContext) -> Measured | None:
    """The subject has several current objects: any prompt has several right answers, of which o_c is but one."""
    values = context.graph.current_values(fact.subject, fact.relation)
    if len(values) <= 1:
        return None
    if not context.allow_several:
        return {"objects": len(values)}
    chosen = Random(f"{context.seed}:{fact.relation}:{fact.subject}:value").choice(values)
    return None if chosen == fact.object else {"objects": len(values), "chosen": chosen}


def unpopular(fact: Fact, context: RuleContext) -> Measured | None:
    """The subject has fewer or more sitelinks than asked for, or nobody knows how many."""
    low, high = context.min_sitelinks, context.max_sitelinks
    if low is None and high is None:
        return None
    entity = context.graph.entities.get(fact.subject)
    sitelinks = entity.sitelinks if entity else None
    if sitelinks is not None and (low is None or sitelinks >= low) and (high is None or sitelinks <= high):
        return None
    return {"sitelinks": sitelinks, "min": low, "max": high}


def unsuited(fact: Fact, context: RuleContext) -> Measured | None:
    """The subject is no person, and the relation's templates speak of one."""
    if context.suits(fact.relation, fact.subject):
        return None
    return {"classes": ", ".join(context.graph.attributes(fact.subject, INSTANCE_OF))}


def object_kind(fact: Fact, context: RuleContext) -> Measured | None:
    """The object is a place of another kind than nearly all of the relation's: a city as country of citizenship."""
    usual, kinds = context.usual_place(fact.relation), context.kinds(fact.object)
    if usual is None or usual in kinds or kinds.isdisjoint(PLACES):
        return None
    return {"kind": _kind_names(kinds), "usual": usual}


def target_true(fact: Fact, target: Target, context: RuleContext) -> Measured | None:
    """o* is true of the subject too, at any time and under any name."""
    for value in context.graph.values(fact.subject, fact.relation):
        if value == target.id:
            return {"item": value}
        if (shared := shared_name(value, target.id, context.graph)) is not None:
            return shared
    return None


def target_contains(fact: Fact, target: Target, context: RuleContext) -> Measured | None:
    """o* contains the subject or an object of it, or is in such an object, as far as the facts tell: it may be true."""
    graph = context.graph
    pairs = [pair for one in graph.values(fact.subject, fact.relation) for pair in ((one, target.id), (target.id, one))]
    for inner, outer in (*pairs, (fact.object, target.id), (target.id, fact.object), (fact.subject, target.id)):
        if outer in graph.containers(inner):
            return {"inner": inner, "outer": outer}
    return None


def target_kind(fact: Fact, target: Target, context: RuleContext) -> Measured | None:
    """o* is of another kind than o_c (a city for a country), where the facts tell both kinds."""
    true, new = context.kinds(fact.object), context.kinds(target.id)
    if not true or not new or true & new:
        return None
    return {"true": _kind_names(true), "new": _kind_names(new)}


def _kind_names(kinds: frozenset[str]) -> str:
    return ", ".join(sorted(kinds))
