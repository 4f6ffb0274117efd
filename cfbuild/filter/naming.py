"""Rules about names: missing, noisy, shared, one inside the other, or against the article before them.

A rule returns what it found if it rejects a fact or refuses an o*, and None if it keeps it.
"""

from __future__ import annotations

from cfbuild.data import Fact, Measured, Target
from cfbuild.facts.graph import FactGraph
from cfbuild.facts.suffixes import needless_bracket, place_suffix
from cfbuild.filter.context import RuleContext
from cfbuild.text.names import find_id, find_name, gives_away

COMPOUND = 4
"""The fewest letters of a name that ends another one not by chance: "bishop" in "archbishop"."""


def missing_label(fact: Fact, context: RuleContext) -> Measured | None:
    """Return the part, subject or object, that has no label in the build's language, or None."""
    for part, item in (("subject", fact.subject), ("object", fact.object)):
        label = context.graph.label(item)
        if label is None or not label.strip():
            return {"part": part, "item": item, "language": context.graph.language}
    return None


def qid_label(fact: Fact, context: RuleContext) -> Measured | None:
    """Return the part whose label is or holds an item id, which stands for a missing name, or None."""
    for part, item in (("subject", fact.subject), ("object", fact.object)):
        label = context.graph.label(item) or ""
        if find_id(label) is not None:
            return {"part": part, "item": item, "label": label}
    return None


def label_noise(fact: Fact, context: RuleContext) -> Measured | None:
    """Return the part whose label has noise (`noise_in`), or None."""
    for part, item in (("subject", fact.subject), ("object", fact.object)):
        found = noise_in(item, context)
        if found is not None:
            return {"part": part, "item": item, "label": context.graph.label(item), "noise": found}
    return None


def noise_in(item: str, context: RuleContext) -> str | None:
    """Return the noise in an item's label, or None: markup, a control character, a suffix as needless as "(album)"."""
    graph = context.graph
    found = graph.wording.noise(graph.label(item) or "") or needless_bracket(item, graph)
    return found or (place_suffix(item, graph) if context.no_place_suffix else None)


def ambiguous_subject(fact: Fact, context: RuleContext) -> Measured | None:
    """Return the subject's label and the number of items with that name if there are several, or None."""
    label = context.graph.label(fact.subject) or ""
    count = context.graph.items_named(label)
    return {"label": label, "items": count} if count > 1 else None


def ambiguous_object(fact: Fact, context: RuleContext) -> Measured | None:
    """Return another object of the relation that has the object's label as a name, or None."""
    label = (context.graph.label(fact.object) or "").casefold()
    if context.graph.items_named(label) < 2:
        return None
    namesakes = (item for item in context.graph.objects_named(fact.relation, label) if item != fact.object)
    namesake = next(namesakes, None)
    return None if namesake is None else {"label": label, "other": namesake}


def same_name(fact: Fact, context: RuleContext) -> Measured | None:
    """Return a name that subject and object share, or None."""
    return shared_name(fact.subject, fact.object, context.graph)


def object_in_subject(fact: Fact, context: RuleContext) -> Measured | None:
    """Return the object's name in the subject's label ("Honda Civic", made by Honda), or the reverse, or None."""
    return one_in_other(fact.subject, fact.object, context.graph)


def target_same_name(fact: Fact, target: Target, context: RuleContext) -> Measured | None:
    """Return a name that subject and o* share, or None."""
    return shared_name(fact.subject, target.id, context.graph)


def target_in_subject(fact: Fact, target: Target, context: RuleContext) -> Measured | None:
    """Return o*'s name in the subject's label, or the reverse, or None: such a prompt suggests o*."""
    return one_in_other(fact.subject, target.id, context.graph)


def target_in_true(fact: Fact, target: Target, context: RuleContext) -> Measured | None:
    """Return the label of o_c or o* that the other's label ends in or holds as a word ("bishop", "guitar"), or None."""
    true = context.graph.label(fact.object) or ""
    for longer, shorter in ((true, target.label), (target.label, true)):
        inside = find_name(longer, (shorter,)) is not None
        if inside or (len(shorter) >= COMPOUND and longer.casefold().endswith(shorter.casefold())):
            return {"in": longer, "name": shorter}
    return None


def target_noise(fact: Fact, target: Target, context: RuleContext) -> Measured | None:
    """Return the noise in o*'s label, or None."""
    found = context.graph.wording.noise(target.label) or noise_in(target.id, context)
    return None if found is None else {"label": target.label, "noise": found}


def target_article(fact: Fact, target: Target, context: RuleContext) -> Measured | None:
    """Return a template that ends in an article which o_c can follow and o* cannot, or None."""
    true, wording = context.graph.label(fact.object) or "", context.graph.wording
    for template in context.rewrite_templates.get(fact.relation, ()):
        if wording.article_clash(template.text, target.label) and wording.article_clash(template.text, true) is None:
            return {"template": template.text, "needs": wording.article(target.label)}
    return None


def shared_name(item: str, other_id: str, graph: FactGraph) -> Measured | None:
    """Return a name of `item` that is also one of the item `other_id`, letter case ignored, or None."""
    names = graph.folded_names(other_id)
    if names.isdisjoint(graph.folded_names(item)):
        return None
    return {"name": next(name for name in graph.names(item) if name.casefold() in names), "item": other_id}


def one_in_other(subject: str, item: str, graph: FactGraph) -> Measured | None:
    """Return the label, of subject or item, that gives the other away by a name in it or a word of it, or None."""
    for part, holder, hidden in (("subject", subject, item), ("object", item, subject)):
        label = graph.label(holder) or ""
        name = gives_away(label, graph.label(hidden) or "", graph.names(hidden), graph.wording)
        if name is not None:
            return {"in": part, "label": label, "name": name}
    return None
