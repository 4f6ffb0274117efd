"""Prompt groups that CounterFact does not have, made of the same facts and templates: a model writes no text.

A group asks something that follows from the edit (the subject by another name, the fact the other way round, a
question whose answer the new object changes), or tempts an edited model into saying o* where it should not. A group is
a function and a line in the table GROUPS. A record has no such group where its facts do not suffice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from cfbuild.data import SLOT, UNKNOWN, Fact, GroupPrompt, Record, Target, Template, article_before
from cfbuild.facts.dates import years_between
from cfbuild.facts.graph import FactGraph
from cfbuild.facts.relations import INVERSE, SYMMETRIC
from cfbuild.records.known import (
    Known,
    are_apart,
    filled,
    fitting_templates,
    is_plain_name,
    letters_of,
    names_any,
    only_target,
    prompt_about,
    takes_description,
)
from cfbuild.text.names import find_name, gives_away
from cfbuild.text.scripts import stated

MOST_ALIASES = 5
MOST_INVERSE = 3
MOST_HOPS = 5
MOST_UNCHANGED = 5
MOST_PAST = 3
"""The most prompts of a group in a record."""


@dataclass(frozen=True, slots=True)
class Group:
    """A prompt group: `make` yields its prompts, `meaning` describes its score in words.

    stays_true: True if the true target should stay likelier than o* after the edit.
    """

    make: Callable[[Record, Known], Iterator[GroupPrompt]]
    meaning: str
    stays_true: bool = False


def prompt_groups(
    record: Record, known: Known, wanted: Iterable[str], table: Mapping[str, Group] | None = None
) -> dict[str, tuple[GroupPrompt, ...]]:
    """Return the prompts of `record` by wanted group; a group is absent if the facts give it no prompt.

    table: the groups that there are; None for GROUPS.
    """
    chosen, groups = set(wanted), GROUPS if table is None else table
    made = ((name, tuple(groups[name].make(record, known))) for name in groups if name in chosen)
    return {name: prompts for name, prompts in made if prompts}


def _subject_aliases(record: Record, known: Known) -> Iterator[GroupPrompt]:
    """Yield the rewrite prompt with other names of the subject. The right answer is o* after the edit, o_c before it.

    A name is left out if another item has it too, if it names a target, or if it is only another spelling or the
    plural of the label, or a name already asked with or without its article.
    """
    aliases = known.graph.names(record.subject.id)[1:]
    if not aliases:
        return
    label, article = record.subject.label, known.graph.article(record.subject.id)
    said = {f"{letters_of(label)}{ending}" for ending in ("", *known.graph.wording.plural_endings)}
    said.add(letters_of(f"{article}{label}"))
    plain, asked = _without_article(record, known), 0
    for name in known.random(record, "subject_aliases").sample(aliases, len(aliases)):
        # The cheapest question first: few aliases pass all of them.
        if letters_of(name) in said or not _is_alias(name, record, known):
            continue
        spellings = {letters_of(name), letters_of(f"{known.article(record.subject.id, name)}{name}")}
        if said.isdisjoint(spellings):
            if asked == MOST_ALIASES:
                return
            asked += 1
            said |= spellings
            yield prompt_about(known, plain, Target(record.subject.id, name), record.target_new, record.target_true)


def _without_article(record: Record, known: Known) -> Template:
    """Return the record's rewrite template as it was before the subject's article was put into it."""
    article = known.graph.article(record.subject.id)
    if not article:
        return record.prompt
    asked = (one for one in known.templates(record.relation) if one.with_article(article).text == record.prompt.text)
    return next(asked, record.prompt)


def _is_alias(name: str, record: Record, known: Known) -> bool:
    """Return True if prompts can call the subject `name`: like its label, no other item's, giving no target away."""
    label = record.subject.label
    codes = re.search(r"\d", name) and not re.search(r"\d", label)
    alike = not codes and not (label[0].isupper() and name[0].islower())
    if not alike or not is_plain_name(name, known.graph) or known.graph.items_called(name) > 1:
        return False
    targets = record.target_true, record.target_new
    graph = known.graph
    return all(gives_away(name, target.label, graph.names(target.id), graph.wording) is None for target in targets)


def _inverse(record: Record, known: Known) -> Iterator[GroupPrompt]:
    """Yield the fact the other way round, about o*: if the capital of France is Rome, Rome is the capital of France.

    The right answer is s after the edit and, before it, the only item of which o* is the object. Nothing is yielded
    where there are several such items.
    """
    relation = record.relation if record.relation in SYMMETRIC else INVERSE.get(record.relation)
    if relation is None:
        return
    holders = known.graph.current_values(record.target_new.id, relation)
    holders += known.graph.subjects(record.relation, record.target_new.id)
    before = only_target(known, holders)
    if before is None or not are_apart(known.graph, before.id, record.subject.id):
        return
    if find_name(before.label, known.graph.names(record.target_new.id)) is not None:
        return
    templates = fitting_templates(known, relation, (before, record.subject), (record.target_new,))
    random = known.random(record, "inverse")
    for template in random.sample(templates, min(MOST_INVERSE, len(templates))):
        prompt = prompt_about(known, template, record.target_new, record.subject, before)
        if not names_any(known.graph, prompt.text, before, record.subject):
            yield prompt


def _two_hop(record: Record, known: Known) -> Iterator[GroupPrompt]:
    """Yield questions about the object, which the prompt only describes: "The birthplace of Ann is in the country of".

    The right answer is what holds of o* after the edit, and what holds of o_c before it. A relation is used only if
    each has a single answer, the answers differ, neither is inside the other, and the prompt names neither.
    """
    wording, subject = known.graph.wording, record.subject
    described = known.descriptions(record.relation, subject.id)
    of_new, of_true = known.answers(record.target_new.id), known.answers(record.target_true.id)
    if not described or of_new.keys().isdisjoint(of_true):
        return
    random = known.random(record, "two_hop")
    relations, asked = known.leading_on(record.relation), 0
    for relation in random.sample(relations, len(relations)):
        new, true = of_new.get(relation), of_true.get(relation)
        if new is None or true is None or not are_apart(known.graph, new.id, true.id):
            continue
        about = article_before(random.choice(described), known.graph.article(subject.id)).replace(SLOT, subject.label)
        templates = fitting_templates(known, relation, (new, true), (record.target_new, record.target_true))
        templates = [one for one in templates if takes_description(one, wording)]
        texts = [(one, filled(one, about, wording)) for one in templates]
        texts = [(one, text) for one, text in texts if not names_any(known.graph, text, new, true)]
        if texts:
            if asked == MOST_HOPS:
                return
            asked += 1
            template, text = random.choice(texts)
            yield GroupPrompt(text, new, true, subject.id, relation, template.id)


def _specificity_plus(record: Record, known: Known) -> Iterator[GroupPrompt]:
    """Yield the neighborhood prompts with the edited fact stated in front (Hoelscher-Obermaier et al. 2023).

    A neighbor's object is still o_c: what is said of the subject must not spread.
    """
    said = stated(record.rewrite, record.target_new.label.removesuffix("."))
    space = "" if said.endswith("。") else " "
    for prompt in record.neighborhood:
        text = f"{said}{space}{prompt.text}"
        yield GroupPrompt(text, record.target_new, record.target_true, prompt.entity, record.relation, prompt.template)


def _unchanged_facts(record: Record, known: Known) -> Iterator[GroupPrompt]:
    """Yield prompts about other facts of a subject of which something changed in the world: what did not change.

    The right answer is what holds, before the edit and after it; o* is what an edit that spreads would say.
    """
    if record.change is None:
        return
    subject, answers, asked = record.subject, known.answers(record.subject.id), 0
    for relation in known.random(record, "unchanged_facts").sample(list(answers), len(answers)):
        answer = answers[relation]
        is_other = relation != record.relation and (subject.id, relation) not in known.changed
        if not is_other or not are_apart(known.graph, answer.id, record.target_new.id):
            continue
        templates = fitting_templates(known, relation, (answer, record.target_new), (subject,))
        prompts = [prompt_about(known, one, subject, record.target_new, answer) for one in templates]
        prompts = [one for one in prompts if not names_any(known.graph, one.text, answer, record.target_new)]
        if prompts:
            if asked == MOST_UNCHANGED:
                return
            asked += 1
            yield known.random(record, f"unchanged_facts:{relation}").choice(prompts)


def _time_travel(record: Record, known: Known) -> Iterator[GroupPrompt]:
    """Yield prompts about years in which another object held: "In 2010, the head of government of X was".

    The right answer is who held then, before the edit and after it: an edit says what is true today. The object of a
    counterfactual record is not asked about, for the edit contradicts it without a date.
    """
    graph, subject, relation = known.graph, record.subject, record.relation
    unasked = {record.target_new.id, UNKNOWN} | ({record.target_true.id} if record.change is None else set())
    spans = [one for one in graph.statements(subject.id, relation) if one.end and one.object not in unasked]
    if not spans:
        return
    random, asked = known.random(record, "time_travel"), set[str]()
    for fact in random.sample(spans, len(spans)):
        years = [year for year in years_between(fact.start, fact.end) if _held(graph, fact, year)]
        holder = only_target(known, [fact.object])
        if not years or holder is None or holder.id in asked or not are_apart(graph, holder.id, record.target_new.id):
            continue
        year = random.choice(years)
        templates = fitting_templates(known, relation, (holder, record.target_new), (subject,))
        said = [(one, graph.wording.past(one.text, year)) for one in templates]
        prompts = [prompt_about(known, one, subject, record.target_new, holder, text) for one, text in said if text]
        prompts = [one for one in prompts if not names_any(graph, one.text, holder, record.target_new)]
        if prompts:
            if len(asked) == MOST_PAST:
                return
            asked.add(holder.id)
            yield random.choice(prompts)


def _held(graph: FactGraph, fact: Fact, year: int) -> bool:
    """Return True if a fact held in a year that is over, and nothing else did."""
    return year < int(graph.today[:4]) and graph.held_in(fact.subject, fact.relation, year) == fact.object


GROUPS: Mapping[str, Group] = {
    "subject_aliases": Group(_subject_aliases, "o* likelier when the subject goes by another name"),
    "inverse": Group(_inverse, "the subject likelier when the fact is asked the other way round, about o*"),
    "two_hop": Group(_two_hop, "what holds of o* likelier in a question that passes through the object"),
    "specificity_plus": Group(
        _specificity_plus, "true object likelier about neighbours, the edited fact stated in front", stays_true=True
    ),
    "unchanged_facts": Group(
        _unchanged_facts, "what else holds of the subject, and did not change, likelier than o*", stays_true=True
    ),
    "time_travel": Group(_time_travel, "who held in a year that is over, likelier than o*", stays_true=True),
}
"""All groups, in the order of a record's `meta.groups`."""
