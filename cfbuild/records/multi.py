"""An order for many edits of one model: no two of them about the same subject and relation, in batches of any size."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from sys import intern
from typing import NamedTuple, Protocol, TypeVar

from cfbuild.data import Record, Target
from cfbuild.facts.relations import INVERSE
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


class PlannedEdit(NamedTuple):
    """The identity of a record's edit, and the items of its neighbors: small enough for an order of a million."""

    case_id: int
    relation: str
    subject: Target
    target_new: Target
    neighbors: tuple[str, ...]

    @classmethod
    def of(cls, record: Record) -> PlannedEdit:
        # Items are neighbors of many records.
        neighbors = tuple(intern(prompt.entity) for prompt in record.neighborhood)
        return cls(record.case_id, intern(record.relation), record.subject, record.target_new, neighbors)


def free_of_conflicts(edits: Iterable[AnyEdit]) -> Iterator[AnyEdit]:
    """Yield the edits but those about whose fact an earlier one says something else, also the other way round."""
    said: set[tuple[str, str]] = set()
    implied: set[tuple[str, str]] = set()
    for edit in edits:
        subject, new = (one.id or one.label for one in (edit.subject, edit.target_new))
        fact, back = (subject, edit.relation), (new, INVERSE.get(edit.relation, ""))
        if fact not in said and fact not in implied and back not in said:
            said.add(fact)
            implied.add(back)
            yield edit


def multi_rows(records: Iterable[Record], seed: int = 0) -> Iterator[Row]:
    """Yield the rows of the configuration `multi`: records in a seeded order, each with its batch of each of SIZES.

    A neighbor whose own fact the order edits is no test of specificity any more; each row counts them.
    """
    edits = map(PlannedEdit.of, records)
    drawn = sorted(edits, key=lambda edit: hashlib.sha256(f"{seed}:multi:{edit.case_id}".encode()).digest())
    ordered = list(free_of_conflicts(drawn))
    edited = {(edit.relation, edit.subject.id) for edit in ordered if edit.subject.id}
    for place, edit in enumerate(ordered):
        yield {
            "case_id": edit.case_id,
            "relation_id": edit.relation,
            "subject": edit.subject.label,
            "place": place,
            **{f"batch_{size}": place // size for size in SIZES},
            "neighbors_edited": sum((edit.relation, item) in edited for item in edit.neighbors),
        }
