"""An order for many edits of one model: no two of them about the same subject and relation, in batches of any size."""

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
"""The batches that MEMIT's figure 4 and people's readers ask for."""


class AboutFact(Protocol):
    """A record, or what is kept of one."""

    @property
    def relation(self) -> str: ...

    @property
    def subject(self) -> Target: ...

    @property
    def target_new(self) -> Target: ...


AnyEdit = TypeVar("AnyEdit", bound=AboutFact)


def free_of_conflicts(edits: Iterable[AnyEdit]) -> Iterator[AnyEdit]:
    """Yield the edits but those about whose fact an earlier one says something else, also the other way round."""
    edits = list(edits)
    return compress(edits, _free((_fact(edit), _implied(edit)) for edit in edits))


def _free(facts: Iterable[tuple[Hashable, Hashable]]) -> Iterator[bool]:
    """Yield for each edit's fact, and that which it implies if it does, whether no earlier one conflicts with it."""
    said: set[Hashable] = set()
    implied: set[Hashable] = set()
    for fact, back in facts:
        free = fact not in said and fact not in implied and (not back or back not in said)
        if free:
            said.add(fact)
            if back:
                implied.add(back)
        yield free


def _fact(edit: AboutFact) -> str:
    """Return the fact that an edit is about, as a text."""
    return _about(edit.subject.id, edit.subject.label, edit.relation)


def _implied(edit: AboutFact) -> str:
    """Return the fact about o* that follows from an edit, as a text; an empty one where nothing does."""
    inverse = INVERSE.get(edit.relation)
    return _about(edit.target_new.id, edit.target_new.label, inverse) if inverse else ""


def _about(item: str, label: str, relation: str) -> str:
    return f"{relation}\0{item}\0{'' if item else label}"


@dataclass
class PlannedEdits:
    """The edits of records, in some 200 bytes each: enough for an order of a million; several can be put together.

    `facts` and `implied` are digests of them (0: nothing is implied), `neighbors` those of all records' neighbors' own
    facts, of which each record has as many as `counts` says.
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
        back = _implied(record)
        self.implied.frombytes(short_digest(back) if back else bytes(BYTES))
        items = [prompt.entity for prompt in record.neighborhood if prompt.entity]
        self.neighbors.frombytes(short_digests(_about(item, "", record.relation) for item in items))
        self.counts.append(len(items))

    def take_in(self, planned: PlannedEdits) -> None:
        """Add the edits of further records."""
        self.case_ids += planned.case_ids
        self.relations += map(intern, planned.relations)
        self.subjects += planned.subjects
        self.facts += planned.facts
        self.implied += planned.implied
        self.neighbors += planned.neighbors
        self.counts += planned.counts

    def rows(self, places: Sequence[int], seed: int = 0) -> Iterator[Row]:
        """Yield rows of the configuration `multi`: the edits at `places` in a seeded order, each with its batches.

        A neighbor whose own fact the order edits is no test of specificity any more; each row counts them.
        """
        numbers = random_keys(f"{seed}:multi:{self.case_ids[place]}" for place in places)
        order = [places[at] for at in numbers.argsort(kind="stable").tolist()]
        ordered = array("q", compress(order, _free((self.facts[at], self.implied[at]) for at in order)))
        edited = {self.facts[at] for at in ordered}
        ends = array("q", accumulate(self.counts))
        for place, at in enumerate(ordered):
            beside = self.neighbors[ends[at] - self.counts[at] : ends[at]]
            yield {
                "case_id": self.case_ids[at],
                "relation_id": self.relations[at],
                "subject": self.subjects[at],
                "place": place,
                **{f"batch_{size}": place // size for size in SIZES},
                "neighbors_edited": sum(item in edited for item in beside),
            }
