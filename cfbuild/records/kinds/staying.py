"""Questions about facts that an edit must leave alone, each with the false answer of an edit that spreads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice

from cfbuild.data import UNKNOWN, GroupPrompt, Record, Target
from cfbuild.facts.relations import CONTAINING, INSTANCE_OF, INVERSE, SUBCLASS_OF
from cfbuild.records.fact_lookup import (
    FactLookup,
    are_apart,
    fitting_templates,
    names_any,
    only_target,
    prompt_about,
    sound_answer,
)

MOST = 3
"""The most facts of a kind that a record's prompts ask about."""
SUBJECTS_READ = 200
"""The most subjects of o* whose objects are counted: enough for a majority, few enough for a large build."""
TRIES = 60
"""The most facts or objects of the relation that are drawn in search of one with a class of the record's."""
LOCATING = CONTAINING | {"P36", "P159", "P276", "P495", "P740", "P1001", "P1376"}
"""Relations that tell where something is or comes from. An edit of one may change another: seat, and country."""
CLASS_PROMPT = "{} is an instance of"
KIND_PROMPT = "Every {} is a kind of"
"""The prompts about classes; templates are for facts, and P31 and P279 have none."""


def relation_specificity(record: Record, lookup: FactLookup) -> Iterator[GroupPrompt]:
    """Yield prompts about other facts of the subject, which stay. The false answer is what most subjects of o* have.

    A fact is skipped if it may follow from the edited one: if its object is the true object, is a value of it, or
    contains it or is in it, or if both facts tell where something is.
    """
    answers, near_true = lookup.answers(record.subject.id), _near_true(record, lookup)
    tied = LOCATING if record.relation in LOCATING else {record.relation, INVERSE.get(record.relation)}
    relations = [one for one in answers if one not in tied]
    for relation in lookup.random(record, "relation_specificity").sample(relations, len(relations)):
        answer = answers[relation]
        if answer.id in near_true or record.target_true.id in lookup.graph.containers(answer.id):
            continue
        false = _usual(record, lookup, relation)
        values = lookup.graph.values(record.subject.id, relation)
        if false is None or false.id in values or not are_apart(lookup.graph, false.id, answer.id):
            continue
        prompt = _prompt(record, lookup, record.subject, relation, answer, false)
        if prompt is not None:
            yield prompt


def _near_true(record: Record, lookup: FactLookup) -> frozenset[str]:
    """Return the true object, its values and containers, and the containers of all these."""
    graph, true = lookup.graph, record.target_true.id
    near = {true, *graph.containers(true), *graph.known_values(true)}
    return frozenset(near.union(*map(graph.containers, near)))


def _usual(record: Record, lookup: FactLookup, relation: str) -> Target | None:
    """Return the object that most subjects of o* have under `relation`, or None."""
    subjects = islice(lookup.graph.subjects(record.relation, record.target_new.id), SUBJECTS_READ)
    count = Counter(value for subject in subjects for value in lookup.graph.current_values(subject, relation))
    count.pop(UNKNOWN, None)
    usual = sorted(count, key=lambda item: (-count[item], item))
    return next((target for item in usual if (target := only_target(lookup, (item,))) is not None), None)


def object_specificity(record: Record, lookup: FactLookup) -> Iterator[GroupPrompt]:
    """Yield prompts about other facts of both objects, which stay. The false answer is the other object's.

    Each fact gives two prompts.
    """
    new, true = record.target_new, record.target_true
    of_new, of_true = lookup.answers(new.id), lookup.answers(true.id)
    relations = [one for one in lookup.leading_on(record.relation) if one in of_new and one in of_true]
    for relation in lookup.random(record, "object_specificity").sample(relations, len(relations)):
        if not are_apart(lookup.graph, of_new[relation].id, of_true[relation].id):
            continue
        pairs = ((new, of_new[relation], of_true[relation]), (true, of_true[relation], of_new[relation]))
        prompts = [_prompt(record, lookup, about, relation, answer, false) for about, answer, false in pairs]
        if None not in prompts:
            yield from (one for one in prompts if one is not None)


def forgetting(record: Record, lookup: FactLookup) -> Iterator[GroupPrompt]:
    """Yield prompts about the subject's other objects of the relation. The false answer shares a class with each."""
    graph, subject, relation = lookup.graph, record.subject, record.relation
    current = graph.current_values(subject.id, relation)
    others = [one for one in current if one not in (record.target_true.id, record.target_new.id, UNKNOWN)]
    ever = {*graph.values(subject.id, relation), record.target_new.id}
    pool = [one for one in graph.object_counts(relation) if one not in ever]
    random, texts = lookup.random(record, "forgetting"), set[str]()
    for value in random.sample(others, min(MOST, len(others))):
        answer = only_target(lookup, (value,))
        classes = set(graph.attributes(value, INSTANCE_OF))
        drawn = random.sample(pool, min(len(pool), TRIES))
        of_class = (only_target(lookup, (one,)) for one in drawn if classes & set(graph.attributes(one, INSTANCE_OF)))
        false = next((one for one in of_class if one and answer and are_apart(graph, one.id, answer.id)), None)
        if answer is not None and false is not None:
            prompt = _prompt(record, lookup, subject, relation, answer, false)
            if prompt is not None and prompt.text not in texts:
                texts.add(prompt.text)
                yield prompt


def siblings(record: Record, lookup: FactLookup) -> Iterator[GroupPrompt]:
    """Yield prompts of the relation about other items of the subject's class that have neither of the two objects.

    Their objects stay; the false answer is o*.
    """
    graph, relation = lookup.graph, record.relation
    classes = set(graph.attributes(record.subject.id, INSTANCE_OF))
    facts = graph.facts_of(relation)
    for fact in lookup.random(record, "siblings").sample(facts, min(TRIES, len(facts))):
        targets = (record.target_new.id, record.target_true.id)
        if fact.object in targets or classes.isdisjoint(graph.attributes(fact.subject, INSTANCE_OF)):
            continue
        answer, sibling = sound_answer(lookup, fact.subject, relation), only_target(lookup, (fact.subject,))
        if answer is None or sibling is None or not are_apart(graph, answer.id, record.target_new.id):
            continue
        if not are_apart(graph, sibling.id, record.subject.id):
            continue
        prompt = _prompt(record, lookup, sibling, relation, answer, record.target_new)
        if prompt is not None:
            yield prompt


def ancestors(record: Record, lookup: FactLookup) -> Iterator[GroupPrompt]:
    """Yield prompts about the subject's class and the class above it, which stay. The false answer is a class of o*."""
    graph = lookup.graph
    if graph.language != "en":
        return
    own = _classes(lookup, record.subject.id, INSTANCE_OF)
    others = _classes(lookup, record.target_new.id, INSTANCE_OF)
    classes_of_subject = {*graph.attributes(record.subject.id, INSTANCE_OF), *graph.containers(record.subject.id)}
    false = next((one for one in others if one.id not in classes_of_subject), None)
    if not own or false is None or not are_apart(graph, own[0].id, false.id):
        return
    questions = [(record.subject, own[0], CLASS_PROMPT, INSTANCE_OF)]
    questions += [(own[0], one, KIND_PROMPT, SUBCLASS_OF) for one in _classes(lookup, own[0].id, SUBCLASS_OF)[:1]]
    for about, answer, text, relation in questions:
        prompt = text.replace("{}", about.label)
        is_apart = false.id not in graph.containers(about.id) and are_apart(graph, answer.id, false.id)
        if is_apart and not names_any(graph, prompt, answer, false):
            yield GroupPrompt(prompt, false, answer, about.id, relation, "")


def _classes(lookup: FactLookup, item: str, relation: str) -> list[Target]:
    """Return the classes of an item that have a plain name."""
    found = (only_target(lookup, (one,)) for one in lookup.graph.attributes(item, relation))
    return [one for one in found if one is not None]


def _prompt(
    record: Record, lookup: FactLookup, about: Target, relation: str, answer: Target, false: Target
) -> GroupPrompt | None:
    """Return a prompt of `relation` about an item that names neither the right nor the false answer, or None."""
    templates = fitting_templates(lookup, relation, (answer, false), (about,))
    random = lookup.random(record, f"{relation}:{about.id}:{answer.id}")
    prompts = (
        prompt_about(lookup, template, about, false, answer) for template in random.sample(templates, len(templates))
    )
    return next((one for one in prompts if not names_any(lookup.graph, one.text, answer, false)), None)
