"""Checks of the answers of prompt groups, by the record and a build's facts; each kind of question is in CHECKS.

A check returns the fault of an answer in words, or None. Without a build's facts, or for an item that the build does
not know, checks that need facts return None.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from cfbuild.audit.evidence import AuditContext
from cfbuild.audit.row import RecordParts
from cfbuild.data import GroupPrompt, Target
from cfbuild.facts.graph import FactGraph
from cfbuild.facts.relations import INSTANCE_OF
from cfbuild.store.schema.faults import Fault, show
from cfbuild.text.names import find_name

OPTION = re.compile(r"([A-Z]): (.*?)(?=; [A-Z]: |\. The right letter is\Z)")
"""An option of a question with four of them: its letter and its text."""
YES_NO = {"Yes", "No"}
STEPS = 3
"""The most facts between o* and the answer of a chain (`records/kinds/chains.py`)."""

Check = Callable[[GroupPrompt, RecordParts, "FactGraph | None"], "str | None"]


def wrong_answer(parts: RecordParts, context: AuditContext) -> Iterator[Fault]:
    """Yield a fault for each prompt of a group whose answers the record or the build's facts contradict."""
    graph = context.rules.graph if context.rules else None
    for kind, path, question in _entries(parts):
        found = CHECKS[kind](question, parts, graph)
        if found is not None:
            yield Fault(f"{path}/prompt", "wrong-answer", found, "answers that follow from the facts")


def _entries(parts: RecordParts) -> Iterator[tuple[str, str, GroupPrompt]]:
    """Yield (kind, path, prompt) for each prompt of the groups with a check; JSON Schema reports broken ones."""
    meta = parts.row.get("meta") if parts.is_counterfact else None
    groups = meta.get("groups") if isinstance(meta, dict) else None
    for kind, entries in groups.items() if isinstance(groups, dict) else ():
        for number, entry in enumerate(entries) if kind in CHECKS and isinstance(entries, list) else ():
            question = _question(entry)
            if question is not None:
                yield kind, f"/meta/groups/{kind}/{number}", question


def _question(entry: Any) -> GroupPrompt | None:
    """Return the prompt of a group's entry, or None if a part is missing or of a wrong type."""
    if not isinstance(entry, dict):
        return None
    new, true = _target(entry.get("target_new")), _target(entry.get("target_true"))
    texts: list[Any] = [entry.get(key) for key in ("prompt", "entity", "relation_id")]
    if new is None or true is None or not all(isinstance(text, str) and text for text in texts):
        return None
    text, entity, relation = texts
    return GroupPrompt(text, new, true, entity, relation, "")


def _target(value: Any) -> Target | None:
    if not isinstance(value, dict):
        return None
    label, id_ = value.get("str"), value.get("id")
    return Target(id_, label) if isinstance(label, str) and isinstance(id_, str) else None


def _holds(graph: FactGraph, subject: str, relation: str, value: str) -> bool | None:
    """Return True if the build has a fact, current or not, and None if it has none of this subject and relation."""
    values = graph.attributes(subject, relation)
    return value in values if values else None


def _stays(question: GroupPrompt, parts: RecordParts, graph: FactGraph | None) -> str | None:
    """Return the fault of a question about a fact that stays: the right answer is false, or the false one is right."""
    if graph is None:
        return None
    if _holds(graph, question.entity, question.relation, question.target_true.id) is False:
        return f"{show(question.target_true.label)}, which {question.entity} does not have under {question.relation}"
    if _holds(graph, question.entity, question.relation, question.target_new.id):
        false = show(question.target_new.label)
        return f"{false} as the false answer, which {question.entity} has under {question.relation}"
    return None


def _class_stays(question: GroupPrompt, parts: RecordParts, graph: FactGraph | None) -> str | None:
    """Return the fault of a question about a class: as `_stays`; nor may the false answer be above the item."""
    found = _stays(question, parts, graph)
    if found is None and graph is not None:
        above = {*graph.containers(question.entity), *graph.attributes(question.entity, INSTANCE_OF)}
        if question.target_new.id in above.union(*map(graph.containers, above)):
            return f"{show(question.target_new.label)} as the false answer, which is above {question.entity}"
    return found


def _follows(steps: int) -> Check:
    """Return the check of a question about what an object leads to: its answer is at most `steps` facts away."""

    def check(question: GroupPrompt, parts: RecordParts, graph: FactGraph | None) -> str | None:
        pairs = (parts.target_new, question.target_new), (parts.target_true, question.target_true)
        for start, answer in pairs:
            if graph is not None and start.id and not _leads_to(graph, start.id, question.relation, answer.id, steps):
                return f"{show(answer.label)}, to which no facts lead from {show(start.label)}"
        return None

    return check


def _leads_to(graph: FactGraph, start: str, relation: str, answer: str, steps: int) -> bool:
    """Return True if an item fewer than `steps` facts away from `start` has `answer` under `relation`."""
    reached = {start}
    for _ in range(steps):
        if any(answer in graph.attributes(item, relation) for item in reached):
            return True
        reached = set().union(*map(graph.known_values, reached))
    return False


def _renamed(question: GroupPrompt, parts: RecordParts, graph: FactGraph | None) -> str | None:
    """Return the fault of a question with o* by another name: a prompt or a name that is not the record's."""
    if question.text not in (parts.rewrite, *(clean for _, clean in parts.prefixes)):
        return f"{show(question.text)}, which is none of the record's prompts"
    new = question.target_new
    if parts.target_new.id and new.id != parts.target_new.id:
        return f"{show(new.label)}, which names {new.id} and not {parts.target_new.id}"
    names = graph.names(new.id) if graph is not None else ()
    return f"{show(new.label)}, which is no name of {new.id}" if names and new.label not in names else None


def _yes_no(question: GroupPrompt, parts: RecordParts, graph: FactGraph | None) -> str | None:
    """Return the fault of a question for yes or no: yes is right after the edit if it asks about o*."""
    if (found := _not_yes_no(question)) is not None:
        return found
    # A name's full stop ("Apple Inc.") is left out before a question mark.
    objects = (target.label.removesuffix(".") for target in (parts.target_new, parts.target_true))
    asks_new, asks_true = (find_name(question.text, (name,)) is not None for name in objects)
    if asks_new == asks_true:
        return f"{show(question.text)}, which asks about neither object, or about both"
    after = question.target_new.label
    return None if (after == "Yes") == asks_new else f"{show(after)} after the edit"


def _same(question: GroupPrompt, parts: RecordParts, graph: FactGraph | None) -> str | None:
    """Return the fault of a question whether two descriptions are of one object: the other subject has neither."""
    if (found := _not_yes_no(question)) is not None or graph is None or not parts.relation:
        return found
    _, _, description = question.text.rpartition(" also ")
    value = parts.target_new.id if question.target_new.label == "Yes" else parts.target_true.id
    named = any((graph.label(item) or "\n") in description for item in graph.subjects(parts.relation, value))
    return None if named else f"{show(description)}, which describes no other subject of {value}"


def _not_yes_no(question: GroupPrompt) -> str | None:
    """Return the fault of answers that are not Yes and No, or None."""
    labels = (question.target_new.label, question.target_true.label)
    return None if set(labels) == YES_NO else f"{show(' and '.join(labels))} as the answers"


def _lettered(question: GroupPrompt, parts: RecordParts, graph: FactGraph | None) -> str | None:
    """Return the fault of a question with options: two are equal, or a letter stands for another object."""
    options = dict(OPTION.findall(question.text))
    if len(set(options.values())) < len(options) or len(options) < 2:
        return f"{show(question.text)}, whose options are not apart"
    for letter, target in ((question.target_new, parts.target_new), (question.target_true, parts.target_true)):
        if options.get(letter.label) != target.label:
            return f"{show(letter.label)}, which stands for {show(options.get(letter.label))}"
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
"""The checks of the kinds of questions whose answers a build's facts or the record can contradict."""
