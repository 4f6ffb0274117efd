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
        """Return the mean of the relations' counts, by item."""
        count = max(1, len(self.by_relation))
        return {item: sum(counts[item] for counts in self.by_relation.values()) / count for item in ITEMS}

    @property
    def per_record(self) -> Mapping[str, float]:
        """Return the totals divided by the number of records, by item."""
        return {item: value / max(1, self.total["records"]) for item, value in self.total.items()}


class Tally:
    """The counts of records so far, in eight bytes for each distinct prompt; tallies can be added to each other."""

    def __init__(self) -> None:
        self._relations: dict[str, _Counter] = {}

    def add(self, record: Record) -> None:
        """Count a record."""
        if record.relation not in self._relations:
            self._relations[record.relation] = _Counter()
        self._relations[record.relation].add(record)

    def take_in(self, tally: Tally) -> None:
        """Add the counts of another tally."""
        for relation, counter in tally._relations.items():
            self._relations.setdefault(relation, _Counter()).take_in(counter)

    def composition(self) -> Composition:
        """Return the counts."""
        ordered = {relation: self._relations[relation] for relation in sorted(self._relations, key=id_number)}
        distinct = {relation: counter.distinct() for relation, counter in ordered.items()}
        total = [len(_distinct(*(each[place] for each in distinct.values()))) for place in range(len(ITEMS) - 1)]
        count = sum(counter.records for counter in ordered.values())
        return Composition(
            _counts(count, total),
            {relation: _counts(ordered[relation].records, map(len, each)) for relation, each in distinct.items()},
        )


MANY = 10_000
"""The number of digests from which repeated ones are dropped: 80 kB."""


class _Digests:
    """An array of digests, from which repeated ones are dropped whenever they may be half of all."""

    def __init__(self) -> None:
        self.values = array("q")
        self._distinct = 0

    def add(self, digests: bytes) -> None:
        self.values.frombytes(digests)
        if len(self.values) > max(MANY, 2 * self._distinct):
            self.values = array("q", _distinct(self.values).tobytes())
            self._distinct = len(self.values)


class _Counter:
    """The number of a relation's records, and digests of their texts and ids for each other item."""

    def __init__(self) -> None:
        self.records = 0
        self._digests = tuple(_Digests() for _ in ITEMS[1:])

    def add(self, record: Record) -> None:
        self.records += 1
        for digests, texts in zip(self._digests, _texts(record), strict=True):
            digests.add(short_digests(texts))

    def take_in(self, counter: _Counter) -> None:
        self.records += counter.records
        for digests, more in zip(self._digests, counter._digests, strict=True):
            digests.add(more.values.tobytes())

    def distinct(self) -> list[Any]:
        return [_distinct(digests.values) for digests in self._digests]


def _distinct(*digests: Any) -> Any:
    """Return the distinct ones of all digests, as an array."""
    import numpy

    arrays = [numpy.asarray(one, numpy.int64) for one in digests]
    return numpy.unique(numpy.concatenate(arrays)) if arrays else numpy.zeros(0, numpy.int64)


def _counts(records: int, distinct: Iterable[int]) -> dict[str, int]:
    return dict(zip(ITEMS, (records, *distinct), strict=True))


def _texts(record: Record) -> Sequence[Iterable[str]]:
    """Return the texts and ids of a record for each item but the first; without a subject's id its label counts."""
    return (
        (record.subject.id or record.subject.label,),
        (record.target_true.id, record.target_new.id),
        (f"{record.rewrite}\0{record.target_new.label}",),
        (one.text for one in record.paraphrases),
        (one.text for one in record.neighborhood),
        (one.text for one in record.attribute),
        record.generation,
    )
