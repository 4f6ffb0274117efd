"""Questions with given answers: yes or no, and a letter of four. Their wording is English, as are the builds with them.

The id of an answer is that of the item which it is about: a letter's that of the object it stands for.
"""

from __future__ import annotations

from collections.abc import Iterator

from cfbuild.data import SLOT, GroupPrompt, Record, Target, article_before
from cfbuild.facts.relations import INSTANCE_OF
from cfbuild.records.known import Known, are_apart, only_target, sound_answer

YES, NO = "Yes", "No"
LETTERS = "ABCD"
"""The letters of four options (issue 21)."""
TRIES = 60
"""Objects and subjects that are looked at for one that fits."""
LANGUAGE = "en"


def yes_no(record: Record, known: Known) -> Iterator[GroupPrompt]:
    """Yield whether the subject has o*, and whether it has the true object: the answers change places by the edit."""
    begins = record.prompt.text.startswith((SLOT, f"The {SLOT}", "The "))
    if known.graph.language != LANGUAGE or not begins:
        return
    said = known.graph.wording.inside(record.rewrite)
    for target, after, before in ((record.target_new, YES, NO), (record.target_true, NO, YES)):
        text = f"Is it right that {said} {target.label.removesuffix('.')}? Answer:"
        new, true = Target(target.id, after), Target(target.id, before)
        yield GroupPrompt(text, new, true, record.subject.id, record.relation, record.prompt.id)


def same_entity(record: Record, known: Known) -> Iterator[GroupPrompt]:
    """Yield prompts that ask if the subject's object is also another subject's: one that has o*, one that has o_c.

    The answer to the first is yes after the edit only, to the second before it only.
    """
    described = known.descriptions(record.relation, record.subject.id)
    if known.graph.language != LANGUAGE or not described:
        return
    own = _described(known, described[0], record.subject)
    for target, after, before in ((record.target_new, YES, NO), (record.target_true, NO, YES)):
        holder = _holder(record, known, target)
        if holder is not None:
            ways = known.descriptions(record.relation, holder.id)
            if ways:
                text = f"Is {own} also {_described(known, ways[0], holder)}? Answer:"
                new, true = Target(target.id, after), Target(target.id, before)
                yield GroupPrompt(text, new, true, record.subject.id, record.relation, record.prompt.id)


def _described(known: Known, text: str, about: Target) -> str:
    return known.graph.wording.inside(article_before(text, known.article(about.id, about.label))).replace(
        SLOT, about.label
    )


def _holder(record: Record, known: Known, target: Target) -> Target | None:
    """Return a subject whose only, sound object is `target`, named unlike the record's subject; or None."""
    subjects = known.graph.subjects(record.relation, target.id)
    random = known.random(record, f"same_entity:{target.id}")
    for subject in random.sample(subjects, min(TRIES, len(subjects))):
        answer, named = sound_answer(known, subject, record.relation), only_target(known, (subject,))
        if answer is not None and named is not None and are_apart(known.graph, subject, record.subject.id):
            return named
    return None


def multiple_choice(record: Record, known: Known) -> Iterator[GroupPrompt]:
    """Yield the rewrite prompt with four options, o* and o_c among them; the others share a class with one of them.

    The places of o* and o_c go through all twelve by the case id, so each letter is right as often as any other.
    """
    if known.graph.language != LANGUAGE:
        return
    others = _options(record, known)
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


def _options(record: Record, known: Known) -> list[Target]:
    """Return two objects of the relation that share a class with o_c or o*, false of the subject, all apart."""
    graph, chosen = known.graph, [record.target_new, record.target_true]
    classes = {class_id for target in chosen for class_id in graph.attributes(target.id, INSTANCE_OF)}
    pool = [*graph.object_counts(record.relation)]
    held = graph.values(record.subject.id, record.relation)
    for item in known.random(record, "multiple_choice").sample(pool, min(TRIES, len(pool))):
        target = only_target(known, (item,))
        if target is None or item in held or classes.isdisjoint(graph.attributes(item, INSTANCE_OF)):
            continue
        if all(are_apart(graph, item, option.id) for option in chosen):
            chosen.append(target)
            if len(chosen) == len(LETTERS):
                break
    return chosen[2:]
