"""Questions with given answers: yes or no, and a letter of four. They are worded in English, for English builds only.

The id of an answer is that of the object it is about: of the letter A, the object listed as A.
"""

from __future__ import annotations

from collections.abc import Iterator

from cfbuild.data import SLOT, GroupPrompt, Record, Target, article_before
from cfbuild.facts.relations import INSTANCE_OF
from cfbuild.records.fact_lookup import FactLookup, are_apart, only_target, sound_answer

YES, NO = "Yes", "No"
LETTERS = "ABCD"
"""The letters of four options (issue 21)."""
TRIES = 60
"""The most objects or subjects that are drawn in search of one that fits."""
LANGUAGE = "en"


def yes_no(record: Record, lookup: FactLookup) -> Iterator[GroupPrompt]:
    """Yield the questions whether the subject has o* and whether it has o_c: "Is it right that ...?"

    The edit swaps the two answers.
    """
    begins = record.prompt.text.startswith((SLOT, f"The {SLOT}", "The "))
    if lookup.graph.language != LANGUAGE or not begins:
        return
    clause = lookup.graph.wording.inside(record.rewrite)
    for target in (record.target_new, record.target_true):
        yield _yes_no_prompt(record, target, f"Is it right that {clause} {target.label.removesuffix('.')}? Answer:")


def same_entity(record: Record, lookup: FactLookup) -> Iterator[GroupPrompt]:
    """Yield questions whether the subject's object is also another subject's: of one that has o*, of one that has o_c.

    The answer to the first is yes after the edit only, to the second before it only.
    """
    descriptions = lookup.descriptions(record.relation, record.subject.id)
    if lookup.graph.language != LANGUAGE or not descriptions:
        return
    own = _described(lookup, descriptions[0], record.subject)
    for target in (record.target_new, record.target_true):
        holder = _holder(record, lookup, target)
        others = lookup.descriptions(record.relation, holder.id) if holder is not None else ()
        if holder is not None and others:
            yield _yes_no_prompt(record, target, f"Is {own} also {_described(lookup, others[0], holder)}? Answer:")


def _yes_no_prompt(record: Record, target: Target, text: str) -> GroupPrompt:
    """Return the prompt of a question about one of a record's targets: yes is right after the edit if that is o*."""
    after, before = (YES, NO) if target is record.target_new else (NO, YES)
    new, true = Target(target.id, after), Target(target.id, before)
    return GroupPrompt(text, new, true, record.subject.id, record.relation, record.prompt.id)


def _described(lookup: FactLookup, description: str, about: Target) -> str:
    """Return a description about an item as it stands inside a sentence: "the capital of the Netherlands"."""
    text = article_before(description, lookup.article(about.id, about.label))
    return lookup.graph.wording.inside(text).replace(SLOT, about.label)


def _holder(record: Record, lookup: FactLookup, target: Target) -> Target | None:
    """Return a subject whose single, sound object is `target` and that is apart from the record's subject, or None."""
    subjects = lookup.graph.subjects(record.relation, target.id)
    random = lookup.random(record, f"same_entity:{target.id}")
    for item in random.sample(subjects, min(TRIES, len(subjects))):
        answer, holder = sound_answer(lookup, item, record.relation), only_target(lookup, (item,))
        if answer is not None and holder is not None and are_apart(lookup.graph, item, record.subject.id):
            return holder
    return None


def multiple_choice(record: Record, lookup: FactLookup) -> Iterator[GroupPrompt]:
    """Yield the rewrite prompt with four options, o* and o_c among them; the others share a class with one of the two.

    The case id decides which of the twelve pairs of letters o* and o_c get, so each letter is right equally often.
    """
    if lookup.graph.language != LANGUAGE:
        return
    others = _options(record, lookup)
    if len(others) < len(LETTERS) - 2:
        return
    place = record.case_id % len(LETTERS)
    free = [one for one in range(len(LETTERS)) if one != place]
    true_place = free[record.case_id // len(LETTERS) % len(free)]
    named = {place: record.target_new, true_place: record.target_true}
    rest = iter(others)
    options = [named.get(one) or next(rest) for one in range(len(LETTERS))]
    listed = "; ".join(f"{letter}: {one.label}" for letter, one in zip(LETTERS, options, strict=True))
    text = f"{record.rewrite} one of these: {listed}. The right letter is"
    new, true = Target(record.target_new.id, LETTERS[place]), Target(record.target_true.id, LETTERS[true_place])
    yield GroupPrompt(text, new, true, record.subject.id, record.relation, record.prompt.id)


def _options(record: Record, lookup: FactLookup) -> list[Target]:
    """Return up to two false objects of the relation that share a class with o_c or o*, all four apart."""
    graph, chosen = lookup.graph, [record.target_new, record.target_true]
    classes = {class_id for target in chosen for class_id in graph.attributes(target.id, INSTANCE_OF)}
    pool = [*graph.object_counts(record.relation)]
    values = graph.values(record.subject.id, record.relation)
    for item in lookup.random(record, "multiple_choice").sample(pool, min(TRIES, len(pool))):
        target = only_target(lookup, (item,))
        if target is None or item in values or classes.isdisjoint(graph.attributes(item, INSTANCE_OF)):
            continue
        if all(are_apart(graph, item, option.id) for option in chosen):
            chosen.append(target)
            if len(chosen) == len(LETTERS):
                break
    return chosen[2:]
