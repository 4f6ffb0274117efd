"""Facts that an edit must leave alone, each against a false answer that an edit which spreads would bring."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice

from cfbuild.data import UNKNOWN, GroupPrompt, Record, Target
from cfbuild.facts.relations import CONTAINING, INSTANCE_OF, INVERSE, SUBCLASS_OF
from cfbuild.records.known import (
    Known,
    are_apart,
    fitting_templates,
    is_plain_name,
    names_any,
    only_target,
    prompt_about,
    sound_answer,
)

MOST = 3
"""The most prompts of a kind in a record."""
SUBJECTS_READ = 200
"""Subjects of o* that are looked at for what they mostly have: enough for a majority, few enough for a large build."""
TRIES = 60
"""Facts of the relation that are looked at for things of the subject's class."""
LOCATING = CONTAINING | {"P36", "P159", "P276", "P495", "P740", "P1001", "P1376"}
"""Relations that tell where something is or comes from: with its country a company's seat would change too."""
CLASS_PROMPT = "{} is an instance of"
KIND_PROMPT = "Every {} is a kind of"
"""The prompts about classes; templates are for facts, and P31 and P279 have none."""


def relation_specificity(record: Record, known: Known) -> Iterator[GroupPrompt]:
    """Yield other facts of the subject. The right answer stays; against it stands what most subjects of o* have.

    A fact is left out if it may follow from the edited one: if its object is the true object, is a value of it, or
    contains it or is in it, or if both tell where something is.
    """
    answers, bound = known.answers(record.subject.id), _bound(record, known)
    tied = LOCATING if record.relation in LOCATING else {record.relation, INVERSE.get(record.relation)}
    relations = [one for one in answers if one not in tied]
    made = 0
    for relation in known.random(record, "relation_specificity").sample(relations, len(relations)):
        answer = answers[relation]
        if answer.id in bound or record.target_true.id in known.graph.containers(answer.id):
            continue
        foil = _usual(record, known, relation)
        held = known.graph.values(record.subject.id, relation)
        if foil is None or foil.id in held or not are_apart(known.graph, foil.id, answer.id):
            continue
        prompt = _about(record, known, record.subject, relation, answer, foil)
        if prompt is not None:
            yield prompt
            made += 1
            if made == MOST:
                return


def _bound(record: Record, known: Known) -> frozenset[str]:
    """Return what the edited fact leads to: the true object, what it has and what it is in, one step further on."""
    graph, true = known.graph, record.target_true.id
    near = {true, *graph.containers(true), *graph.known_values(true)}
    return frozenset(near.union(*map(graph.containers, near)))


def _usual(record: Record, known: Known, relation: str) -> Target | None:
    """Return the object that most subjects of o* have under a relation, or None."""
    subjects = islice(known.graph.subjects(record.relation, record.target_new.id), SUBJECTS_READ)
    count = Counter(value for subject in subjects for value in known.graph.current_values(subject, relation))
    count.pop(UNKNOWN, None)
    usual = sorted(count, key=lambda item: (-count[item], item))
    return next((target for item in usual if (target := only_target(known, (item,))) is not None), None)


def object_specificity(record: Record, known: Known) -> Iterator[GroupPrompt]:
    """Yield other facts of both objects, each against the same fact of the other one: all of them stay."""
    new, true = record.target_new, record.target_true
    of_new, of_true = known.answers(new.id), known.answers(true.id)
    relations = [one for one in known.leading_on(record.relation) if one in of_new and one in of_true]
    made = 0
    for relation in known.random(record, "object_specificity").sample(relations, len(relations)):
        if not are_apart(known.graph, of_new[relation].id, of_true[relation].id):
            continue
        pairs = ((new, of_new[relation], of_true[relation]), (true, of_true[relation], of_new[relation]))
        prompts = [_about(record, known, about, relation, answer, foil) for about, answer, foil in pairs]
        if None not in prompts:
            yield from (one for one in prompts if one is not None)
            made += 1
            if made == MOST:
                return


def forgetting(record: Record, known: Known) -> Iterator[GroupPrompt]:
    """Yield the subject's other objects of the relation, where it has several. Against each stands a false one.

    The false one shares a class with it.
    """
    graph, subject, relation = known.graph, record.subject, record.relation
    held = graph.current_values(subject.id, relation)
    others = [one for one in held if one not in (record.target_true.id, record.target_new.id, UNKNOWN)]
    ever = {*graph.values(subject.id, relation), record.target_new.id}
    pool = [one for one in graph.object_counts(relation) if one not in ever]
    random, said = known.random(record, "forgetting"), set[str]()
    for value in random.sample(others, min(MOST, len(others))):
        answer = only_target(known, (value,))
        classes = set(graph.attributes(value, INSTANCE_OF))
        drawn = random.sample(pool, min(len(pool), TRIES))
        foils = (only_target(known, (one,)) for one in drawn if classes & set(graph.attributes(one, INSTANCE_OF)))
        foil = next((one for one in foils if one and answer and are_apart(graph, one.id, answer.id)), None)
        if answer is not None and foil is not None:
            prompt = _about(record, known, subject, relation, answer, foil)
            if prompt is not None and prompt.text not in said:
                said.add(prompt.text)
                yield prompt


def siblings(record: Record, known: Known) -> Iterator[GroupPrompt]:
    """Yield the relation of other things of the subject's class, with other objects than the record's. They stay."""
    graph, relation = known.graph, record.relation
    classes = set(graph.attributes(record.subject.id, INSTANCE_OF))
    facts = graph.facts_of(relation)
    random = known.random(record, "siblings")
    made = 0
    for fact in random.sample(facts, min(TRIES, len(facts))):
        targets = (record.target_new.id, record.target_true.id)
        if fact.object in targets or classes.isdisjoint(graph.attributes(fact.subject, INSTANCE_OF)):
            continue
        answer, about = sound_answer(known, fact.subject, relation), only_target(known, (fact.subject,))
        if answer is None or about is None or not are_apart(graph, answer.id, record.target_new.id):
            continue
        if not are_apart(graph, about.id, record.subject.id):
            continue
        prompt = _about(record, known, about, relation, answer, record.target_new)
        if prompt is not None:
            yield prompt
            made += 1
            if made == MOST:
                return


def ancestors(record: Record, known: Known) -> Iterator[GroupPrompt]:
    """Yield the subject's class, and the class above it, against the class of o*: what the subject is stays."""
    graph = known.graph
    if graph.language != "en":
        return
    own = _classes(known, record.subject.id, INSTANCE_OF)
    others = _classes(known, record.target_new.id, INSTANCE_OF)
    known_of_subject = {*graph.attributes(record.subject.id, INSTANCE_OF), *graph.containers(record.subject.id)}
    foil = next((one for one in others if one.id not in known_of_subject), None)
    if not own or foil is None or not are_apart(graph, own[0].id, foil.id):
        return
    asked = [(record.subject, own[0], CLASS_PROMPT, INSTANCE_OF)]
    asked += [(own[0], one, KIND_PROMPT, SUBCLASS_OF) for one in _classes(known, own[0].id, SUBCLASS_OF)[:1]]
    for about, answer, text, relation in asked:
        prompt = text.replace("{}", about.label)
        above = graph.containers(about.id)
        if foil.id not in above and are_apart(graph, answer.id, foil.id) and not names_any(graph, prompt, answer, foil):
            yield GroupPrompt(prompt, foil, answer, about.id, relation, "")


def _classes(known: Known, item: str, relation: str) -> list[Target]:
    """Return the classes of an item whose own names are known and plain."""
    found = (only_target(known, (one,)) for one in known.graph.attributes(item, relation))
    return [one for one in found if one is not None and is_plain_name(one.label, known.graph)]


def _about(
    record: Record, known: Known, about: Target, relation: str, answer: Target, foil: Target
) -> GroupPrompt | None:
    """Return a prompt of a relation about an item that names neither its answer nor the false one, or None."""
    templates = fitting_templates(known, relation, (answer, foil), (about,))
    random = known.random(record, f"{relation}:{about.id}:{answer.id}")
    for template in random.sample(templates, len(templates)):
        prompt = prompt_about(known, template, about, foil, answer)
        if not names_any(known.graph, prompt.text, answer, foil):
            return prompt
    return None
