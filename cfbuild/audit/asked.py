"""The answers of prompt groups, held against the record and a build's facts: a kind of question is a line in CHECKS.

A check returns what is wrong with an answer, or None. Those that need the build's facts say nothing without them, and
nothing of an item that the build does not know.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from cfbuild.audit.evidence import AuditContext
from cfbuild.audit.row import RecordParts
from cfbuild.data import Target
from cfbuild.facts.graph import FactGraph
from cfbuild.facts.relations import INSTANCE_OF
from cfbuild.store.schema.faults import Fault, show
from cfbuild.text.names import find_name

OPTION = re.compile(r"([A-Z]): (.*?)(?=; [A-Z]: |\. The right letter is\Z)")
"""An option of a question with four of them: its letter and its text."""
SAID = ("Yes", "No")
STEPS = 3
"""The facts between o* and the answer of the longest chain."""


@dataclass(frozen=True, slots=True)
class GroupAnswers:
    """A prompt of a group as a check sees it."""

    text: str
    new: Target
    true: Target
    entity: str
    relation: str


Check = Callable[[GroupAnswers, RecordParts, "FactGraph | None"], "str | None"]


def wrong_answer(parts: RecordParts, context: AuditContext) -> Iterator[Fault]:
    """Yield a fault for each prompt of a group whose answers the record or the build's facts contradict."""
    graph = context.rules.graph if context.rules else None
    for kind, path, question in _entries(parts):
        found = CHECKS[kind](question, parts, graph)
        if found is not None:
            yield Fault(f"{path}/prompt", "wrong-answer", found, "answers that follow from the facts")


def _entries(parts: RecordParts) -> Iterator[tuple[str, str, GroupAnswers]]:
    """Yield (kind, place, prompt) of the groups' prompts that are whole; others are the schema's to report."""
    meta = parts.row.get("meta") if parts.is_counterfact else None
    groups = meta.get("groups") if isinstance(meta, dict) else None
    for kind, entries in groups.items() if isinstance(groups, dict) else ():
        for number, entry in enumerate(entries) if kind in CHECKS and isinstance(entries, list) else ():
            question = _asked(entry)
            if question is not None:
                yield kind, f"/meta/groups/{kind}/{number}", question


def _asked(entry: Any) -> GroupAnswers | None:
    if not isinstance(entry, dict):
        return None
    new, true = _target(entry.get("target_new")), _target(entry.get("target_true"))
    texts: list[Any] = [entry.get(key) for key in ("prompt", "entity", "relation_id")]
    if new is None or true is None or not all(isinstance(text, str) and text for text in texts):
        return None
    return GroupAnswers(texts[0], new, true, texts[1], texts[2])


def _target(value: Any) -> Target | None:
    if not isinstance(value, dict):
        return None
    label, id_ = value.get("str"), value.get("id")
    return Target(id_, label) if isinstance(label, str) and isinstance(id_, str) else None


def _holds(graph: FactGraph, subject: str, relation: str, value: str) -> bool | None:
    """Return whether a fact is among the build's, now or ever; None where it knows none of the subject's."""
    values = graph.attributes(subject, relation)
    return value in values if values else None


def _stays(question: GroupAnswers, parts: RecordParts, graph: FactGraph | None) -> str | None:
    """Return what is wrong with a fact that stays: it is none, or the false answer is true."""
    if graph is None:
        return None
    if _holds(graph, question.entity, question.relation, question.true.id) is False:
        return f"{show(question.true.label)}, which {question.entity} does not have under {question.relation}"
    if _holds(graph, question.entity, question.relation, question.new.id):
        return f"{show(question.new.label)} as the false answer, which {question.entity} has under {question.relation}"
    return None


def _class_stays(question: GroupAnswers, parts: RecordParts, graph: FactGraph | None) -> str | None:
    """Return what is wrong with a class: as `_stays`, but a false one may not be above the item either."""
    found = _stays(question, parts, graph)
    if found is None and graph is not None:
        above = {*graph.containers(question.entity), *graph.attributes(question.entity, INSTANCE_OF)}
        if question.new.id in above.union(*map(graph.containers, above)):
            return f"{show(question.new.label)} as the false answer, which is above {question.entity}"
    return found


def _follows(steps: int) -> Check:
    """Return the check of a question that passes through the object: the answer is at most so many facts from it."""

    def check(question: GroupAnswers, parts: RecordParts, graph: FactGraph | None) -> str | None:
        for holder, answer in ((parts.target_new, question.new), (parts.target_true, question.true)):
            if graph is not None and holder.id and not _leads_to(graph, holder.id, question, answer.id, steps):
                return f"{show(answer.label)}, to which no facts lead from {show(holder.label)}"
        return None

    return check


def _leads_to(graph: FactGraph, start: str, question: GroupAnswers, answer: str, steps: int) -> bool:
    """Return True if an item fewer than `steps` facts away from `start` has `answer` under the asked relation."""
    front, relation = {start}, question.relation
    for _ in range(steps):
        if any(answer in graph.attributes(item, relation) for item in front):
            return True
        front = set().union(*map(graph.known_values, front))
    return False


def _renamed(question: GroupAnswers, parts: RecordParts, graph: FactGraph | None) -> str | None:
    """Return what is wrong with o* by another name: the prompt is none of the record's, or the name is not its own."""
    if question.text not in (parts.rewrite, *(clean for _, clean in parts.prefixes)):
        return f"{show(question.text)}, which is none of the record's prompts"
    if parts.target_new.id and question.new.id != parts.target_new.id:
        return f"{show(question.new.label)}, which names {question.new.id} and not {parts.target_new.id}"
    names = graph.names(question.new.id) if graph is not None else ()
    return (
        f"{show(question.new.label)}, which is no name of {question.new.id}"
        if names and question.new.label not in names
        else None
    )


def _yes_no(question: GroupAnswers, parts: RecordParts, graph: FactGraph | None) -> str | None:
    """Return what is wrong with a question for yes or no: what is asked decides which answer the edit brings."""
    if (found := _not_said(question)) is not None:
        return found
    # A name's full stop ("Apple Inc.") is not said before a question mark.
    objects = (target.label.removesuffix(".") for target in (parts.target_new, parts.target_true))
    asks_new, asks_true = (find_name(question.text, (name,)) is not None for name in objects)
    if asks_new == asks_true:
        return f"{show(question.text)}, which asks about neither object, or about both"
    return None if (question.new.label == "Yes") == asks_new else f"{show(question.new.label)} after the edit"


def _same(question: GroupAnswers, parts: RecordParts, graph: FactGraph | None) -> str | None:
    """Return what is wrong with a question whether two descriptions are of one thing: the other subject decides."""
    if (found := _not_said(question)) is not None or graph is None or not parts.relation:
        return found
    _, _, described = question.text.rpartition(" also ")
    holder = parts.target_new.id if question.new.label == "Yes" else parts.target_true.id
    named = any((graph.label(item) or "\n") in described for item in graph.subjects(parts.relation, holder))
    return None if named else f"{show(described)}, which describes no other subject of {holder}"


def _not_said(question: GroupAnswers) -> str | None:
    labels = (question.new.label, question.true.label)
    return None if set(labels) == set(SAID) else f"{show(' and '.join(labels))} as the answers"


def _lettered(question: GroupAnswers, parts: RecordParts, graph: FactGraph | None) -> str | None:
    """Return what is wrong with a question with options: a letter stands for another object than it should."""
    options = dict(OPTION.findall(question.text))
    if len(set(options.values())) < len(options) or len(options) < 2:
        return f"{show(question.text)}, whose options are not apart"
    for answer, wanted in ((question.new, parts.target_new), (question.true, parts.target_true)):
        if options.get(answer.label) != wanted.label:
            return f"{show(answer.label)}, which stands for {show(options.get(answer.label))}"
    return None


CHECKS: Mapping[str, Check] = MappingProxyType(
    {
        "two_hop": _follows(1),
        "object_aliases": _renamed,
        "chains": _follows(STEPS),
        "same_entity": _same,
        "yes_no": _yes_no,
        "multiple_choice": _lettered,
        "relation_specificity": _stays,
        "object_specificity": _stays,
        "forgetting": _stays,
        "siblings": _stays,
        "ancestors": _class_stays,
    }
)
"""The check of each kind of question whose answers can be wrong."""
