"""A pass over the facts of a selection: whose turn it is, in which portions, and where it ends."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from cfbuild.data import Decision, Fact, Record, Rejection
from cfbuild.errors import DataError
from cfbuild.records.draft import Draft
from cfbuild.records.turns import Caps, Selection, turns

if TYPE_CHECKING:
    from cfbuild.filter.context import TargetFilter
    from cfbuild.records.maker import RecordMaker

JUDGED_AT_ONCE = 64
"""Candidates in a portion that a model judges: an interruption loses this many at most."""
BUILT_AT_ONCE = 1024
"""Facts in a portion without a model: a second of a core."""
FEWEST_AT_ONCE = 8
"""The fewest candidates in a portion, however few records are still wanted."""

Drafted = tuple[int, Fact, Draft | Decision]
"""A fact with its case id, and its draft or the decision of the rule that rejects it."""


class Portion(NamedTuple):
    """Facts that are decided together, by case id or drafted already; `place` counts the turns up to the last of them.

    relation: that of all of them, where facts come relation by relation; else None.
    """

    place: int
    facts: Sequence[int] | Sequence[Drafted]
    relation: str | None = None


def case_ids_of(portion: Portion) -> list[int]:
    """Return the case ids of a portion's facts that are not drafted yet."""
    return [one for one in portion.facts if isinstance(one, int)]


class Finished(Protocol):
    """A fact that an earlier pass has finished; `kept` is True if it became a record."""

    @property
    def case_id(self) -> int: ...

    @property
    def relation(self) -> str: ...

    @property
    def kept(self) -> bool: ...


class Making:
    """A pass over the facts of a selection: iterating yields the records and rejections of portion after portion.

    turns: the case ids of the selected facts in their order. place: how many of them were put into portions.
    relations: those selected. To continue an interrupted pass, make a new one and call `resume` with the finished
    facts; the records do not depend on the portions.
    """

    def __init__(self, maker: RecordMaker, selection: Selection, model: TargetFilter | None) -> None:
        self.relations = selection.chosen(maker.graph.relations)
        changed = maker.changed
        self.turns = turns(maker.graph, selection, maker.build.seed, changed)
        self.place = 0
        self._maker = maker
        self._model = model
        self._caps = Caps(selection)
        self._one_by_one = selection.limit is None
        self._case_ids = {relation: maker.graph.case_ids(relation) for relation in self.relations}
        self._begins = sorted((case_ids.start, relation) for relation, case_ids in self._case_ids.items())
        self._of_changes = {case_id: fact.relation for case_id, fact in changed}

    def resume(self, finished: Iterable[Finished]) -> None:
        """Continue after the last of the `finished` facts, which are in the order of their turn.

        Raises DataError for a fact that is not in this selection.
        """
        for fact in finished:
            try:
                self.place = self.turns.index(fact.case_id, self.place) + 1
            except ValueError:
                raise DataError(f"case {fact.case_id} is of other facts than these") from None
            self._caps.count(fact.relation, fact.kept)

    def __iter__(self) -> Iterator[list[Record | Rejection]]:
        for portion in self.portions():
            decided = self._maker.decided(portion, self._model)
            # A portion may hold a few facts whose turn does not come, because a cap is reached within it.
            admitted = [decision for decision in decided if self._count(decision)]
            if admitted:
                yield admitted

    def portions(self) -> Iterator[Portion]:
        """Yield the facts that still have a turn, portion by portion; who decides them tells `count` of each.

        They may be decided anywhere (`RecordMaker.decided`), and told of after later portions were made.
        """
        while self.place < len(self.turns) and self._caps.wanted != 0:
            if self._model is None:
                yield self._next_turns()
            else:
                yield Portion(self.place, self._next_drafts())

    def all_facts(self) -> Iterator[Portion]:
        """Yield all facts of the selected relations, whether they get a turn or not, portion by portion."""
        for relation, case_ids in self._case_ids.items():
            for place in range(0, len(case_ids), BUILT_AT_ONCE):
                yield Portion(place, case_ids[place : place + BUILT_AT_ONCE], relation)

    def count(self, relation: str, kept: bool) -> bool:
        """Return True and count a decided fact, in the order of turns; False if its turn does not come after all."""
        return self._caps.count(relation, kept)

    def _count(self, decision: Record | Rejection) -> bool:
        if isinstance(decision, Record):
            return self.count(decision.relation, True)
        return self.count(decision.fact.relation, False)

    def _size(self, most: int, wanted: int | None) -> int:
        # Of what is not wanted at all, many turns pass at once.
        return min(most, max(FEWEST_AT_ONCE, wanted)) if wanted else most

    def _next_turns(self) -> Portion:
        """Return the next facts, as many as a portion has; of one relation, where they come relation by relation."""
        relation = self._relation_of(self.turns[self.place]) if self._one_by_one else None
        wanted = self._caps.wanted if relation is None else self._caps.wanted_of(relation)
        stop = min(len(self.turns), self.place + self._size(BUILT_AT_ONCE, wanted))
        if relation is not None:
            while self._relation_of(self.turns[stop - 1]) != relation:
                stop -= 1
        facts = self.turns[self.place : stop]
        self.place = stop
        return Portion(stop, [one for one in facts if self._caps.admits(self._relation_of(one))], relation)

    def _relation_of(self, case_id: int) -> str:
        found = self._of_changes.get(case_id)
        return found or self._begins[bisect_right(self._begins, (case_id, "~")) - 1][1]

    def _next_drafts(self) -> list[Drafted]:
        """Return the next facts, drafted, until there are enough drafts among them for a portion."""
        size = self._size(JUDGED_AT_ONCE, self._caps.wanted)
        drafted: list[Drafted] = []
        drafts = 0
        while self.place < len(self.turns) and drafts < size:
            case_id = self.turns[self.place]
            self.place += 1
            if self._caps.admits(self._relation_of(case_id)):
                (turn,) = self._maker.cases([case_id])
                drafted.append(self._maker.draft(turn, ranked=True))
                drafts += isinstance(drafted[-1][2], Draft)
        return drafted
