"""The order in which facts get their turn, and the caps that end it."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from random import Random

from cfbuild.errors import ConfigError, check_least
from cfbuild.facts.graph import FactGraph
from cfbuild.option import COMMA_SEPARATED, option


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The facts that get their turn, and how many records are enough. Raises ConfigError for a number below 1.

    relations: the relations to take facts of; all if empty.
    limit: the most records in all, taken from the relations in turn; None for any number.
    per_relation: the most records of a relation; None for any number.
    Facts whose turn does not come are neither kept nor rejected.
    """

    relations: tuple[str, ...] = option((), "Comma-separated property ids. [default: all]", form=COMMA_SEPARATED)
    limit: int | None = option(None, "Stop after N records, taken from the relations in turn.")
    per_relation: int | None = option(None, "At most N records a relation.")

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


def turns(graph: FactGraph, selection: Selection, seed: int) -> array[int]:
    """Return the case ids of the selected facts in the order of their turn: eight bytes a fact.

    The order is the graph's. Under a limit or a cap a relation's facts are shuffled by the seed; under a limit the
    relations alternate, a fact each.
    """
    by_relation = {one: array("q", graph.case_ids(one)) for one in selection.chosen(graph.relations)}
    if selection.limit is not None or selection.per_relation is not None:
        for relation, case_ids in by_relation.items():
            Random(f"{seed}:{relation}:turns").shuffle(case_ids)
    found = array("q")
    if selection.limit is None:
        for case_ids in by_relation.values():
            found.extend(case_ids)
    else:
        found.extend(one for some in zip_longest(*by_relation.values()) for one in some if one is not None)
    return found


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
