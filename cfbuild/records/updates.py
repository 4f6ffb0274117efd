"""The real changes of which records are made, with their case ids, and the facts that did not change."""

from __future__ import annotations

from collections.abc import Iterable

from cfbuild.data import UNKNOWN, FactChange, RealChange, id_number
from cfbuild.facts.changes import SAME, TOOK_PLACE
from cfbuild.facts.graph import FactGraph
from cfbuild.filter.changed import ChangePair


class Updates:
    """The changes between an older fetch and the facts of `graph`.

    by_case: by case id, the changes in which a known object took another's place. Their ids follow those of the facts.
    pairs: the (subject, relation) pairs of which anything changed.
    """

    def __init__(self, changes: Iterable[FactChange], graph: FactGraph) -> None:
        changes = list(changes)
        self._graph = graph
        self.pairs = frozenset((one.fact.subject, one.fact.relation) for one in changes if one.kind not in SAME)
        first = sum(len(graph.case_ids(relation)) for relation in graph.relations)
        self.by_case = dict(enumerate(sorted(filter(_is_recorded, changes), key=_order), first))

    def facts(self, case_id: int) -> ChangePair:
        """Return the two facts of a change."""
        change = self.by_case[case_id]
        assert change.old is not None and change.new is not None
        return ChangePair(change.old, change.new)

    def real_change(self, case_id: int) -> RealChange:
        """Return the kind and dates of a change. The old fact's end is the newer fetch's, or else the older one's."""
        kind, change = self.by_case[case_id].kind, self.facts(case_id)
        ended = (one for one in self._graph.statements(change.old.subject, change.old.relation) if one.end)
        ends = [one.end for one in ended if one.object == change.old.object]
        return RealChange(kind, change.new.start, ends[0] if len(set(ends)) == 1 else change.old.end)

    def lasts(self, item: str, relation: str, value: str) -> bool:
        """Return True if `value` is an item's only current object under a relation, and nothing of it changed."""
        return (item, relation) not in self.pairs and self._graph.current_values(item, relation) == (value,)


def _is_recorded(change: FactChange) -> bool:
    """Return True if a record can be made of a change: one known object took the place of another."""
    return (
        change.kind in TOOK_PLACE
        and change.old is not None
        and change.new is not None
        and UNKNOWN not in (change.old.object, change.new.object)
    )


def _order(change: FactChange) -> tuple[int, ...]:
    objects = (one.object for one in (change.old, change.new) if one is not None)
    return id_number(change.fact.relation), id_number(change.fact.subject), *map(id_number, objects)
