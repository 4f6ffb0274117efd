"""The rules for records: each has one id, one meaning and one function, and finds violations or faults of quality.

A row with a violation cannot be used: validation refuses it and `generate` never writes it. A fault of quality makes
figures less reliable; only an audit reports it. An audit reports violations, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import chain

from cfbuild.audit import build_facts, group_answers, quality, violations
from cfbuild.audit.evidence import AuditContext
from cfbuild.audit.reader import CaseId
from cfbuild.audit.row import RecordParts
from cfbuild.store.schema.faults import Fault, show

VIOLATION_RULES: Mapping[str, Callable[[RecordParts], Iterator[Fault]]] = {
    "slot": violations.slot,
    "edge-space": violations.edge_space,
    "same-targets": violations.same_targets,
    "lacks-subject": violations.lacks_subject,
    "duplicate-prompt": violations.duplicate_prompt,
    "own-prompt": violations.own_prompt,
    "meta-length": violations.meta_length,
    "meta-paraphrase": violations.meta_paraphrase,
    "own-entity": violations.own_entity,
    "shared-entity": violations.shared_entity,
}
"""The rules whose faults are violations; they read the record alone, so that validation and audit agree."""

AUDIT_RULES: Mapping[str, Callable[[RecordParts, AuditContext], Iterator[Fault]]] = {
    "prefix-fragment": quality.prefix_fragment,
    "prefix-mention": quality.prefix_mention,
    "repeated-generation": quality.repeated_generation,
    "repeated-entity": quality.repeated_entity,
    "label-noise": quality.label_noise,
    "qid-label": quality.qid_label,
    "object-in-subject": partial(quality.one_in_other, "target_true", "object-in-subject"),
    "target-in-subject": partial(quality.one_in_other, "target_new", "target-in-subject"),
    "object-in-neighbor": quality.object_in_neighbor,
    "article": quality.article,
    "template-grammar": quality.template_grammar,
    "symmetric-relation": quality.symmetric_relation,
    "answer-in-prompt": quality.answer_in_prompt,
    "wrong-answer": group_answers.wrong_answer,
    "neighbor-lacks-object": build_facts.neighbor_lacks_object,
    "neighbor-has-target": build_facts.neighbor_has_target,
    "neighbor-changed": build_facts.neighbor_changed,
    "past-answer": build_facts.past_answer,
    "changed-answer": build_facts.changed_answer,
}
"""The other rules for a single record. With a build's facts those of `filter/rules.py` are added."""


def violations_in(parts: RecordParts) -> list[Fault]:
    """Return the violations of a record, in the table's order; parts that were not read have none."""
    return [fault for find in VIOLATION_RULES.values() for fault in find(parts)]


def faults_in(parts: RecordParts, context: AuditContext) -> list[Fault]:
    """Return every fault of a record, in the table's order; a rule has at most one fault for a place."""
    found: dict[tuple[str, str], Fault] = {}
    of_record = context.of(parts)
    of_quality = (find(parts, of_record) for find in (*AUDIT_RULES.values(), build_facts.against_facts))
    for fault in (*violations_in(parts), *chain.from_iterable(of_quality)):
        found.setdefault((fault.rule, fault.path), fault)
    return list(found.values())


class EarlierRows:
    """The rules that compare a row, which begins on `line`, with earlier rows; call them for the rows in order."""

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
