"""Rules that need no model: one small function each, in tables from the rule's name to the function.

Fact rules judge a fact before anything is built; target rules judge one o* that was drawn for it; draft rules judge the
result of building; template rules judge a template before it is used. A rule returns what it measured if it rejects,
and None if not. The first rule that rejects is named in the reject, so the order of a table matters. A new rule is a
function and a line in a table. Rules about names are in `naming.py`, rules about what is true in `truth.py`, and those
for finished files in `cfbuild/audit/`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cfbuild.data import SLOT, Decision, Fact, Measured, Target, Template
from cfbuild.filter import naming, truth
from cfbuild.filter.context import REMEMBERED, DraftRule, FactRule, Outcome, RuleContext, TargetRule
from cfbuild.text.languages import Language

__all__ = ["DRAFT_RULES", "FACT_RULES", "KEPT", "TARGET_RULES", "TEMPLATE_RULES", "Outcome", "RuleContext"]

TemplateRule = Callable[[Template, Language], "Measured | None"]

KEPT = Decision(True, "kept")


def judge_fact(fact: Fact, context: RuleContext) -> Decision:
    """Return the decision of the fact rules about a fact."""
    return first_decision(FACT_RULES, fact, context)


def first_decision(rules: Mapping[str, Callable[..., Measured | None]], *judged: Any) -> Decision:
    """Return the rejection by the first of `rules` that rejects the arguments `judged`, or KEPT."""
    for name, rule in rules.items():
        measured = rule(*judged)
        if measured is not None:
            return Decision(False, name, measured)
    return KEPT


def judge_target(fact: Fact, target: Target, context: RuleContext) -> Decision:
    """Return the decision of the target rules about `target` as the fact's o*."""
    key = fact.relation, fact.object, target.id
    if key not in context.remembered:
        if len(context.remembered) >= REMEMBERED:
            context.remembered.clear()
        context.remembered[key] = first_decision(_RULES_BY_OBJECT, fact, target, context)
    remembered = context.remembered[key]
    for name, rule in TARGET_RULES.items():
        if name == remembered.rule:
            return remembered
        if name not in BY_OBJECT and (measured := rule(fact, target, context)) is not None:
            return Decision(False, name, measured)
    return KEPT


def judge_draft(fact: Fact, outcome: Outcome, context: RuleContext) -> Decision:
    """Return the decision of the draft rules about a fact, by the numbers of what was built of it."""
    return first_decision(DRAFT_RULES, fact, outcome, context)


def judge_template(template: Template, wording: Language) -> Decision:
    """Return the decision of the template rules about a template in the language of `wording`."""
    return first_decision(TEMPLATE_RULES, template, wording)


def _too_few_templates(fact: Fact, context: RuleContext) -> Measured | None:
    """Return the number of templates that fit subject and object if it is below `min_templates`, or None."""
    count = context.fitting(fact)
    return {"templates": count, "needed": context.min_templates} if count < context.min_templates else None


def _no_counterfactual(fact: Fact, outcome: Outcome, context: RuleContext) -> Measured | None:
    """Return the number of objects and of refusals by rule if no object can be o*, or None."""
    if outcome.draws:
        return None
    return {"pool": len(context.graph.object_counts(fact.relation)), **outcome.refused}


def _too_few_neighbors(fact: Fact, outcome: Outcome, context: RuleContext) -> Measured | None:
    """Return the number of neighborhood prompts if it is below `min_neighbors`, or None."""
    if outcome.neighbors >= context.min_neighbors:
        return None
    return {"neighbors": outcome.neighbors, "needed": context.min_neighbors}


def _pool_too_small(fact: Fact, outcome: Outcome, context: RuleContext) -> Measured | None:
    """Return the size of the pool if it is below `min_pool`, or None: the last of seven continents is not unlikely."""
    if outcome.pool is None or outcome.pool >= context.min_pool:
        return None
    return {"pool": outcome.pool, "needed": context.min_pool}


def _ungrammatical(template: Template, wording: Language) -> Measured | None:
    """Return the grammatical fault of a rewrite template, such as two articles in a row, or None."""
    if template.kind != "rewrite":
        return None
    found = wording.template_fault(template.text, SLOT)
    return None if found is None else {"template": template.text, "broken": found}


FACT_RULES: dict[str, FactRule] = {
    "missing-label": naming.missing_label,
    "qid-label": naming.qid_label,
    "label-noise": naming.label_noise,
    "deprecated-fact": truth.deprecated,
    "ended-fact": truth.ended,
    "future-fact": truth.to_come,
    "outranked-fact": truth.outranked,
    "symmetric-relation": truth.symmetric,
    "open-relation": truth.open_relation,
    "too-few-templates": _too_few_templates,
    "several-objects": truth.several_objects,
    "ambiguous-subject": naming.ambiguous_subject,
    "ambiguous-object": naming.ambiguous_object,
    "subject-kind": truth.unsuited,
    "object-kind": truth.object_kind,
    "same-name": naming.same_name,
    "object-in-subject": naming.object_in_subject,
    "popularity": truth.unpopular,
}

TARGET_RULES: dict[str, TargetRule] = {
    "target-true": truth.target_true,
    "target-same-name": naming.target_same_name,
    "target-in-subject": naming.target_in_subject,
    "target-in-true": naming.target_in_true,
    "target-noise": naming.target_noise,
    "target-contains": truth.target_contains,
    "target-kind": truth.target_kind,
    "target-article": naming.target_article,
}

BY_OBJECT = frozenset({"target-in-true", "target-noise", "target-kind", "target-article"})
"""Target rules that read only o_c and o*, never the subject: one decision serves all subjects."""
_RULES_BY_OBJECT = {name: rule for name, rule in TARGET_RULES.items() if name in BY_OBJECT}

DRAFT_RULES: dict[str, DraftRule] = {
    "no-counterfactual": _no_counterfactual,
    "too-few-neighbors": _too_few_neighbors,
    "pool-too-small": _pool_too_small,
}

TEMPLATE_RULES: dict[str, TemplateRule] = {
    "template-grammar": _ungrammatical,
}
