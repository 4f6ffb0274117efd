"""The composition of a set of records: the counts of the paper's Table 2, over all records and by relation."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cfbuild.data import Record, id_number
from cfbuild.store.digests import short_digests

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
    """Return the counts of what the records hold, which may be a stream."""
    tally = Tally()
    for record in records:
        tally.add(record)
    return tally.composition()


class Tally:
    """The records counted so far, eight bytes being kept of each distinct prompt; several can be put together."""

    def __init__(self) -> None:
        self._relations: dict[str, _Counter] = {}

    def add(self, record: Record) -> None:
        """Count a record."""
        if record.relation not in self._relations:
            self._relations[record.relation] = _Counter()
        self._relations[record.relation].add(record)

    def take_in(self, tally: Tally) -> None:
        """Add the counts of further records."""
        for relation, counter in tally._relations.items():
            self._relations.setdefault(relation, _Counter()).take_in(counter)

    def composition(self) -> Composition:
        """Return the counts."""
        ordered = {relation: self._relations[relation] for relation in sorted(self._relations, key=id_number)}
        found = {relation: counter.distinct() for relation, counter in ordered.items()}
        total = [len(_distinct(*(each[place] for each in found.values()))) for place in range(len(ITEMS) - 1)]
        count = sum(counter.records for counter in ordered.values())
        return Composition(
            _counts(count, total),
            {relation: _counts(ordered[relation].records, map(len, each)) for relation, each in found.items()},
        )


MANY = 10_000
"""Digests that are held before repeated ones are looked for: 80 kB."""


class _Seen:
    """Digests of things, of which repeated ones are dropped whenever they may be half of all."""

    def __init__(self) -> None:
        self.held = array("q")
        self._distinct = 0

    def add(self, digests: bytes) -> None:
        self.held.frombytes(digests)
        if len(self.held) > max(MANY, 2 * self._distinct):
            self.held = array("q", _distinct(self.held).tobytes())
            self._distinct = len(self.held)


class _Counter:
    """The things in a relation's records: digests, since which things they are does not matter, only how many."""

    def __init__(self) -> None:
        self.records = 0
        self._seen = tuple(_Seen() for _ in ITEMS[1:])

    def add(self, record: Record) -> None:
        self.records += 1
        for seen, items in zip(self._seen, _items(record), strict=True):
            seen.add(short_digests(items))

    def take_in(self, counter: _Counter) -> None:
        self.records += counter.records
        for seen, more in zip(self._seen, counter._seen, strict=True):
            seen.add(more.held.tobytes())

    def distinct(self) -> list[Digests]:
        return [_distinct(seen.held) for seen in self._seen]


Digests = Any
"""An array of distinct digests."""


def _distinct(*digests: Any) -> Digests:
    import numpy

    arrays = [numpy.asarray(one, numpy.int64) for one in digests]
    return numpy.unique(numpy.concatenate(arrays)) if arrays else numpy.zeros(0, numpy.int64)


def _counts(records: int, distinct: Iterable[int]) -> dict[str, int]:
    return dict(zip(ITEMS, (records, *distinct), strict=True))


def _items(record: Record) -> Sequence[Iterable[str]]:
    """Return what a record adds to each item but the first; rows without `meta` lack subject ids, so labels count."""
    return (
        (record.subject.id or record.subject.label,),
        (record.target_true.id, record.target_new.id),
        (f"{record.rewrite}\0{record.target_new.label}",),
        (one.text for one in record.paraphrases),
        (one.text for one in record.neighborhood),
        (one.text for one in record.attribute),
        record.generation,
    )
