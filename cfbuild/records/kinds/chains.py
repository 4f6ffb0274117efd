"""Questions over three or four facts: "The capital of the country of the birthplace of Ann lies on the"."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from cfbuild.data import SLOT, GroupPrompt, Record, Target, article_before
from cfbuild.records.known import Known, are_apart, filled, fitting_templates, names_any, takes_description

MOST_CHAINS = 3
LONGEST = 4
"""The facts of the longest chain, the edit among them (issue 21)."""


@dataclass(frozen=True, slots=True)
class _Chain:
    """The way so far: how the item at its end is described, that item after the edit and before it, what was asked."""

    described: str
    new: Target
    true: Target
    relations: tuple[str, ...]


def chains(record: Record, known: Known) -> Iterator[GroupPrompt]:
    """Yield questions whose answer is three or four facts away. The right answer follows from o* after the edit.

    Each step but the last has a single sound answer for either object, the two are apart, and the prompt names none.
    """
    random = known.random(record, "chains")
    descriptions = known.descriptions(record.relation, record.subject.id)
    if not descriptions:
        return
    article = known.graph.article(record.subject.id)
    about = article_before(random.choice(descriptions), article).replace(SLOT, record.subject.label)
    ways = [_Chain(about, record.target_new, record.target_true, (record.relation,))]
    asked = 0
    for length in range(2, LONGEST + 1):
        if length > 2:
            for prompt in _asked(record, known, ways, random):
                yield prompt
                asked += 1
                if asked == MOST_CHAINS:
                    return
        ways = [longer for way in ways for longer in _longer(known, way, random)]


def _steps(known: Known, way: _Chain, random: Random) -> Iterator[tuple[str, Target, Target]]:
    """Yield (relation, answer after the edit, answer before) of what may be asked next about the end of a way."""
    new, true = known.answers(way.new.id), known.answers(way.true.id)
    relations = [one for one in known.leading_on(way.relations[-1]) if one in new and one in true]
    for relation in random.sample(relations, len(relations)):
        if relation not in way.relations and are_apart(known.graph, new[relation].id, true[relation].id):
            yield relation, new[relation], true[relation]


def _longer(known: Known, way: _Chain, random: Random) -> Iterator[_Chain]:
    """Yield the ways that go one fact further, each described by a template that fits both ends."""
    wording = known.graph.wording
    for relation, new, true in _steps(known, way, random):
        fitting = set(known.descriptions(relation, way.new.id)) & set(known.descriptions(relation, way.true.id))
        texts = sorted(one for one in fitting if wording.takes_description(f"{one} is"))
        if texts:
            described = random.choice(texts).replace(SLOT, wording.inside(way.described))
            yield _Chain(described, new, true, (*way.relations, relation))


def _asked(record: Record, known: Known, ways: list[_Chain], random: Random) -> Iterator[GroupPrompt]:
    """Yield a question about the end of each way."""
    wording = known.graph.wording
    for way in ways:
        for relation, new, true in _steps(known, way, random):
            templates = fitting_templates(known, relation, (new, true), (way.new, way.true))
            templates = [one for one in templates if takes_description(one, wording)]
            texts = [(one, filled(one, way.described, wording)) for one in templates]
            texts = [(one, text) for one, text in texts if not names_any(known.graph, text, new, true)]
            if texts:
                template, text = random.choice(texts)
                yield GroupPrompt(text, new, true, record.subject.id, relation, template.id)
                break
