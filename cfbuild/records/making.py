"""A pass over the facts of a selection: in which chunks they are decided, and when there are enough records."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from cfbuild.data import Decision, Fact, Record, Rejection
from cfbuild.errors import DataError
from cfbuild.records.draft import Draft
from cfbuild.records.turns import Caps, Selection, turns
from cfbuild.work.collector import collector_paused

if TYPE_CHECKING:
    from cfbuild.filter.context import TargetFilter
    from cfbuild.records.maker import RecordMaker

JUDGED_AT_ONCE = 64
"""Candidates in a chunk that a model judges: an interruption loses this many at most."""
BUILT_AT_ONCE = 1024
"""Facts in a chunk without a model: a second of a core."""
FEWEST_AT_ONCE = 8
"""The fewest candidates in a chunk, however few records are missing: most candidates are rejected."""

Drafted = tuple[int, Fact, Draft | Decision]
"""A fact with its case id, and its draft or the decision of the rule that rejects it."""


class FactChunk(NamedTuple):
    """Facts that are decided together, by case id or drafted already.

    place: the number of turns up to the chunk's last fact.
    relation: that of all its facts if facts come relation by relation, or None.
    """

    place: int
    facts: Sequence[int] | Sequence[Drafted]
    relation: str | None = None


def case_ids_of(chunk: FactChunk) -> list[int]:
    """Return the case ids of a chunk's facts that are not drafted yet."""
    return [one for one in chunk.facts if isinstance(one, int)]


class Finished(Protocol):
    """A fact that an interrupted pass finished; `kept` is True if it became a record."""

    @property
    def case_id(self) -> int: ...

    @property
    def relation(self) -> str: ...

    @property
    def kept(self) -> bool: ...


class Making:
    """A pass over the facts of a selection: iterating yields the records and rejections of one chunk after the other.

    turns: the case ids of the selected facts in their order. place: how many of them were put into chunks.
    relations: those selected. To continue an interrupted pass, make a new one and call `resume` with the finished
    facts; the records do not depend on the chunks.
    """

    def __init__(self, maker: RecordMaker, selection: Selection, model: TargetFilter | None) -> None:
        self.relations = selection.chosen(maker.graph.relations)
        changed = maker.changed
        self.turns = turns(maker.graph, selection, maker.build.seed, changed)
        self.place = 0
        self._maker = maker
        self._model = model
        self._caps = Caps(selection)
        self._by_relation = selection.limit is None
        self._case_ids = {relation: maker.graph.case_ids(relation) for relation in self.relations}
        self._begins = sorted((case_ids.start, relation) for relation, case_ids in self._case_ids.items())
        self._of_changes = {case_id: fact.relation for case_id, fact in changed}

    def resume(self, finished: Iterable[Finished]) -> None:
        """Continue after the last of the `finished` facts, which must be in the order of their turns.

        Raises DataError for a fact that is not in this selection.
        """
        for fact in finished:
            try:
                self.place = self.turns.index(fact.case_id, self.place) + 1
            except ValueError:
                raise DataError(f"case {fact.case_id} is not among the selected facts") from None
            self._caps.count(fact.relation, fact.kept)

    def __iter__(self) -> Iterator[list[Record | Rejection]]:
        for chunk in self.chunks():
            with collector_paused(self._model is None):
                decided = self._maker.decided(chunk, self._model)
                # A chunk may hold a few facts whose turn does not come, because a cap is reached within it.
                admitted = [decision for decision in decided if self._count(decision)]
            if admitted:
                yield admitted

    def chunks(self) -> Iterator[FactChunk]:
        """Yield the facts that still have a turn, in chunks.

        Any process may decide a chunk (`RecordMaker.decided`), but `count` must be called for each decided fact in the
        order of turns. Chunks may be made ahead of that.
        """
        while self.place < len(self.turns) and self._caps.missing != 0:
            if self._model is None:
                yield self._next_turns()
            else:
                yield FactChunk(self.place, self._next_drafts())

    def all_facts(self) -> Iterator[FactChunk]:
        """Yield all facts of the selected relations in chunks, whether they get a turn or not."""
        for relation, case_ids in self._case_ids.items():
            for place in range(0, len(case_ids), BUILT_AT_ONCE):
                yield FactChunk(place, case_ids[place : place + BUILT_AT_ONCE], relation)

    def count(self, relation: str, kept: bool) -> bool:
        """Return True and count a decided fact; return False if a cap is reached, so that its turn does not come.

        kept: True if the fact became a record.
        """
        return self._caps.count(relation, kept)

    def _count(self, decision: Record | Rejection) -> bool:
        if isinstance(decision, Record):
            return self.count(decision.relation, True)
        return self.count(decision.fact.relation, False)

    def _size(self, most: int, missing: int | None) -> int:
        """Return the number of facts or candidates of a chunk; `missing` is None or 0 where no record is waited for."""
        return min(most, max(FEWEST_AT_ONCE, missing)) if missing else most

    def _next_turns(self) -> FactChunk:
        """Return the chunk of the next facts; all of one relation if facts come relation by relation."""
        relation = self._relation_of(self.turns[self.place]) if self._by_relation else None
        missing = self._caps.missing if relation is None else self._caps.missing_of(relation)
        stop = min(len(self.turns), self.place + self._size(BUILT_AT_ONCE, missing))
        if relation is not None:
            while self._relation_of(self.turns[stop - 1]) != relation:
                stop -= 1
        facts = self.turns[self.place : stop]
        self.place = stop
        return FactChunk(stop, [one for one in facts if self._caps.admits(self._relation_of(one))], relation)

    def _relation_of(self, case_id: int) -> str:
        found = self._of_changes.get(case_id)
        return found or self._begins[bisect_right(self._begins, (case_id, "~")) - 1][1]

    def _next_drafts(self) -> list[Drafted]:
        """Return the next facts, drafted, until there are enough drafts among them for a chunk."""
        size = self._size(JUDGED_AT_ONCE, self._caps.missing)
        drafted: list[Drafted] = []
        drafts = 0
        with collector_paused():
            while self.place < len(self.turns) and drafts < size:
                case_id = self.turns[self.place]
                self.place += 1
                if self._caps.admits(self._relation_of(case_id)):
                    (turn,) = self._maker.cases([case_id])
                    drafted.append(self._maker.draft(turn, ranked=True))
                    drafts += isinstance(drafted[-1][2], Draft)
        return drafted
