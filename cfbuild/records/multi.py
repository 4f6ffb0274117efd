"""An order of many edits of one model, in batches of any size; no two are about the same subject and relation."""

from __future__ import annotations

from array import array
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, compress
from sys import intern
from typing import Protocol, TypeVar

from cfbuild.data import Record, Target
from cfbuild.facts.relations import INVERSE
from cfbuild.store.digests import BYTES, random_keys, short_digest, short_digests
from cfbuild.store.jsonl import Row

SIZES = (1, 10, 100, 1_000)
"""Sizes of batches for which rows have a number: powers of ten up to those of MEMIT's figure 4."""


class AboutFact(Protocol):
    """The properties of a record that tell which fact it edits."""

    @property
    def relation(self) -> str: ...

    @property
    def subject(self) -> Target: ...

    @property
    def target_new(self) -> Target: ...


AnyEdit = TypeVar("AnyEdit", bound=AboutFact)


def free_of_conflicts(edits: Iterable[AnyEdit]) -> Iterator[AnyEdit]:
    """Return an iterator over the edits without those whose fact, or its inverse, an earlier edit is about."""
    edits = list(edits)
    return compress(edits, _are_free((_fact(edit), _implied(edit)) for edit in edits))


def _are_free(facts: Iterable[tuple[Hashable, Hashable]]) -> Iterator[bool]:
    """Yield True for each edit that conflicts with no earlier one.

    facts: (the edit's fact, the inverse fact that it implies, or a false value) of each edit.
    """
    edited: set[Hashable] = set()
    implied: set[Hashable] = set()
    for fact, inverse in facts:
        is_free = fact not in edited and fact not in implied and (not inverse or inverse not in edited)
        if is_free:
            edited.add(fact)
            if inverse:
                implied.add(inverse)
        yield is_free


def _fact(edit: AboutFact) -> str:
    """Return a key of the subject and relation that an edit is about."""
    return _key(edit.subject.id, edit.subject.label, edit.relation)


def _implied(edit: AboutFact) -> str:
    """Return a key of o* and the inverse relation, whose object follows from an edit; empty without an inverse."""
    inverse = INVERSE.get(edit.relation)
    return _key(edit.target_new.id, edit.target_new.label, inverse) if inverse else ""


def _key(item: str, label: str, relation: str) -> str:
    return f"{relation}\0{item}\0{'' if item else label}"


@dataclass
class PlannedEdits:
    """The edits of records, in some 200 bytes each, so that a million can be ordered; they can be added to each other.

    facts, implied: digests of each edit's fact and of the one that it implies (0 for none).
    neighbors: digests of the facts of the neighbors of all records, one record after the other.
    counts: the number of neighbors of each record.
    """

    case_ids: array[int] = field(default_factory=lambda: array("q"))
    relations: list[str] = field(default_factory=list)
    subjects: list[str] = field(default_factory=list)
    facts: array[int] = field(default_factory=lambda: array("q"))
    implied: array[int] = field(default_factory=lambda: array("q"))
    neighbors: array[int] = field(default_factory=lambda: array("q"))
    counts: array[int] = field(default_factory=lambda: array("i"))

    def add(self, record: Record) -> None:
        """Add a record's edit."""
        self.case_ids.append(int(record.case_id))
        self.relations.append(intern(record.relation))
        self.subjects.append(record.subject.label)
        self.facts.frombytes(short_digest(_fact(record)))
        implied = _implied(record)
        self.implied.frombytes(short_digest(implied) if implied else bytes(BYTES))
        items = [prompt.entity for prompt in record.neighborhood if prompt.entity]
        self.neighbors.frombytes(short_digests(_key(item, "", record.relation) for item in items))
        self.counts.append(len(items))

    def take_in(self, planned: PlannedEdits) -> None:
        """Add other planned edits."""
        self.case_ids += planned.case_ids
        self.relations += map(intern, planned.relations)
        self.subjects += planned.subjects
        self.facts += planned.facts
        self.implied += planned.implied
        self.neighbors += planned.neighbors
        self.counts += planned.counts

    def rows(self, indices: Sequence[int], seed: int = 0) -> Iterator[Row]:
        """Yield rows of the configuration `multi`: edits in a seeded order, each with the numbers of its batches.

        indices: which of these edits to order. `neighbors_edited` is the number of a record's neighbors whose own fact
        is edited too: they do not test specificity any more.
        """
        numbers = random_keys(f"{seed}:multi:{self.case_ids[index]}" for index in indices)
        order = [indices[rank] for rank in numbers.argsort(kind="stable").tolist()]
        free = _are_free((self.facts[index], self.implied[index]) for index in order)
        ordered = array("q", compress(order, free))
        edited = {self.facts[index] for index in ordered}
        ends = array("q", accumulate(self.counts))
        for place, index in enumerate(ordered):
            neighbors = self.neighbors[ends[index] - self.counts[index] : ends[index]]
            yield {
                "case_id": self.case_ids[index],
                "relation_id": self.relations[index],
                "subject": self.subjects[index],
                "place": place,
                **{f"batch_{size}": place // size for size in SIZES},
                "neighbors_edited": sum(fact in edited for fact in neighbors),
            }
