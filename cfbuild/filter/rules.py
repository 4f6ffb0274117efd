"""Rules that need no model: one small function each, in tables from the rule's name to the function.

Fact rules judge a fact before anything is built; target rules judge one o* that was drawn for it; draft rules judge
what building came to. The first rule that says no names the reject, so the order of a table is part of its meaning.
A new rule is a function and a line in a table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random

from cfbuild.data import ITEM_ID, Decision, Fact, Measured, Target
from cfbuild.graph import FactGraph, find_name

KEPT = Decision(True, "kept")


@dataclass(frozen=True)
class RuleContext:
    """What rules may look at: the facts, how many rewrite templates each relation has, and the options.

    `min_templates` is one for the rewrite and one for each paraphrase. `allow_several` lets a subject with several
    true objects through with one of them, drawn with `seed`.
    """

    graph: FactGraph
    rewrite_templates: Mapping[str, int]
    min_templates: int = 3
    min_neighbors: int = 0
    allow_several: bool = False
    seed: int = 0
    _subjects_by_label: dict[str, Counter[str]] = field(default_factory=dict, repr=False, compare=False)

    def subjects_named(self, relation: str, label: str) -> int:
        """How many subjects of `relation` carry this label, letter case ignored."""
        if relation not in self._subjects_by_label:
            subjects = {fact.subject for fact in self.graph.facts_of(relation)}
            labels = (self.graph.label(subject) for subject in subjects)
            self._subjects_by_label[relation] = Counter(one.casefold() for one in labels if one)
        return self._subjects_by_label[relation][label.casefold()]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What building a fact came to: how many o* are left, how many each target rule refused, how many neighbors."""

    draws: int
    neighbors: int
    refused: Mapping[str, int] = field(default_factory=dict)


FactRule = Callable[[Fact, RuleContext], "Measured | None"]
TargetRule = Callable[[Fact, Target, RuleContext], "Measured | None"]
DraftRule = Callable[[Fact, Outcome, RuleContext], "Measured | None"]


def judge_fact(fact: Fact, context: RuleContext) -> Decision:
    """Kept, or the first fact rule that drops the fact and what it measured."""
    for name, rule in FACT_RULES.items():
        measured = rule(fact, context)
        if measured is not None:
            return Decision(False, name, measured)
    return KEPT


def judge_target(fact: Fact, target: Target, context: RuleContext) -> Decision:
    """Kept, or the first target rule that refuses `target` as the fact's o* and what it measured."""
    for name, rule in TARGET_RULES.items():
        measured = rule(fact, target, context)
        if measured is not None:
            return Decision(False, name, measured)
    return KEPT


def judge_draft(fact: Fact, outcome: Outcome, context: RuleContext) -> Decision:
    """Kept, or the first draft rule that drops the fact for what was built of it."""
    for name, rule in DRAFT_RULES.items():
        measured = rule(fact, outcome, context)
        if measured is not None:
            return Decision(False, name, measured)
    return KEPT


def _missing_label(fact: Fact, context: RuleContext) -> Measured | None:
    """The subject or the object has no name in the build's language."""
    for part, item in (("subject", fact.subject), ("object", fact.object)):
        label = context.graph.label(item)
        if label is None or not label.strip():
            return {"part": part, "item": item, "language": context.graph.language}
    return None


def _qid_label(fact: Fact, context: RuleContext) -> Measured | None:
    """A label that is an item id: nobody gave the item a name."""
    for part, item in (("subject", fact.subject), ("object", fact.object)):
        label = context.graph.label(item) or ""
        if ITEM_ID.match(label):
            return {"part": part, "item": item, "label": label}
    return None


def _too_few_templates(fact: Fact, context: RuleContext) -> Measured | None:
    """The relation cannot give a rewrite and its paraphrases different wordings."""
    count = context.rewrite_templates.get(fact.relation, 0)
    return {"templates": count, "needed": context.min_templates} if count < context.min_templates else None


def _several_objects(fact: Fact, context: RuleContext) -> Measured | None:
    """The subject has several true objects: any prompt has several right answers, of which o_c is but one."""
    values = context.graph.values(fact.subject, fact.relation)
    if len(values) == 1:
        return None
    if not context.allow_several:
        return {"objects": len(values)}
    chosen = Random(f"{context.seed}:{fact.relation}:{fact.subject}:value").choice(values)
    return None if chosen == fact.object else {"objects": len(values), "chosen": chosen}


def _ambiguous_subject(fact: Fact, context: RuleContext) -> Measured | None:
    """Several subjects of the relation carry the subject's label: their prompts would be the same text."""
    label = context.graph.label(fact.subject) or ""
    count = context.subjects_named(fact.relation, label)
    return {"label": label, "subjects": count} if count > 1 else None


def _same_name(fact: Fact, context: RuleContext) -> Measured | None:
    """Subject and object share a name."""
    return _shared_name(fact.subject, fact.object, context.graph)


def _object_in_subject(fact: Fact, context: RuleContext) -> Measured | None:
    """The subject's label holds a name of the object ("Honda Civic", made by Honda), or the reverse."""
    return _one_in_other(fact.subject, fact.object, context.graph)


def _target_same_name(fact: Fact, target: Target, context: RuleContext) -> Measured | None:
    """Subject and o* share a name."""
    return _shared_name(fact.subject, target.id, context.graph)


def _target_in_subject(fact: Fact, target: Target, context: RuleContext) -> Measured | None:
    """The subject's label holds a name of o*, or the reverse: the prompt itself would suggest o*."""
    return _one_in_other(fact.subject, target.id, context.graph)


def _no_counterfactual(fact: Fact, outcome: Outcome, context: RuleContext) -> Measured | None:
    """No object is left that could be o*."""
    if outcome.draws:
        return None
    return {"pool": len(context.graph.object_counts(fact.relation)), **outcome.refused}


def _too_few_neighbors(fact: Fact, outcome: Outcome, context: RuleContext) -> Measured | None:
    """Fewer neighborhood prompts than asked for."""
    if outcome.neighbors >= context.min_neighbors:
        return None
    return {"neighbors": outcome.neighbors, "needed": context.min_neighbors}


def _shared_name(one: str, other: str, graph: FactGraph) -> Measured | None:
    names = {name.casefold() for name in graph.names(other)}
    shared = next((name for name in graph.names(one) if name.casefold() in names), None)
    return None if shared is None else {"name": shared, "item": other}


def _one_in_other(subject: str, item: str, graph: FactGraph) -> Measured | None:
    for part, holder, held in (("subject", subject, item), ("object", item, subject)):
        label = graph.label(holder) or ""
        name = find_name(label, graph.names(held))
        if name is not None:
            return {"in": part, "label": label, "name": name}
    return None


FACT_RULES: dict[str, FactRule] = {
    "missing-label": _missing_label,
    "qid-label": _qid_label,
    "too-few-templates": _too_few_templates,
    "several-objects": _several_objects,
    "ambiguous-subject": _ambiguous_subject,
    "same-name": _same_name,
    "object-in-subject": _object_in_subject,
}

TARGET_RULES: dict[str, TargetRule] = {
    "target-same-name": _target_same_name,
    "target-in-subject": _target_in_subject,
}

DRAFT_RULES: dict[str, DraftRule] = {
    "no-counterfactual": _no_counterfactual,
    "too-few-neighbors": _too_few_neighbors,
}
