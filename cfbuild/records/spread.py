"""Count a build's records by number of neighbors, by o*'s rank in its pool, by the class that o* shares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from statistics import median_low
from typing import Any

from cfbuild.store.jsonl import Row

TENTHS = 10
FIRST = 10
"""The likeliest objects of a pool, among which an unlikely o* is not."""
BELIEFS = ("old", "new", "neither")
"""The answers to what a model believes of a change before it is edited."""


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
            self.count(row)
            yield row

    def count(self, row: Row) -> None:
        """Count a row of a record or a reject."""
        if "rule" not in row:
            self._count_record(row)
        elif row["rule"] == "too-few-neighbors":
            self._dropped[row["measured"]["neighbors"]] += 1

    def as_dict(self) -> dict[str, Any]:
        """Return the counts for a manifest.

        `neighbors`: the number of records, and of facts dropped for it, by number of neighborhood prompts.
        `pools`: of records with a rank: their number, the least, median and greatest size of a pool, the number of
        records by the tenth of the pool in which o* is, likeliest first, and of those with o* among the first ten;
        None where no record has a rank.
        `shared_class`: of records that say so: their number, those whose o* shares a class with the true object, and
        those by reason whose class is not the nearest (`SharedClass`).
        `changes`, where there are records about real changes: their number, those by kind, and for each model those of
        which it believes what held (`old`), what holds (`new`), or `neither`. They count in nothing else but neighbors.
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

    def _count_record(self, row: Row) -> None:
        self._kept[len(row["neighborhood_prompts"])] += 1
        change = row["meta"].get("change")
        if change is not None:
            self._changes[change["kind"]] += 1
            for model, measured in row["meta"]["scores"].items():
                # A filter of somebody's own may not ask.
                if "believes" in measured:
                    self._believed.setdefault(model, Counter())[measured["believes"]] += 1
            return
        for measured in row["meta"]["scores"].values():
            rank, size = measured.get("target_new_rank"), measured.get("pool_size")
            if isinstance(rank, int) and isinstance(size, int):
                self._ranks.append((rank, size))
        shared: Mapping[str, Any] | None = row["meta"].get("shared_class")
        if shared is not None:
            self._sharing[shared["id"] is not None] += 1
            if shared["fallback"] is not None:
                self._fallbacks[shared["fallback"]] += 1

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
