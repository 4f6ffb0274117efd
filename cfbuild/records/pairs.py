"""Subjects that can take the place of a record's own in a corrupted prompt: of its relation, with another object."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import NamedTuple

from cfbuild.data import Record
from cfbuild.facts.graph import FactGraph


class PairedSubject(NamedTuple):
    """A subject, its object, and the template that is made for it (None: any template of the relation)."""

    subject: str
    object: str
    prompt: str | None = None


class SubjectPairs:
    """The subjects of each relation with their objects; `others` orders them by the seed."""

    def __init__(self, subjects: Iterable[tuple[str, PairedSubject]], seed: int = 0) -> None:
        self._seed = seed
        self._by_relation: dict[str, list[PairedSubject]] = {}
        for relation, paired in subjects:
            self._by_relation.setdefault(relation, []).append(paired)

    @staticmethod
    def of_records(records: Iterable[Record], seed: int = 0) -> SubjectPairs:
        """Return the pairs of the subjects of records, each with its true object and its own template."""
        subjects = (
            (record.relation, PairedSubject(record.subject.label, record.target_true.label, record.prompt.text))
            for record in records
        )
        return SubjectPairs(subjects, seed)

    @staticmethod
    def of_facts(graph: FactGraph, seed: int = 0) -> SubjectPairs:
        """Return the pairs of the subjects of a graph that have a single object, both with a label."""
        subjects = []
        for relation in graph.relations:
            for fact in graph.facts_of(relation):
                subject, value = graph.label(fact.subject), graph.label(fact.object)
                if subject and value and len(graph.values(fact.subject, relation)) == 1:
                    subjects.append((relation, PairedSubject(subject, value)))
        return SubjectPairs(subjects, seed)

    def others(self, record: Record) -> tuple[tuple[str, str], ...]:
        """Return the (subject, object) pairs that fit the record's prompt, those with the same template first.

        Only a model can tell how many tokens they have and whether it knows them; this is not looked at.
        """
        fitting = [
            paired
            for paired in self._by_relation.get(record.relation, ())
            if paired.subject != record.subject.label and paired.object != record.target_true.label
        ]
        random.Random(f"{self._seed}:pairs:{record.case_id}").shuffle(fitting)
        fitting.sort(key=lambda paired: paired.prompt not in (None, record.prompt.text))  # stable
        return tuple((paired.subject, paired.object) for paired in dict.fromkeys(fitting))
