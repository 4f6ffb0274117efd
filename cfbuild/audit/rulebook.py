"""The rules for records: each has one id, one meaning and one function, and finds violations or faults of quality.

A row with a violation cannot be used: validation refuses it and `generate` never writes it. A fault of quality makes
figures less reliable; only an audit reports it. An audit reports violations, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from cfbuild.audit import build_facts, group_answers, meta, quality, violations
from cfbuild.audit.evidence import AuditContext
from cfbuild.audit.reader import CaseId
from cfbuild.audit.row import RecordParts
from cfbuild.store.schema.faults import Fault, show

Finder = Callable[[RecordParts, AuditContext], Iterator[Fault]]


@dataclass(frozen=True, slots=True)
class AuditRule:
    """A rule: `find` yields the faults of a record; `is_violation` is True if they are violations."""

    find: Finder
    is_violation: bool = False


def _violation(find: Callable[[RecordParts], Iterator[Fault]]) -> AuditRule:
    """Return a rule whose faults are violations; it reads the record alone, so that validation and audit agree."""
    return AuditRule(lambda parts, context: find(parts), is_violation=True)


AUDIT_RULES: Mapping[str, AuditRule] = {
    "slot": _violation(violations.slot),
    "edge-space": _violation(violations.edge_space),
    "same-targets": _violation(violations.same_targets),
    "lacks-subject": _violation(violations.lacks_subject),
    "duplicate-prompt": _violation(violations.duplicate_prompt),
    "own-prompt": _violation(violations.own_prompt),
    "meta-length": _violation(meta.meta_length),
    "meta-paraphrase": _violation(meta.meta_paraphrase),
    "own-entity": _violation(meta.own_entity),
    "shared-entity": _violation(meta.shared_entity),
    "prefix-fragment": AuditRule(quality.prefix_fragment),
    "prefix-mention": AuditRule(quality.prefix_mention),
    "repeated-generation": AuditRule(quality.repeated_generation),
    "repeated-entity": AuditRule(quality.repeated_entity),
    "label-noise": AuditRule(quality.label_noise),
    "qid-label": AuditRule(quality.qid_label),
    "object-in-subject": AuditRule(quality.object_in_subject),
    "target-in-subject": AuditRule(quality.target_in_subject),
    "object-in-neighbor": AuditRule(quality.object_in_neighbor),
    "article": AuditRule(quality.article),
    "template-grammar": AuditRule(quality.template_grammar),
    "symmetric-relation": AuditRule(quality.symmetric_relation),
    "answer-in-prompt": AuditRule(quality.answer_in_prompt),
    "wrong-answer": AuditRule(group_answers.wrong_answer),
    "neighbor-lacks-object": AuditRule(build_facts.neighbor_lacks_object),
    "neighbor-has-target": AuditRule(build_facts.neighbor_has_target),
    "neighbor-changed": AuditRule(build_facts.neighbor_changed),
    "past-answer": AuditRule(build_facts.past_answer),
    "changed-answer": AuditRule(build_facts.changed_answer),
}
"""The rules for a single record. With a build's facts those of `filter/rules.py` are added."""

VIOLATIONS = tuple(rule.find for rule in AUDIT_RULES.values() if rule.is_violation)
_ALONE = AuditContext()


def violations_in(parts: RecordParts) -> list[Fault]:
    """Return the violations of a record, in the table's order; parts that were not read have none."""
    return [fault for find in VIOLATIONS for fault in find(parts, _ALONE)]


def faults_in(parts: RecordParts, context: AuditContext) -> list[Fault]:
    """Return every fault of a record, in the table's order; a rule has at most one fault for a place."""
    found: dict[tuple[str, str], Fault] = {}
    of_record = context.of(parts)
    for find in (*(rule.find for rule in AUDIT_RULES.values()), build_facts.against_facts):
        for fault in find(parts, of_record):
            found.setdefault((fault.rule, fault.path), fault)
    return list(found.values())


class EarlierRows:
    """The rules that compare a row with the earlier rows of a file; call them for the rows in order.

    `line` is the one on which the row begins.
    """

    def __init__(self) -> None:
        self._lines: dict[CaseId, int] = {}
        self._edits: dict[tuple[str, str], tuple[int, str]] = {}

    def duplicate_case_id(self, case_id: CaseId | None, line: int) -> Iterator[Fault]:
        """Yield a fault, a violation, for a case id that an earlier row has."""
        if case_id is None:
            return
        if case_id in self._lines:
            got = f"{show(case_id)}, which the row on line {self._lines[case_id]} has too"
            yield Fault("/case_id", "duplicate-case-id", got, "an id that no other row has")
        self._lines.setdefault(case_id, line)

    def conflicting_edit(self, edited: tuple[str, str], subject: str, label: str, line: int) -> Iterator[Fault]:
        """Yield a fault if an earlier row has the same `edited` (`RecordParts.edited`); `label` is the new target's."""
        if edited in self._edits:
            first, target = self._edits[edited]
            got = "again" if target == label else f"{show(target)} in line {first}"
            expected = "one edit of a subject and relation"
            yield Fault("", "conflicting-edits", f"{show(subject)}: {got}", expected)
        self._edits.setdefault(edited, (line, label))
