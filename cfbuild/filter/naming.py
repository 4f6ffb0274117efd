"""Rules about names: missing, noisy, shared, one inside the other, or against the article before them."""

from __future__ import annotations

from cfbuild.data import ITEM_ID, Fact, Measured, Target
from cfbuild.facts.graph import FactGraph
from cfbuild.filter.context import RuleContext
from cfbuild.text.names import find_name, gives_away

COMPOUND = 4
"""Letters of a name that make it more than a chance ending of another."""


def missing_label(fact: Fact, context: RuleContext) -> Measured | None:
    """The subject or the object has no name in the build's language."""
    for part, item in (("subject", fact.subject), ("object", fact.object)):
        label = context.graph.label(item)
        if label is None or not label.strip():
            return {"part": part, "item": item, "language": context.graph.language}
    return None


def qid_label(fact: Fact, context: RuleContext) -> Measured | None:
    """A label that is an item id: nobody gave the item a name."""
    for part, item in (("subject", fact.subject), ("object", fact.object)):
        label = context.graph.label(item) or ""
        if ITEM_ID.match(label):
            return {"part": part, "item": item, "label": label}
    return None


def label_noise(fact: Fact, context: RuleContext) -> Measured | None:
    """A label with something in it that nobody would say: a suffix that tells namesakes apart, markup, controls."""
    for part, item in (("subject", fact.subject), ("object", fact.object)):
        label = context.graph.label(item) or ""
        found = context.graph.wording.noise(label)
        if found is not None:
            return {"part": part, "item": item, "label": label, "noise": found}
    return None


def ambiguous_subject(fact: Fact, context: RuleContext) -> Measured | None:
    """Several items carry the subject's label: no prompt tells which is meant."""
    label = context.graph.label(fact.subject) or ""
    count = context.items_named(label)
    return {"label": label, "items": count} if count > 1 else None


def ambiguous_object(fact: Fact, context: RuleContext) -> Measured | None:
    """Another object of the relation carries the object's label: its name does not tell which is meant."""
    label = (context.graph.label(fact.object) or "").casefold()
    if context.items_named(label) < 2:
        return None
    for other in context.graph.object_counts(fact.relation):
        if other != fact.object and (context.graph.label(other) or "").casefold() == label:
            return {"label": label, "other": other}
    return None


def same_name(fact: Fact, context: RuleContext) -> Measured | None:
    """Subject and object share a name."""
    return shared_name(fact.subject, fact.object, context.graph)


def object_in_subject(fact: Fact, context: RuleContext) -> Measured | None:
    """The subject's label holds a name of the object ("Honda Civic", made by Honda), or the reverse."""
    return one_in_other(fact.subject, fact.object, context.graph)


def target_same_name(fact: Fact, target: Target, context: RuleContext) -> Measured | None:
    """Subject and o* share a name."""
    return shared_name(fact.subject, target.id, context.graph)


def target_in_subject(fact: Fact, target: Target, context: RuleContext) -> Measured | None:
    """The subject's label holds a name of o*, or the reverse: the prompt itself would suggest o*."""
    return one_in_other(fact.subject, target.id, context.graph)


def target_in_true(fact: Fact, target: Target, context: RuleContext) -> Measured | None:
    """One object's label ends in the other's or holds it as a word: archbishop and bishop, bass guitar and guitar."""
    true = context.graph.label(fact.object) or ""
    for longer, shorter in ((true, target.label), (target.label, true)):
        inside = find_name(longer, (shorter,)) is not None
        if inside or (len(shorter) >= COMPOUND and longer.casefold().endswith(shorter.casefold())):
            return {"in": longer, "name": shorter}
    return None


def target_noise(fact: Fact, target: Target, context: RuleContext) -> Measured | None:
    """o*'s label has something in it that nobody would say."""
    found = context.graph.wording.noise(target.label)
    return None if found is None else {"label": target.label, "noise": found}


def target_article(fact: Fact, target: Target, context: RuleContext) -> Measured | None:
    """A template ends in an article that o_c can follow, and o* needs another one."""
    true, wording = context.graph.label(fact.object) or "", context.graph.wording
    for text in context.rewrite_templates.get(fact.relation, ()):
        if wording.article_clash(text, target.label) and wording.article_clash(text, true) is None:
            return {"template": text, "needs": wording.article(target.label)}
    return None


def shared_name(one: str, other: str, graph: FactGraph) -> Measured | None:
    """A name that both items carry, letter case ignored."""
    names = {name.casefold() for name in graph.names(other)}
    shared = next((name for name in graph.names(one) if name.casefold() in names), None)
    return None if shared is None else {"name": shared, "item": other}


def one_in_other(subject: str, item: str, graph: FactGraph) -> Measured | None:
    """What in the label of one item gives the other away: a name as whole words, or a word made from its label."""
    for part, holder, held in (("subject", subject, item), ("object", item, subject)):
        label = graph.label(holder) or ""
        name = gives_away(label, graph.label(held) or "", graph.names(held), graph.wording)
        if name is not None:
            return {"in": part, "label": label, "name": name}
    return None
