"""Prompt groups that CounterFact does not have, made of the same facts and templates: a model writes no text.

The prompts of a group either follow from the edit (the subject by another name, the fact the other way round, a
question whose answer depends on o*), or tempt an edited model to answer o* where it should not. A group is a function
and a line in the table GROUPS. A record has no such group where its facts do not suffice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from cfbuild.data import SLOT, UNKNOWN, Fact, GroupPrompt, Record, Target, Template, article_before
from cfbuild.facts.dates import years_between
from cfbuild.facts.graph import FactGraph
from cfbuild.facts.relations import INVERSE, SYMMETRIC
from cfbuild.records.fact_lookup import (
    FactLookup,
    are_apart,
    described_questions,
    fitting_templates,
    is_plain_name,
    letters_of,
    names_any,
    only_target,
    prompt_about,
)
from cfbuild.text.names import find_name, gives_away
from cfbuild.text.scripts import stated

MOST_INVERSE = 3
"""The most templates that are tried for the prompts of `inverse`."""


@dataclass(frozen=True, slots=True)
class Group:
    """A prompt group: `make` yields its prompts, `meaning` describes its score in words.

    most: the most prompts of the group in a record; None for all that `make` yields.
    stays_true: True if the true target should stay likelier than o* after the edit.
    """

    make: Callable[[Record, FactLookup], Iterator[GroupPrompt]]
    meaning: str
    most: int | None = None
    stays_true: bool = False


def prompt_groups(
    record: Record, lookup: FactLookup, names: Iterable[str], table: Mapping[str, Group] | None = None
) -> dict[str, tuple[GroupPrompt, ...]]:
    """Return the prompts of `record` by group, for the groups in `names` of which the facts give any prompt.

    table: the groups that can be chosen, by name; None for GROUPS.
    """
    chosen, groups = set(names), GROUPS if table is None else table
    made = (
        (name, tuple(islice(group.make(record, lookup), group.most)))
        for name, group in groups.items()
        if name in chosen
    )
    return {name: prompts for name, prompts in made if prompts}


def _subject_aliases(record: Record, lookup: FactLookup) -> Iterator[GroupPrompt]:
    """Yield the rewrite prompt with other names of the subject. The right answer is o* after the edit, o_c before it.

    A name is skipped if another item has it too, if it names a target, or if it is only another spelling of the label,
    its plural, or a name used already with or without its article.
    """
    aliases = lookup.graph.names(record.subject.id)[1:]
    if not aliases:
        return
    label, article = record.subject.label, lookup.graph.article(record.subject.id)
    used = {f"{letters_of(label)}{ending}" for ending in ("", *lookup.graph.wording.plural_endings)}
    used.add(letters_of(f"{article}{label}"))
    template = _without_article(record, lookup)
    for name in lookup.random(record, "subject_aliases").sample(aliases, len(aliases)):
        # The cheapest check first: few aliases pass all of them.
        if letters_of(name) in used or not _is_alias(name, record, lookup):
            continue
        spellings = {letters_of(name), letters_of(f"{lookup.article(record.subject.id, name)}{name}")}
        if used.isdisjoint(spellings):
            used |= spellings
            yield prompt_about(lookup, template, Target(record.subject.id, name), record.target_new, record.target_true)


def _without_article(record: Record, lookup: FactLookup) -> Template:
    """Return the record's rewrite template as it was before the subject's article was put into it."""
    article = lookup.graph.article(record.subject.id)
    if not article:
        return record.prompt
    same = (one for one in lookup.templates(record.relation) if one.with_article(article).text == record.prompt.text)
    return next(same, record.prompt)


def _is_alias(name: str, record: Record, lookup: FactLookup) -> bool:
    """Return True if prompts can call the subject `name`: like its label, no other item's, and naming no target."""
    label = record.subject.label
    is_code = re.search(r"\d", name) and not re.search(r"\d", label)
    alike = not is_code and not (label[0].isupper() and name[0].islower())
    if not alike or not is_plain_name(name, lookup.graph) or lookup.graph.items_called(name) > 1:
        return False
    targets = record.target_true, record.target_new
    graph = lookup.graph
    return all(gives_away(name, target.label, graph.names(target.id), graph.wording) is None for target in targets)


def _inverse(record: Record, lookup: FactLookup) -> Iterator[GroupPrompt]:
    """Yield the fact the other way round, about o*: if the capital of France is Rome, Rome is the capital of France.

    The right answer is the subject after the edit; before it, the only item of which o* is the object. If there are
    several such items, nothing is yielded.
    """
    relation = record.relation if record.relation in SYMMETRIC else INVERSE.get(record.relation)
    if relation is None:
        return
    holders = lookup.graph.current_values(record.target_new.id, relation)
    holders += lookup.graph.subjects(record.relation, record.target_new.id)
    before = only_target(lookup, holders)
    if before is None or not are_apart(lookup.graph, before.id, record.subject.id):
        return
    if find_name(before.label, lookup.graph.names(record.target_new.id)) is not None:
        return
    templates = fitting_templates(lookup, relation, (before, record.subject), (record.target_new,))
    random = lookup.random(record, "inverse")
    for template in random.sample(templates, min(MOST_INVERSE, len(templates))):
        prompt = prompt_about(lookup, template, record.target_new, record.subject, before)
        if not names_any(lookup.graph, prompt.text, before, record.subject):
            yield prompt


def _two_hop(record: Record, lookup: FactLookup) -> Iterator[GroupPrompt]:
    """Yield questions about the object, which the prompt only describes: "The birthplace of Ann is in the country of".

    The right answer is that for o* after the edit, and that for o_c before it. A relation is used only if each has a
    single answer, the answers differ, neither is inside the other, and the prompt names neither.
    """
    subject = record.subject
    descriptions = lookup.descriptions(record.relation, subject.id)
    of_new, of_true = lookup.answers(record.target_new.id), lookup.answers(record.target_true.id)
    if not descriptions or of_new.keys().isdisjoint(of_true):
        return
    random, article = lookup.random(record, "two_hop"), lookup.graph.article(subject.id)
    relations = lookup.leading_on(record.relation)
    for relation in random.sample(relations, len(relations)):
        new, true = of_new.get(relation), of_true.get(relation)
        if new is None or true is None or not are_apart(lookup.graph, new.id, true.id):
            continue
        described = article_before(random.choice(descriptions), article).replace(SLOT, subject.label)
        items = record.target_new, record.target_true
        questions = described_questions(lookup, relation, described, (new, true), items)
        if questions:
            template, text = random.choice(questions)
            yield GroupPrompt(text, new, true, subject.id, relation, template.id)


def _specificity_plus(record: Record, lookup: FactLookup) -> Iterator[GroupPrompt]:
    """Yield the neighborhood prompts with the edited fact stated in front (Hoelscher-Obermaier et al. 2023).

    A neighbor's object is still o_c: what is stated about the subject must not spread.
    """
    sentence = stated(record.rewrite, record.target_new.label.removesuffix("."))
    space = "" if sentence.endswith("。") else " "
    for prompt in record.neighborhood:
        text = f"{sentence}{space}{prompt.text}"
        yield GroupPrompt(text, record.target_new, record.target_true, prompt.entity, record.relation, prompt.template)


def _unchanged_facts(record: Record, lookup: FactLookup) -> Iterator[GroupPrompt]:
    """Yield, for a record about a real change, prompts about other facts of its subject, which did not change.

    The right answer is the same before and after the edit; o* is the answer of an edit that spreads.
    """
    if record.change is None:
        return
    subject, answers = record.subject, lookup.answers(record.subject.id)
    for relation in lookup.random(record, "unchanged_facts").sample(list(answers), len(answers)):
        answer = answers[relation]
        is_other = relation != record.relation and (subject.id, relation) not in lookup.changed
        if not is_other or not are_apart(lookup.graph, answer.id, record.target_new.id):
            continue
        templates = fitting_templates(lookup, relation, (answer, record.target_new), (subject,))
        prompts = [prompt_about(lookup, one, subject, record.target_new, answer) for one in templates]
        prompts = [one for one in prompts if not names_any(lookup.graph, one.text, answer, record.target_new)]
        if prompts:
            yield lookup.random(record, f"unchanged_facts:{relation}").choice(prompts)


def _time_travel(record: Record, lookup: FactLookup) -> Iterator[GroupPrompt]:
    """Yield prompts about years in which the subject had another object: "In 2010, the head of government of X was".

    The right answer is the object of that year, before the edit and after it: an edit says what is true today. The true
    object of a counterfactual record is skipped, for the edit contradicts it without a date.
    """
    graph, subject, relation = lookup.graph, record.subject, record.relation
    skipped = {record.target_new.id, UNKNOWN} | ({record.target_true.id} if record.change is None else set())
    ended = [one for one in graph.statements(subject.id, relation) if one.end and one.object not in skipped]
    if not ended:
        return
    random = lookup.random(record, "time_travel")
    for fact in random.sample(ended, len(ended)):
        years = [year for year in years_between(fact.start, fact.end) if _held(graph, fact, year)]
        answer = only_target(lookup, [fact.object])
        if not years or answer is None or answer.id in skipped or not are_apart(graph, answer.id, record.target_new.id):
            continue
        year = random.choice(years)
        templates = fitting_templates(lookup, relation, (answer, record.target_new), (subject,))
        texts = [(one, graph.wording.past(one.text, year)) for one in templates]
        prompts = [prompt_about(lookup, one, subject, record.target_new, answer, text) for one, text in texts if text]
        prompts = [one for one in prompts if not names_any(graph, one.text, answer, record.target_new)]
        if prompts:
            skipped.add(answer.id)
            yield random.choice(prompts)


def _held(graph: FactGraph, fact: Fact, year: int) -> bool:
    """Return True if a fact held in a year that is over, and no other of its subject and relation did."""
    return year < int(graph.today[:4]) and graph.held_in(fact.subject, fact.relation, year) == fact.object


GROUPS: Mapping[str, Group] = {
    "subject_aliases": Group(_subject_aliases, "o* likelier when the subject goes by another name", most=5),
    "inverse": Group(_inverse, "the subject likelier when the fact is asked the other way round, about o*"),
    "two_hop": Group(_two_hop, "what holds of o* likelier in a question that passes through the object", most=5),
    "specificity_plus": Group(
        _specificity_plus, "true object likelier about neighbors, the edited fact stated in front", stays_true=True
    ),
    "unchanged_facts": Group(
        _unchanged_facts, "what else holds of the subject, and did not change, likelier than o*", 5, stays_true=True
    ),
    "time_travel": Group(_time_travel, "who held in a year that is over, likelier than o*", 3, stays_true=True),
}
"""All groups, in the order of a record's `meta.groups`."""
