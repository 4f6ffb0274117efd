"""Rules that hold a record against a build's facts: each yields nothing where the build does not know.

Rules about facts and targets are those of `filter/rules.py`, asked again of the finished record. Where one has the id
of a rule for texts, both say the same, of the names that the build has and of those that the row has.
"""

from __future__ import annotations

from collections.abc import Iterator

from cfbuild.audit.evidence import AuditContext, resolve
from cfbuild.audit.row import REWRITE, Prompt, RecordParts
from cfbuild.data import Measured
from cfbuild.filter.rules import FACT_RULES, TARGET_RULES
from cfbuild.store.schema.faults import Fault, show

SEVERAL = frozenset({"several-objects", "open-relation"})
"""Fact rules that are off where several true objects are allowed."""
NEEDLESS = frozenset({"too-few-templates"})
"""Fact rules that say nothing of a finished record."""


def against_facts(parts: RecordParts, context: AuditContext) -> Iterator[Fault]:
    """Yield what the fact and target rules say, where the build has the fact."""
    fact = resolve(parts, context.rules)
    if fact is None or context.rules is None:
        return
    for name, rule in FACT_RULES.items():
        measured = None if name in NEEDLESS else rule(fact, context.rules)
        if measured is not None and not (name in SEVERAL and context.allow_several):
            yield Fault(REWRITE, name, _shown(measured), "a fact that the rule keeps")
    if parts.target_new.id:
        for name, target_rule in TARGET_RULES.items():
            measured = target_rule(fact, parts.target_new, context.rules)
            if measured is not None:
                yield Fault(parts.target_path("target_new"), name, _shown(measured), "an object that the rule keeps")


def neighbor_lacks_object(parts: RecordParts, context: AuditContext) -> Iterator[Fault]:
    """Yield neighbors without o_c and attribute entities without o*."""
    for group, wanted in (("neighborhood", parts.target_true.id), ("attribute", parts.target_new.id)):
        for prompt, values in _valued(parts, group, context):
            if wanted and wanted not in values:
                yield Fault(prompt.path, "neighbor-lacks-object", show(prompt.text), f"an entity that has {wanted}")


def neighbor_has_target(parts: RecordParts, context: AuditContext) -> Iterator[Fault]:
    """Yield neighbors that have o*."""
    unwanted = parts.target_new.id
    for prompt, values in _valued(parts, "neighborhood", context):
        if unwanted and unwanted in values:
            yield Fault(prompt.path, "neighbor-has-target", show(prompt.text), f"an entity without {unwanted}")


def _valued(parts: RecordParts, group: str, context: AuditContext) -> Iterator[tuple[Prompt, tuple[str, ...]]]:
    """Yield a group's prompts with the objects that the build knows of what each is about; none without any."""
    if context.rules is None or not parts.relation:
        return
    for prompt in parts.group(group):
        values = context.rules.graph.values(prompt.entity, parts.relation) if prompt.entity else ()
        if values:
            yield prompt, tuple(values)


def _shown(measured: Measured) -> str:
    return ", ".join(f"{name} {value}" for name, value in measured.items())
