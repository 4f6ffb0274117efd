"""The order in which facts get their turn, and the caps that end it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from random import Random

from cfbuild.data import Fact
from cfbuild.errors import ConfigError, check_least
from cfbuild.facts.graph import FactGraph
from cfbuild.option import COMMA_SEPARATED, option
from cfbuild.records.builder import cases

Turn = tuple[int, Fact]
"""A fact with its case id."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The facts that get their turn, and how many records are enough. Raises ConfigError for a number below 1.

    relations: the relations to take facts of; all if empty.
    limit: the most records in all, taken from the relations in turn; None for any number.
    per_relation: the most records of a relation; None for any number.
    only_updates: take only the changes that the facts come with, where they come with some.
    Facts whose turn does not come are neither kept nor rejected.
    """

    relations: tuple[str, ...] = option((), "Comma-separated property ids. [default: all]", form=COMMA_SEPARATED)
    limit: int | None = option(None, "Stop after N records, taken from the relations in turn.")
    per_relation: int | None = option(None, "At most N records a relation.")
    only_updates: bool = option(False, "With --updates: make no records of other facts than the changed ones.")

    def __post_init__(self) -> None:
        check_least(self, limit=1, per_relation=1)

    def chosen(self, relations: Sequence[str]) -> tuple[str, ...]:
        """Return the selected relations among `relations`, which are all that have facts.

        Raises ConfigError for a selected relation without facts.
        """
        unknown = sorted(set(self.relations) - set(relations))
        if unknown:
            raise ConfigError(
                f"there are no facts of {', '.join(unknown)}; there are some of {', '.join(relations) or 'no relation'}"
            )
        return tuple(relation for relation in relations if not self.relations or relation in self.relations)


def turns(graph: FactGraph, selection: Selection, seed: int, changed: Sequence[Turn] = ()) -> list[Turn]:
    """Return the selected facts in the order of their turn.

    The order is the graph's. Under a limit or a cap a relation's facts are shuffled by the seed; under a limit the
    relations alternate, a fact each. What `changed` comes first in its relation, and what else is known of the same
    subject under it has no turn: two edits of the same would contradict each other.
    """
    chosen = selection.chosen(graph.relations)
    first = {(fact.subject, fact.relation) for _, fact in changed}
    others = () if selection.only_updates else cases(graph)
    capped = selection.limit is not None or selection.per_relation is not None
    by_relation: dict[str, list[Turn]] = {relation: [] for relation in chosen}
    for key, facts in (
        ("changes", changed),
        ("turns", [turn for turn in others if (turn[1].subject, turn[1].relation) not in first]),
    ):
        sorted_out: dict[str, list[Turn]] = {relation: [] for relation in chosen}
        for turn in facts:
            if turn[1].relation in sorted_out:
                sorted_out[turn[1].relation].append(turn)
        for relation, own in sorted_out.items():
            if capped:
                Random(f"{seed}:{relation}:{key}").shuffle(own)
            by_relation[relation] += own
    if selection.limit is None:
        return [turn for facts in by_relation.values() for turn in facts]
    return [turn for facts in zip_longest(*by_relation.values()) for turn in facts if turn is not None]


class Caps:
    """The number of records that are still wanted, in all and of each relation."""

    def __init__(self, selection: Selection) -> None:
        self._limit = selection.limit
        self._per_relation = selection.per_relation
        self._kept: Counter[str] = Counter()

    @property
    def wanted(self) -> int | None:
        """The number of records still wanted in all; None for any number."""
        return None if self._limit is None else self._limit - self._kept.total()

    def admits(self, relation: str) -> bool:
        """Return True if the next fact of `relation` gets its turn."""
        return self.wanted != 0 and (self._per_relation is None or self._kept[relation] < self._per_relation)

    def count(self, relation: str, kept: bool) -> bool:
        """Return True and count a fact that was kept or rejected; return False, counting nothing, if it has no turn."""
        admitted = self.admits(relation)
        self._kept[relation] += admitted and kept
        return admitted
