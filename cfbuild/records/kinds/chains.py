"""Questions over three or four facts: "The capital of the country of the birthplace of Ann lies on the"."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from cfbuild.data import SLOT, GroupPrompt, Record, Target, article_before
from cfbuild.records.fact_lookup import FactLookup, are_apart, described_questions

LONGEST = 4
"""The facts of the longest chain, the edit among them (issue 21)."""


@dataclass(frozen=True, slots=True)
class _Chain:
    """A chain of facts: the description of the item at its end, that item after and before the edit, its relations."""

    description: str
    new: Target
    true: Target
    relations: tuple[str, ...]


def chains(record: Record, lookup: FactLookup) -> Iterator[GroupPrompt]:
    """Yield questions whose answer is three or four facts away. The right answer follows from o* after the edit.

    At each step o* and o_c lead to a single answer each. The two answers are apart, and the prompt names neither.
    """
    random = lookup.random(record, "chains")
    descriptions = lookup.descriptions(record.relation, record.subject.id)
    if not descriptions:
        return
    article = lookup.graph.article(record.subject.id)
    description = article_before(random.choice(descriptions), article).replace(SLOT, record.subject.label)
    found = [_Chain(description, record.target_new, record.target_true, (record.relation,))]
    for length in range(2, LONGEST + 1):
        if length > 2:
            yield from _questions(record, lookup, found, random)
        found = [longer for chain in found for longer in _longer(lookup, chain, random)]


def _steps(lookup: FactLookup, chain: _Chain, random: Random) -> Iterator[tuple[str, Target, Target]]:
    """Yield (relation, answer after the edit, answer before) for each relation that can be asked of a chain's end."""
    new, true = lookup.answers(chain.new.id), lookup.answers(chain.true.id)
    relations = [one for one in lookup.leading_on(chain.relations[-1]) if one in new and one in true]
    for relation in random.sample(relations, len(relations)):
        if relation not in chain.relations and are_apart(lookup.graph, new[relation].id, true[relation].id):
            yield relation, new[relation], true[relation]


def _longer(lookup: FactLookup, chain: _Chain, random: Random) -> Iterator[_Chain]:
    """Yield the chains that are one fact longer, each described by a template that fits both ends of `chain`."""
    wording = lookup.graph.wording
    for relation, new, true in _steps(lookup, chain, random):
        fitting = set(lookup.descriptions(relation, chain.new.id)) & set(lookup.descriptions(relation, chain.true.id))
        texts = sorted(one for one in fitting if wording.takes_description(f"{one} is"))
        if texts:
            description = random.choice(texts).replace(SLOT, wording.inside(chain.description))
            yield _Chain(description, new, true, (*chain.relations, relation))


def _questions(record: Record, lookup: FactLookup, found: list[_Chain], random: Random) -> Iterator[GroupPrompt]:
    """Yield a question about the end of each chain."""
    for chain in found:
        for relation, new, true in _steps(lookup, chain, random):
            questions = described_questions(lookup, relation, chain.description, (new, true), (chain.new, chain.true))
            if questions:
                template, text = random.choice(questions)
                yield GroupPrompt(text, new, true, record.subject.id, relation, template.id)
                break
