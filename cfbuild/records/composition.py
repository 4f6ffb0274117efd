"""The composition of a set of records: the counts of the paper's Table 2, over all records and by relation."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cfbuild.data import Record, id_number

ITEMS = (
    "records",
    "subjects",
    "objects",
    "counterfactual statements",
    "paraphrase prompts",
    "neighborhood prompts",
    "attribute prompts",
    "generation prompts",
)
"""Rows of Table 2, and the attribute prompts that the paper leaves out. All but records count distinct items."""


@dataclass(frozen=True, slots=True)
class Composition:
    """Counts by item of ITEMS: `total` over all records, `by_relation` for each relation, ordered by its number."""

    total: Mapping[str, int]
    by_relation: Mapping[str, Mapping[str, int]]

    @property
    def per_relation(self) -> Mapping[str, float]:
        """The mean of the relations' counts, by item."""
        count = max(1, len(self.by_relation))
        return {item: sum(counts[item] for counts in self.by_relation.values()) / count for item in ITEMS}

    @property
    def per_record(self) -> Mapping[str, float]:
        """The totals divided by the number of records, by item."""
        return {item: value / max(1, self.total["records"]) for item, value in self.total.items()}


def composition(records: Iterable[Record]) -> Composition:
    """Return the counts of what the records hold. Eight bytes are kept of each prompt, so records may be a stream."""
    relations: dict[str, _Counter] = {}
    for record in records:
        if record.relation not in relations:
            relations[record.relation] = _Counter()
        relations[record.relation].add(record)
    ordered = {relation: relations[relation].distinct() for relation in sorted(relations, key=id_number)}
    total = [_distinct(*(found[place] for found in ordered.values())) for place in range(len(ITEMS) - 1)]
    count = sum(counter.records for counter in relations.values())
    return Composition(
        _counts(count, total),
        {relation: _counts(relations[relation].records, found) for relation, found in ordered.items()},
    )


class _Counter:
    """The things in a relation's records: hashes, since which things they are does not matter, only how many."""

    def __init__(self) -> None:
        self.records = 0
        self._seen = tuple(array("q") for _ in ITEMS[1:])

    def add(self, record: Record) -> None:
        self.records += 1
        for seen, items in zip(self._seen, _items(record), strict=True):
            seen.extend(map(hash, items))

    def distinct(self) -> list[Hashes]:
        return [_distinct(seen) for seen in self._seen]


Hashes = Any
"""An array of distinct hashes."""


def _distinct(*hashes: Any) -> Hashes:
    import numpy

    arrays = [numpy.asarray(one, numpy.int64) for one in hashes]
    return numpy.unique(numpy.concatenate(arrays)) if arrays else numpy.zeros(0, numpy.int64)


def _counts(records: int, distinct: Sequence[Hashes]) -> dict[str, int]:
    return dict(zip(ITEMS, (records, *map(len, distinct)), strict=True))


def _items(record: Record) -> Sequence[Iterable[object]]:
    """Return what a record adds to each item but the first; rows without `meta` lack subject ids, so labels count."""
    return (
        (record.subject.id or record.subject.label,),
        (record.target_true.id, record.target_new.id),
        ((record.rewrite, record.target_new.label),),
        (one.text for one in record.paraphrases),
        (one.text for one in record.neighborhood),
        (one.text for one in record.attribute),
        record.generation,
    )
