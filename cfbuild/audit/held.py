"""Rules that compare a record with a build's facts: each yields nothing where the build does not know.

Rules about facts and targets are those of `filter/rules.py`, applied again to the finished record. Where such a rule
has the id of a rule for texts, both mean the same: the first looks at the build's names, the second at the row's.
"""

from __future__ import annotations

from collections.abc import Iterator

from cfbuild.audit.evidence import AuditContext, resolve
from cfbuild.audit.reader import Prompt
from cfbuild.audit.row import RecordParts
from cfbuild.data import Measured
from cfbuild.filter.rules import FACT_RULES, TARGET_RULES
from cfbuild.store.schema.faults import Fault, show

SEVERAL = frozenset({"several-objects", "open-relation"})
"""Fact rules that are off where several true objects are allowed."""
NEEDLESS = frozenset({"too-few-templates"})
"""Fact rules that do not matter to a finished record."""


def against_facts(parts: RecordParts, context: AuditContext) -> Iterator[Fault]:
    """Yield a fault for each fact or target rule that refuses the record's fact or o*, if the build has the fact."""
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
