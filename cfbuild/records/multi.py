"""An order for many edits of one model: no two of them about the same subject and relation, in batches of any size."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from cfbuild.data import Record
from cfbuild.facts.relations import INVERSE
from cfbuild.store.jsonl import Row

SIZES = (1, 10, 100, 1_000)
"""The batches that MEMIT's figure 4 and this project's issue 21 ask for."""


def free_of_conflicts(records: Iterable[Record]) -> Iterator[Record]:
    """Yield the records but those about whose fact an earlier one says something else, also the other way round."""
    said: set[tuple[str, str]] = set()
    implied: set[tuple[str, str]] = set()
    for record in records:
        subject, new = (one.id or one.label for one in (record.subject, record.target_new))
        fact, back = (subject, record.relation), (new, INVERSE.get(record.relation, ""))
        if fact not in said and fact not in implied and back not in said:
            said.add(fact)
            implied.add(back)
            yield record


def multi_rows(records: Iterable[Record], seed: int = 0) -> Iterator[Row]:
    """Yield the rows of the configuration `multi`: records in a seeded order, each with its batch of each of SIZES.

    A neighbor whose own fact the order edits is no test of specificity any more; each row counts them.
    """
    drawn = sorted(records, key=lambda one: hashlib.sha256(f"{seed}:multi:{one.case_id}".encode()).digest())
    ordered = list(free_of_conflicts(drawn))
    edited = {(one.relation, one.subject.id) for one in ordered if one.subject.id}
    for place, record in enumerate(ordered):
        neighbors = sum((record.relation, prompt.entity) in edited for prompt in record.neighborhood)
        yield {
            "case_id": record.case_id,
            "relation_id": record.relation,
            "subject": record.subject.label,
            "place": place,
            **{f"batch_{size}": place // size for size in SIZES},
            "neighbors_edited": neighbors,
        }
