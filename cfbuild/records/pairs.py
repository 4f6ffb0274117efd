"""Pairs of subjects: for a record, others of its relation with another object, as corrupted prompts need them."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import NamedTuple

from cfbuild.data import Record
from cfbuild.facts.graph import FactGraph


class PairedSubject(NamedTuple):
    """A subject that may take another's place in a prompt, its object, and the prompt's text (None: any will do)."""

    subject: str
    object: str
    prompt: str | None = None


class SubjectPairs:
    """The subjects of each relation with their objects. Which others a record gets, and in which order, is seeded."""

    def __init__(self, known: Iterable[tuple[str, PairedSubject]], seed: int = 0) -> None:
        self._seed = seed
        self._by_relation: dict[str, list[PairedSubject]] = {}
        for relation, paired in known:
            self._by_relation.setdefault(relation, []).append(paired)

    @staticmethod
    def of_records(records: Iterable[Record], seed: int = 0) -> SubjectPairs:
        """Return the subjects of records, each with the true object and the prompt that is made for it."""
        known = (
            (record.relation, PairedSubject(record.subject.label, record.target_true.label, record.prompt.text))
            for record in records
        )
        return SubjectPairs(known, seed)

    @staticmethod
    def of_facts(graph: FactGraph, seed: int = 0) -> SubjectPairs:
        """Return the named subjects of a graph that have a single object, named too."""
        found = []
        for relation in graph.relations:
            for fact in graph.facts_of(relation):
                names = graph.label(fact.subject), graph.label(fact.object)
                if names[0] and names[1] and len(graph.values(fact.subject, relation)) == 1:
                    found.append((relation, PairedSubject(names[0], names[1])))
        return SubjectPairs(found, seed)

    def others(self, record: Record) -> tuple[tuple[str, str], ...]:
        """Return the (subject, object) pairs that may stand in the record's prompt, those with the same prompt first.

        How many tokens they have and what a model knows of them is not looked at: only a model can say.
        """
        fitting = [
            paired
            for paired in self._by_relation.get(record.relation, ())
            if paired.subject != record.subject.label and paired.object != record.target_true.label
        ]
        random.Random(f"{self._seed}:pairs:{record.case_id}").shuffle(fitting)
        fitting.sort(key=lambda paired: paired.prompt not in (None, record.prompt.text))  # stable
        return tuple((paired.subject, paired.object) for paired in dict.fromkeys(fitting))
