"""The composition of a set of records: the counts of the paper's Table 2, over all records and by relation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

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
    """Return the counts of what the records hold."""
    everything = _Counter()
    relations: dict[str, _Counter] = {}
    for record in records:
        everything.add(record)
        relations.setdefault(record.relation, _Counter()).add(record)
    ordered = sorted(relations, key=id_number)
    return Composition(everything.counts(), {relation: relations[relation].counts() for relation in ordered})


class _Counter:
    def __init__(self) -> None:
        self.records = 0
        self.sets: tuple[set[object], ...] = tuple(set() for _ in ITEMS[1:])

    def add(self, record: Record) -> None:
        self.records += 1
        for seen, items in zip(self.sets, _items(record), strict=True):
            seen.update(items)

    def counts(self) -> dict[str, int]:
        return dict(zip(ITEMS, (self.records, *map(len, self.sets)), strict=True))


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
