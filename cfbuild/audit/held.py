"""Rules that compare a record with a build's facts: each yields nothing where the build does not know.

Rules about facts and targets are those of `filter/rules.py`, applied again to the finished record. Where such a rule
has the id of a rule for texts, both mean the same: the first looks at the build's names, the second at the row's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from cfbuild.audit.evidence import AuditContext, resolve
from cfbuild.audit.reader import Prompt
from cfbuild.audit.row import RecordParts, wikidata_id
from cfbuild.data import Fact, Measured
from cfbuild.filter.changed import CHANGE_RULES, ChangePair, faults_of_old
from cfbuild.filter.context import RuleContext
from cfbuild.filter.rules import FACT_RULES, TARGET_RULES
from cfbuild.store.schema.faults import Fault, show

SEVERAL = frozenset({"several-objects", "open-relation"})
"""Fact rules that are off where several true objects are allowed."""
NEEDLESS = frozenset({"too-few-templates"})
"""Fact rules that do not matter to a finished record."""
TRAVELLING, UNCHANGED = "/meta/groups/time_travel", "/meta/groups/unchanged_facts"
"""The groups whose prompts name a year, and those about what did not change."""
YEAR = re.compile(r"(?<!\d)\d{4}(?!\d)")


def against_facts(parts: RecordParts, context: AuditContext) -> Iterator[Fault]:
    """Yield a fault for each fact or target rule that refuses the record's fact or o*, if the build has the fact."""
    if parts.change:
        yield from _against_change(parts, context)
        return
    fact = resolve(parts, context.rules)
    if fact is None or context.rules is None:
        return
    for name, rule in FACT_RULES.items():
        measured = None if name in NEEDLESS else rule(fact, context.rules)
        if measured is not None and not (name in SEVERAL and context.allow_several):
            yield Fault(parts.base, name, _shown(measured), "a fact that the rule keeps")
    if parts.target_new.id:
        for name, target_rule in TARGET_RULES.items():
            measured = target_rule(fact, parts.target_new, context.rules)
            if measured is not None:
                yield Fault(parts.target_path("target_new"), name, _shown(measured), "an object that the rule keeps")


def _against_change(parts: RecordParts, context: AuditContext) -> Iterator[Fault]:
    """Yield a fault for each rule that a record about a real change breaks, if the build knows the subject.

    Such a record says that its target_true held and its target_new holds, so no rule wants the former to hold, or the
    latter to be false (`filter/changed.py`); instead both must be so.
    """
    rules = context.rules
    change = _change_of(parts, rules)
    if change is None or rules is None:
        return
    needless = NEEDLESS | SEVERAL if context.allow_several else NEEDLESS
    found = [(name, measured) for name, rule in CHANGE_RULES.items() if (measured := rule(change, rules)) is not None]
    # What the rule about the change itself finds need not be said again in the words of the rules for facts.
    facts = {} if found else {name: rule for name, rule in FACT_RULES.items() if name not in needless}
    found += [(name, measured) for name, rule in facts.items() if (measured := rule(change.new, rules)) is not None]
    found += [(one.rule, one.measured) for one in faults_of_old(change, rules) if one.rule not in needless]
    for name, measured in dict(reversed(found)).items():
        about = parts.target_path("target_new") if name in TARGET_RULES else parts.base
        yield Fault(about, name, _shown(measured), "a change that the rule keeps")


def _change_of(parts: RecordParts, rules: RuleContext | None) -> ChangePair | None:
    """Return the facts before and after a record's change; None where the build knows nothing of the subject."""
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
    """Yield a fault for each neighbor of a record about a change of which target_true does not hold alone any longer.

    The same for attribute entities and target_new: a prompt about what changed too tells nothing of the edit.
    """
    graph = context.rules.graph if context.rules and parts.change else None
    for group, wanted in (("neighborhood", parts.target_true.id), ("attribute", parts.target_new.id)):
        for prompt, values in _valued(parts, group, context) if graph and wanted else ():
            now = graph.current_values(prompt.entity, parts.relation) if graph else ()
            if wanted in values and now != (wanted,):
                got = f"{show(prompt.text)}, of whom {', '.join(now) or 'nothing'} holds now"
                yield Fault(prompt.path, "neighbor-changed", got, f"an entity of which {wanted} alone holds")


def past_answer(parts: RecordParts, context: AuditContext) -> Iterator[Fault]:
    """Yield a fault for each prompt about a year that is over whose answer did not hold alone all through that year.

    Without a build's facts only a prompt that names no year is one.
    """
    for prompt in parts.answered.get(TRAVELLING, ()):
        if YEAR.search(prompt.text) is None:
            yield Fault(prompt.path, "past-answer", show(prompt.text), "a year in it")
    for prompt, fact in _asked(parts, TRAVELLING, context):
        year = YEAR.search(prompt.text)
        if context.rules is None or year is None:
            continue
        held = context.rules.graph.held_in(fact.subject, fact.relation, int(year[0]))
        if held != fact.object:
            got = f"{show(prompt.text)}, when {held or 'nothing that dates tell'} held alone"
            yield Fault(prompt.path, "past-answer", got, f"a year in which {fact.object} held alone")


def changed_answer(parts: RecordParts, context: AuditContext) -> Iterator[Fault]:
    """Yield a fault for each prompt about what did not change whose answer is not all that holds."""
    for prompt, fact in _asked(parts, UNCHANGED, context):
        now = context.rules.graph.current_values(fact.subject, fact.relation) if context.rules else ()
        if now != (fact.object,):
            got = f"{show(prompt.text)}, where {', '.join(now) or 'nothing'} holds"
            yield Fault(prompt.path, "changed-answer", got, f"a fact of which {fact.object} is all that holds")


def _asked(parts: RecordParts, group: str, context: AuditContext) -> Iterator[tuple[Prompt, Fact]]:
    """Yield a group's prompts with what their right answer says, where the build has statements about it."""
    for prompt in parts.answered.get(group, ()) if context.rules else ():
        entry = _entry(parts.row, prompt.answers_path)
        target = entry.get("target_true")
        answer = wikidata_id(str(target.get("id"))) if isinstance(target, dict) else ""
        about, relation = (wikidata_id(str(entry.get(key))) for key in ("entity", "relation_id"))
        known = about.startswith("Q") and relation.startswith("P") and answer.startswith("Q")
        if known and context.rules and context.rules.graph.statements(about, relation):
            yield prompt, Fact(relation, about, answer)


def _entry(row: Any, path: str) -> Mapping[str, Any]:
    """Return the entry of a group at its place in the row; the parts were read, so it is there."""
    for key in path.strip("/").split("/"):
        row = row[int(key)] if isinstance(row, list) else row[key]
    found: Mapping[str, Any] = row
    return found


def neighbor_lacks_object(parts: RecordParts, context: AuditContext) -> Iterator[Fault]:
    """Yield a fault for each neighbor without o_c and each attribute entity without o*."""
    for group, wanted in (("neighborhood", parts.target_true.id), ("attribute", parts.target_new.id)):
        for prompt, values in _valued(parts, group, context):
            if wanted and wanted not in values:
                yield Fault(prompt.path, "neighbor-lacks-object", show(prompt.text), f"an entity that has {wanted}")


def neighbor_has_target(parts: RecordParts, context: AuditContext) -> Iterator[Fault]:
    """Yield a fault for each neighbor that has o*."""
    unwanted = parts.target_new.id
    for prompt, values in _valued(parts, "neighborhood", context):
        if unwanted and unwanted in values:
            yield Fault(prompt.path, "neighbor-has-target", show(prompt.text), f"an entity without {unwanted}")


def _valued(parts: RecordParts, group: str, context: AuditContext) -> Iterator[tuple[Prompt, tuple[str, ...]]]:
    """Yield a group's prompts with the objects that the build knows of their entities, if any."""
    if context.rules is None or not parts.relation:
        return
    for prompt in parts.group(group):
        values = context.rules.graph.values(prompt.entity, parts.relation) if prompt.entity else ()
        if values:
            yield prompt, tuple(values)


def _shown(measured: Measured) -> str:
    return ", ".join(f"{name} {value}" for name, value in measured.items())
