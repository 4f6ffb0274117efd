"""The selection of facts, the order in which they get their turn to become records, and the caps that end a pass."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from random import Random

from cfbuild.errors import ConfigError, check_least
from cfbuild.facts.graph import FactGraph, NumberedFact
from cfbuild.option import COMMA_SEPARATED, option
from cfbuild.templates.builtin import relations


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The facts that get their turn, and the number of records that is enough. Raises ConfigError for one below 1.

    relations: the relations to take facts of; all if empty.
    limit: the most records in all, taken from the relations in turn; None for any number.
    per_relation: the most records of a relation; None for any number.
    only_updates: make records of changes alone, not of other facts.
    Facts whose turn does not come are neither kept nor rejected.
    """

    relations: tuple[str, ...] = option(
        (),
        "Comma-separated relations, as property ids such as P36. [default: all]",
        form=COMMA_SEPARATED.naming_all(relations),
    )
    limit: int | None = option(None, "Stop after N records, taken from the relations in turn. [default: all]")
    per_relation: int | None = option(None, "Make N records of a relation at most. [default: all]")
    only_updates: bool = option(False, "With --updates: make records of the changed facts only.")

    def __post_init__(self) -> None:
        check_least(self, limit=1, per_relation=1)

    def chosen(self, relations: Sequence[str]) -> tuple[str, ...]:
        """Return the selected relations; `relations` are all that have facts.

        Raises ConfigError for a selected relation without facts.
        """
        unknown = sorted(set(self.relations) - set(relations))
        if unknown:
            raise ConfigError(
                f"there are no facts of {', '.join(unknown)}; expected some of {', '.join(relations) or 'no relation'}"
            )
        return tuple(relation for relation in relations if not self.relations or relation in self.relations)


def turns(graph: FactGraph, selection: Selection, seed: int, changed: Sequence[NumberedFact] = ()) -> array[int]:
    """Return the case ids of the selected facts in the order of their turns: eight bytes a fact.

    The order is the graph's. Under a limit or a cap a relation's facts are shuffled by the seed; under a limit the
    relations alternate, a fact each.
    changed: the case id and old fact of each change. They come first in their relation; other facts of the same
    subject and relation get no turn, since two edits of the same would contradict each other.
    """
    by_relation = {
        relation: _of_relation(graph, relation, selection, seed, changed)
        for relation in selection.chosen(graph.relations)
    }
    found = array("q")
    if selection.limit is None:
        for case_ids in by_relation.values():
            found.extend(case_ids)
    else:
        found.extend(one for round_ in zip_longest(*by_relation.values()) for one in round_ if one is not None)
    return found


def _of_relation(
    graph: FactGraph, relation: str, selection: Selection, seed: int, changed: Sequence[NumberedFact]
) -> array[int]:
    """Return the case ids of a relation's changes, then those of its facts, shuffled under a limit or a cap."""
    own = [turn for turn in changed if turn[1].relation == relation]
    first, others = array("q", (case_id for case_id, _ in own)), array("q")
    if not selection.only_updates:
        subjects = {fact.subject for _, fact in own}
        case_ids = graph.case_ids(relation)
        free = (one for one, fact in graph.cases(case_ids) if fact.subject not in subjects) if subjects else case_ids
        others.extend(free)
    if selection.limit is not None or selection.per_relation is not None:
        for key, shuffled in (("changes", first), ("turns", others)):
            Random(f"{seed}:{relation}:{key}").shuffle(shuffled)
    return first + others


class Caps:
    """The numbers of records that are still missing, in all and of each relation."""

    def __init__(self, selection: Selection) -> None:
        self._limit = selection.limit
        self._per_relation = selection.per_relation
        self._kept: Counter[str] = Counter()

    @property
    def missing(self) -> int | None:
        """Return the number of records missing in all; None for any number."""
        return None if self._limit is None else self._limit - self._kept.total()

    def missing_of(self, relation: str) -> int | None:
        """Return the number of records of `relation` missing under its cap; None for any number."""
        return None if self._per_relation is None else self._per_relation - self._kept[relation]

    def admits(self, relation: str) -> bool:
        """Return True if the next fact of `relation` gets its turn."""
        return self.missing != 0 and (self._per_relation is None or self._kept[relation] < self._per_relation)

    def count(self, relation: str, kept: bool) -> bool:
        """Return True and count a kept or rejected fact; return False, counting nothing, if it has no turn."""
        admitted = self.admits(relation)
        self._kept[relation] += admitted and kept
        return admitted
