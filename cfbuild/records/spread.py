"""Count a build's records by number of neighbors, by o*'s rank in its pool, by the class that o* shares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from statistics import median_low
from typing import Any, NamedTuple

from cfbuild.store.jsonl import Row

TENTHS = 10
FIRST = 10
"""The likeliest objects of a pool, among which an unlikely o* is not."""
BELIEFS = ("old", "new", "neither")
"""The answers to what a model believes of a change before it is edited."""


class Noted(NamedTuple):
    """The figures of a record or a reject that are counted: small enough to be sent for each from another process.

    ranks: o*'s rank in its pool and the pool's size, by each model. sharing: whether o* shares a class with the true
    object, with `fallback`, the reason why it is not the nearest class. change: the kind of the real change that the
    record is about, with `believed`, each model and what it believes of it.
    """

    kept: bool
    neighbors: int | None
    ranks: tuple[tuple[int, int], ...] = ()
    sharing: bool | None = None
    fallback: str | None = None
    change: str | None = None
    believed: tuple[tuple[str, str], ...] = ()


def noted(row: Row) -> Noted:
    """Return the figures of a row of a record or a reject."""
    if "rule" in row:
        return Noted(False, row["measured"]["neighbors"] if row["rule"] == "too-few-neighbors" else None)
    neighbors, change = len(row["neighborhood_prompts"]), row["meta"].get("change")
    if change is not None:
        # A filter of somebody's own may not ask.
        asked = ((model, one.get("believes")) for model, one in row["meta"]["scores"].items())
        believed = tuple((model, answer) for model, answer in asked if answer is not None)
        return Noted(True, neighbors, change=change["kind"], believed=believed)
    measured = row["meta"]["scores"].values()
    pairs = ((one.get("target_new_rank"), one.get("pool_size")) for one in measured)
    ranks = tuple((rank, size) for rank, size in pairs if isinstance(rank, int) and isinstance(size, int))
    shared: Mapping[str, Any] | None = row["meta"].get("shared_class")
    about = (None, None) if shared is None else (shared["id"] is not None, shared["fallback"])
    return Noted(True, neighbors, ranks, *about)


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
            self.count(noted(row))
            yield row

    def count(self, figures: Noted) -> None:
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
        for model, answer in figures.believed:
            self._believed.setdefault(model, Counter())[answer] += 1

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
