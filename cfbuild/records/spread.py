"""Counts of a build's records by number of neighbors, by o*'s rank in its pool, and by the class that o* shares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from statistics import median_low
from typing import Any, NamedTuple

from cfbuild.store.jsonl import Row

TENTHS = 10
FIRST = 10
"""The number of a pool's likeliest objects among which no o* should be."""
BELIEFS = ("old", "new", "neither")
"""A model's possible beliefs about a change before it is edited."""


class RowFigures(NamedTuple):
    """The figures of a record or a reject that are counted: few enough to be sent from another process for each row.

    ranks: (rank of o*, size of its pool) by each model.
    sharing: True if o* shares a class with the true object; `fallback`: the reason why it is not the nearest class.
    change: the kind of the real change that the record is about; `believed`: (model, one of BELIEFS).
    """

    kept: bool
    neighbors: int | None
    ranks: tuple[tuple[int, int], ...] = ()
    sharing: bool | None = None
    fallback: str | None = None
    change: str | None = None
    believed: tuple[tuple[str, str], ...] = ()


def row_figures(row: Row) -> RowFigures:
    """Return the figures of a record's or a reject's row."""
    if "rule" in row:
        return RowFigures(False, row["measured"]["neighbors"] if row["rule"] == "too-few-neighbors" else None)
    neighbors, change = len(row["neighborhood_prompts"]), row["meta"].get("change")
    if change is not None:
        # A user's own filter may give no belief.
        beliefs = ((model, scores.get("believes")) for model, scores in row["meta"]["scores"].items())
        believed = tuple((model, belief) for model, belief in beliefs if belief is not None)
        return RowFigures(True, neighbors, change=change["kind"], believed=believed)
    measured = row["meta"]["scores"].values()
    pairs = ((one.get("target_new_rank"), one.get("pool_size")) for one in measured)
    ranks = tuple((rank, size) for rank, size in pairs if isinstance(rank, int) and isinstance(size, int))
    shared: Mapping[str, Any] | None = row["meta"].get("shared_class")
    sharing, fallback = (None, None) if shared is None else (shared["id"] is not None, shared["fallback"])
    return RowFigures(True, neighbors, ranks, sharing, fallback)


class Spread:
    """The counts over rows of records and rejects."""

    def __init__(self) -> None:
        self._kept: Counter[int] = Counter()
        self._dropped: Counter[int] = Counter()
        self._ranks: list[tuple[int, int]] = []
        self._sharing: Counter[bool] = Counter()
        self._fallbacks: Counter[str] = Counter()
        self._changes: Counter[str] = Counter()
        self._believed: dict[str, Counter[str]] = {}

    def counting(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Yield `rows`, records or rejects, and count each."""
        for row in rows:
            self.count(row_figures(row))
            yield row

    def count(self, figures: RowFigures) -> None:
        """Count a record or a reject by its figures."""
        if figures.neighbors is not None:
            (self._kept if figures.kept else self._dropped)[figures.neighbors] += 1
        self._ranks += figures.ranks
        if figures.sharing is not None:
            self._sharing[figures.sharing] += 1
        if figures.fallback is not None:
            self._fallbacks[figures.fallback] += 1
        if figures.change is not None:
            self._changes[figures.change] += 1
        for model, belief in figures.believed:
            self._believed.setdefault(model, Counter())[belief] += 1

    def as_dict(self) -> dict[str, Any]:
        """Return the counts for a manifest.

        neighbors: the number of records, and of facts rejected for too few, by number of neighborhood prompts.
        pools: of the records with a rank: their number, the sizes of pools, the number of records by the tenth of the
        pool in which o* is, likeliest first, and of those with o* among the FIRST; None if no record has a rank.
        shared_class: the number of records with `meta.shared_class`, of those whose o* shares a class with the true
        object, and of those whose class is not the nearest, by reason (`SharedClass`).
        changes, if there are records about real changes: their number, by kind, and for each model by its belief.
        These records count in nothing else but neighbors.
        """
        numbers = sorted({*self._kept, *self._dropped})
        return {
            "neighbors": {
                str(number): {"records": self._kept[number], "dropped": self._dropped[number]} for number in numbers
            },
            "pools": self._pools() if self._ranks else None,
            "shared_class": {
                "records": self._sharing.total(),
                "sharing": self._sharing[True],
                "fallbacks": dict(sorted(self._fallbacks.items())),
            },
            **({"changes": self._counted_changes()} if self._changes else {}),
        }

    def _counted_changes(self) -> dict[str, Any]:
        believed = {model: {name: counts[name] for name in BELIEFS} for model, counts in sorted(self._believed.items())}
        kinds = dict(sorted(self._changes.items()))
        return {"records": self._changes.total(), "kinds": kinds, "believed": believed}

    def _pools(self) -> dict[str, Any]:
        sizes = [size for _, size in self._ranks]
        tenths = Counter((rank - 1) * TENTHS // size for rank, size in self._ranks)
        return {
            "records": len(sizes),
            "least": min(sizes),
            "median": median_low(sizes),
            "greatest": max(sizes),
            "tenths": [tenths[tenth] for tenth in range(TENTHS)],
            "first_ten": sum(rank <= FIRST for rank, _ in self._ranks),
        }
