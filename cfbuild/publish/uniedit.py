"""Rows of UniEdit's files (Chen et al. 2025): an edit with questions, each with the chain of facts it follows from.

UniEdit knows the kind of a question by its chain. In a chain the edit's own subject, relation and o* are called h_e,
r_e and t_e, other items and relations e_0, r_0, ... The last two places of a link say whether it is followed forwards
(f) or back (b), and whether it has a single answer (s) or many (m). A row has exactly one question of locality, as the
reader expects, so the kinds take turns by case id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from cfbuild.data import SLOT, Record, Target
from cfbuild.facts.relations import RELATIONS
from cfbuild.publish.export_input import NO_NAMES, OtherNames
from cfbuild.store.jsonl import Row

EDIT_LINK = ["h_e", "r_e", "t_e"]
FORWARDS = ["f", "s"]


def uniedit(record: Record, known: OtherNames = NO_NAMES) -> Row:
    """Return a row of UniEdit's files: the edit, its questions of generality, and a question of locality."""
    edit = {"prompt": record.rewrite, "target": record.target_new.label, "subject": record.subject.label}
    generality = [row for make in GENERALITY for row in make(record, known)]
    locality = list(_locality(record, known))
    return {
        "edit": {**edit, **_fact(record.subject, record.relation, record.target_new, known)},
        "generality": {str(place): row for place, row in enumerate(generality)},
        "locality": {"0": locality[record.case_id % len(locality)]} if locality else {},
    }


def _item(target: Target, known: OtherNames) -> Row:
    return {"id": target.id, "label": target.label, "description": "", "aliases": known.other_names(target)}


def _fact(subject: Target, relation: str, value: Target, known: OtherNames) -> Row:
    """Return the parts of a fact that an edit and each link of a chain have."""
    name = RELATIONS[relation].name if relation in RELATIONS else relation
    return {
        "head_entity": _item(subject, known),
        "property": {"id": relation, "label": name, "description": "", "aliases": [], "single_value": True},
        "tail_entity": {"order_in_property": 0, "datatype": "wikibase-item", "value": _item(value, known)},
        "single_inverse": False,
    }


def _link(path: list[str], prompt: str, subject: str, fact: Row) -> Row:
    target = fact["tail_entity"]["value"]["label"]
    link = {"path": path, "prompt": prompt, "subject": subject, "target": target, "reverse_in_multi_hop": False}
    return {**link, **fact}


def _edit_link(record: Record, known: OtherNames, prompt: str, subject: str) -> Row:
    return _link(EDIT_LINK, prompt, subject, _fact(record.subject, record.relation, record.target_new, known))


def _question(prompt: str, target: str, paths: list[list[str]], hops: list[Row]) -> Row:
    return {"path_type": "single", "prompt": prompt, "target": target, "paths": paths, "one_hops": hops}


def _reworded(record: Record, known: OtherNames) -> Iterator[Row]:
    """Yield the questions whose chain is the edit's own link: paraphrases, then other names of the subject and of o*.

    Questions with a name of the subject that is not known are left out.
    """
    subject, new = record.subject.label, record.target_new.label
    texts = [(paraphrase.clean, subject, new) for paraphrase in record.paraphrases]
    for prompt in record.groups.get("subject_aliases", ()):
        name = next((name for name in known.other_names(record.subject) if name in prompt.text), None)
        if name is not None:
            texts.append((prompt.text, name, new))
    texts += [(prompt.text, subject, prompt.target_new.label) for prompt in record.groups.get("object_aliases", ())]
    for text, name, target in texts:
        hop = {**_edit_link(record, known, text, name), "target": target}
        yield _question(text, target, [[*EDIT_LINK, *FORWARDS]], [hop])


def _reversed(record: Record, known: OtherNames) -> Iterator[Row]:
    """Yield the questions whose chain is the edit's link followed back, from o* to the subject."""
    for prompt in record.groups.get("inverse", ()):
        back = {"prompt": prompt.text, "target": record.subject.label}
        hop = {**_edit_link(record, known, record.rewrite, record.subject.label), "reverse_in_multi_hop": True}
        path = [*reversed(EDIT_LINK), "b", "s"]
        yield _question(prompt.text, record.subject.label, [path], [{**hop, "reversed": back}])


def _two_hops(record: Record, known: OtherNames) -> Iterator[Row]:
    """Yield the questions whose chain is the edit's link and a second one, if the second's template is known."""
    for prompt in record.groups.get("two_hop", ()):
        second = known.prompt(prompt.template, record.target_new.label)
        if second is not None:
            path = ["t_e", "r_0", "e_0"]
            fact = _fact(record.target_new, prompt.relation, prompt.target_new, known)
            first = _edit_link(record, known, record.rewrite, record.subject.label)
            hops = [first, _link(path, second, record.target_new.label, fact)]
            paths = [[*EDIT_LINK, *FORWARDS], [*path, *FORWARDS]]
            yield _question(prompt.text, prompt.target_new.label, paths, hops)


GENERALITY: tuple[Callable[[Record, OtherNames], Iterator[Row]], ...] = (
    _reworded,
    _reversed,
    _two_hops,
)
"""The functions that make the questions of generality, in their order in a row."""
STAYING: Mapping[str, tuple[str, list[str]]] = {
    "relation_specificity": ("head of edit", ["h_e", "r_0", "e_0"]),
    "forgetting": ("head of edit", ["h_e", "r_e", "e_0"]),
    "object_specificity": ("tail of edit", ["t_e", "r_0", "e_0"]),
}
"""The groups of prompts about the edit's own items whose answer stays: what each shares with the edit, and its link."""


def _locality(record: Record, known: OtherNames) -> Iterator[Row]:
    """Yield the questions of the STAYING groups, then those of the neighbors, which share the edit's relation."""
    items = {item.id: item for item in (record.subject, record.target_new)}
    for kind, (shared, path) in STAYING.items():
        for prompt in record.groups.get(kind, ()):
            if prompt.entity in items:  # a fact of the true object shares nothing with the edit
                subject, answer = items[prompt.entity], prompt.target_true
                hop = _link(path, prompt.text, subject.label, _fact(subject, prompt.relation, answer, known))
                yield {"loc_type": shared, **_question(prompt.text, answer.label, [[*path, *FORWARDS]], [hop])}
    for neighbor in record.neighborhood:
        path = ["e_0", "r_e", "e_1"]
        subject = Target(neighbor.entity, _named(record, neighbor.text))
        fact = _fact(subject, record.relation, record.target_true, known)
        hop = _link(path, neighbor.text, subject.label, fact)
        question = _question(neighbor.text, record.target_true.label, [[*path, *FORWARDS]], [hop])
        yield {"loc_type": "property of edit", **question}


def _named(record: Record, text: str) -> str:
    """Return the subject that a neighborhood prompt names, if it has the record's own template; else empty."""
    before, after = record.prompt.text.split(SLOT)
    fits = text.startswith(before) and text.endswith(after) and len(text) > len(before) + len(after)
    return text[len(before) : len(text) - len(after)] if fits else ""
