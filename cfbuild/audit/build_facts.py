"""Rules that compare a record with a build's facts: each yields nothing about items that the build does not know.

The rules of `filter/rules.py` are applied again to the finished record. Where such a rule has the id of a rule for
texts, both mean the same: the first looks at the build's names, the second at the row's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from cfbuild.audit.evidence import AuditContext, resolve
from cfbuild.audit.reader import Prompt, value_at
from cfbuild.audit.row import RecordParts, wikidata_id
from cfbuild.data import Fact, Measured
from cfbuild.filter.changed import CHANGE_RULES, ChangePair, faults_of_old
from cfbuild.filter.context import RuleContext
from cfbuild.filter.rules import FACT_RULES, TARGET_RULES
from cfbuild.store.schema.faults import Fault, keys_of, show

SEVERAL = frozenset({"several-objects", "open-relation"})
"""Fact rules that are skipped where several true objects are allowed."""
SKIPPED = frozenset({"too-few-templates"})
"""Fact rules that do not matter to a finished record."""
TIME_TRAVEL, UNCHANGED = "/meta/groups/time_travel", "/meta/groups/unchanged_facts"
"""The places of the groups whose prompts name a year, and of those about what did not change."""
YEAR = re.compile(r"(?<!\d)\d{4}(?!\d)")


def against_facts(parts: RecordParts, context: AuditContext) -> Iterator[Fault]:
    """Yield a fault for each rule that rejects the record's fact or refuses its o*, if the build has the fact."""
    if parts.change:
        yield from _against_change(parts, context)
        return
    fact = resolve(parts, context.rules)
    if fact is None or context.rules is None:
        return
    skipped = _skipped(context)
    for name, rule in FACT_RULES.items():
        measured = None if name in skipped else rule(fact, context.rules)
        if measured is not None:
            yield Fault(parts.base, name, _shown(measured), "a fact that the rule keeps")
    if parts.target_new.id:
        for name, target_rule in TARGET_RULES.items():
            measured = target_rule(fact, parts.target_new, context.rules)
            if measured is not None:
                yield Fault(parts.target_path("target_new"), name, _shown(measured), "an object that the rule keeps")


def _skipped(context: AuditContext) -> frozenset[str]:
    return SKIPPED | SEVERAL if context.allow_several else SKIPPED


def _against_change(parts: RecordParts, context: AuditContext) -> Iterator[Fault]:
    """Yield a fault for each rule that a record about a real change breaks, if the build knows the subject.

    The rules are those of `filter/changed.py`: target_true must be over, and target_new must be true.
    """
    rules = context.rules
    change = _change_of(parts, rules)
    if change is None or rules is None:
        return
    skipped = _skipped(context)
    found = [(name, measured) for name, rule in CHANGE_RULES.items() if (measured := rule(change, rules)) is not None]
    # The fact rules would only repeat what the rules about the change found.
    facts = {} if found else {name: rule for name, rule in FACT_RULES.items() if name not in skipped}
    found += [(name, measured) for name, rule in facts.items() if (measured := rule(change.new, rules)) is not None]
    found += [(one.rule, one.measured) for one in faults_of_old(change, rules) if one.rule not in skipped]
    for name, measured in dict(reversed(found)).items():
        about = parts.target_path("target_new") if name in TARGET_RULES else parts.base
        yield Fault(about, name, _shown(measured), "a change that the rule keeps")


def _change_of(parts: RecordParts, rules: RuleContext | None) -> ChangePair | None:
    """Return the facts before and after a record's change, or None if the build has no fact of the subject."""
    ids = parts.subject_id, parts.target_true.id, parts.target_new.id
    if rules is None or not parts.relation or not all(item.startswith("Q") for item in ids):
        return None
    known = rules.graph.statements(parts.subject_id, parts.relation)
    if not known:
        return None
    old, new = (
        next((one for one in known if one.object == item), Fact(parts.relation, parts.subject_id, item))
        for item in ids[1:]
    )
    return ChangePair(old, new)


def neighbor_changed(parts: RecordParts, context: AuditContext) -> Iterator[Fault]:
    """Yield a fault for each neighbor, in a record about a change, whose only current object is not target_true.

    Likewise for attribute entities and target_new. A prompt about an entity that changed too does not test the edit.
    """
    graph = context.rules.graph if context.rules and parts.change else None
    for group, target in _groups_with_targets(parts):
        for prompt, values in _valued(parts, group, context) if graph and target else ():
            now = graph.current_values(prompt.entity, parts.relation) if graph else ()
            if target in values and now != (target,):
                got = f"{show(prompt.text)}, of whom {', '.join(now) or 'nothing'} holds now"
                yield Fault(prompt.path, "neighbor-changed", got, f"an entity of which {target} alone holds")


def _groups_with_targets(parts: RecordParts) -> tuple[tuple[str, str], tuple[str, str]]:
    """Return each group of prompts about others with the id of the target that their entities have."""
    return ("neighborhood", parts.target_true.id), ("attribute", parts.target_new.id)


def past_answer(parts: RecordParts, context: AuditContext) -> Iterator[Fault]:
    """Yield a fault for each prompt about a past year that names no year, or whose answer was not the only one then."""
    for prompt in parts.answered.get(TIME_TRAVEL, ()):
        if YEAR.search(prompt.text) is None:
            yield Fault(prompt.path, "past-answer", show(prompt.text), "a year in it")
    for prompt, fact in _answered_facts(parts, TIME_TRAVEL, context):
        year = YEAR.search(prompt.text)
        if context.rules is None or year is None:
            continue
        value = context.rules.graph.held_in(fact.subject, fact.relation, int(year[0]))
        if value != fact.object:
            got = f"{show(prompt.text)}, when {value or 'nothing that dates tell'} held alone"
            yield Fault(prompt.path, "past-answer", got, f"a year in which {fact.object} held alone")


def changed_answer(parts: RecordParts, context: AuditContext) -> Iterator[Fault]:
    """Yield a fault for each prompt about an unchanged fact whose answer is not the only current object."""
    for prompt, fact in _answered_facts(parts, UNCHANGED, context):
        now = context.rules.graph.current_values(fact.subject, fact.relation) if context.rules else ()
        if now != (fact.object,):
            got = f"{show(prompt.text)}, where {', '.join(now) or 'nothing'} holds"
            yield Fault(prompt.path, "changed-answer", got, f"a fact of which {fact.object} is all that holds")


def _answered_facts(parts: RecordParts, group: str, context: AuditContext) -> Iterator[tuple[Prompt, Fact]]:
    """Yield a group's prompts with the fact that their right answer states, if the build has facts of its subject."""
    for prompt in parts.answered.get(group, ()) if context.rules else ():
        entry = value_at(parts.row, keys_of(prompt.answers_path))
        target = entry.get("target_true")
        answer = wikidata_id(str(target.get("id"))) if isinstance(target, dict) else ""
        about, relation = (wikidata_id(str(entry.get(key))) for key in ("entity", "relation_id"))
        known = about.startswith("Q") and relation.startswith("P") and answer.startswith("Q")
        if known and context.rules and context.rules.graph.statements(about, relation):
            yield prompt, Fact(relation, about, answer)


def neighbor_lacks_object(parts: RecordParts, context: AuditContext) -> Iterator[Fault]:
    """Yield a fault for each neighbor without o_c and each attribute entity without o*."""
    for group, target in _groups_with_targets(parts):
        for prompt, values in _valued(parts, group, context):
            if target and target not in values:
                yield Fault(prompt.path, "neighbor-lacks-object", show(prompt.text), f"an entity that has {target}")


def neighbor_has_target(parts: RecordParts, context: AuditContext) -> Iterator[Fault]:
    """Yield a fault for each neighbor that has o*."""
    new = parts.target_new.id
    for prompt, values in _valued(parts, "neighborhood", context):
        if new and new in values:
            yield Fault(prompt.path, "neighbor-has-target", show(prompt.text), f"an entity without {new}")


def _valued(parts: RecordParts, group: str, context: AuditContext) -> Iterator[tuple[Prompt, tuple[str, ...]]]:
    """Yield a group's prompts with their entities' objects, for the entities of which the build has any."""
    if context.rules is None or not parts.relation:
        return
    for prompt in parts.group(group):
        values = context.rules.graph.values(prompt.entity, parts.relation) if prompt.entity else ()
        if values:
            yield prompt, tuple(values)


def _shown(measured: Measured) -> str:
    return ", ".join(f"{name} {value}" for name, value in measured.items())
