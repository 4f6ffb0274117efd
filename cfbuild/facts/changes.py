"""Changes of facts between two fetches: what is new, ended, replaced, corrected, and what stayed as it was.

The facts that hold are compared: of a subject's statements under a relation, those of the best rank that have begun and
are not over on the day of their fetch. An object that holds in one fetch only is looked up among all statements of the
other fetch, which may tell the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from cfbuild.data import UNKNOWN, Fact, FactChange, id_number
from cfbuild.facts.graph import holds, in_force

KINDS: Mapping[str, str] = {
    "unchanged": "the same object holds, with the same dates",
    "redated": "the same object holds, with other dates",
    "new": "an object holds that did not, beside those that did",
    "ended": "the object's time is over, and nothing took its place",
    "retracted": "the statement is deprecated now, and nothing took its place",
    "outranked": "others are preferred to the object now",
    "removed": "the statement is gone, without a word of an end",
    "replaced": "another object holds in its place",
    "corrected": "another object holds that began when it did, or took the place of one that was wrong",
    "appeared": "a fact of a subject of which the older fetch has none under the relation",
    "vanished": "a fact of a subject of which the newer fetch has none under the relation",
}
"""The kinds of changes, with their meaning."""
SAME = frozenset({"unchanged", "redated"})
"""The kinds of change in which the object stays."""
TOOK_PLACE = frozenset({"replaced", "corrected"})
"""The kinds of change in which an object took another's place; records are made of these."""


class Statements:
    """The statements of a fetch by `pair` (subject, relation), as ("Q64", "P6"); `today` is the day of the fetch."""

    def __init__(self, facts: Iterable[Fact], today: str) -> None:
        self.today = today
        self.by_pair: dict[tuple[str, str], tuple[Fact, ...]] = {}
        for fact in facts:
            pair = fact.subject, fact.relation
            self.by_pair[pair] = (*self.by_pair.get(pair, ()), fact)
        self.relations = frozenset(relation for _, relation in self.by_pair)

    def of(self, pair: tuple[str, str]) -> tuple[Fact, ...]:
        """Return all statements of the pair, of any rank and time."""
        return self.by_pair.get(pair, ())

    def in_force(self, pair: tuple[str, str]) -> dict[str, Fact]:
        """Return the facts of the pair that hold, by object; of several about one object, the one that began last."""
        current = in_force(self.of(pair), self.today)
        return {fact.object: fact for fact in sorted(current, key=lambda fact: fact.start or "")}


def changes(old: Statements, new: Statements) -> Iterator[FactChange]:
    """Yield the changes, unchanged facts included, under the relations that both fetches have.

    They are ordered by relation number, subject number, kind (as in KINDS) and object number.
    """
    order = {kind: place for place, kind in enumerate(KINDS)}
    shared = old.relations & new.relations
    pairs = {pair for pair in (*old.by_pair, *new.by_pair) if pair[1] in shared}
    for pair in sorted(pairs, key=lambda pair: (id_number(pair[1]), id_number(pair[0]))):
        found = _changes_of_pair(old, new, pair)
        yield from sorted(found, key=lambda change: (order[change.kind], _number(change.old), _number(change.new)))


def _number(fact: Fact | None) -> int:
    return -1 if fact is None else id_number(fact.object)


def _changes_of_pair(old: Statements, new: Statements, pair: tuple[str, str]) -> Iterator[FactChange]:
    before, after = old.in_force(pair), new.in_force(pair)
    if not old.of(pair) or not new.of(pair):
        yield from (FactChange("appeared", None, fact) for fact in after.values())
        yield from (FactChange("vanished", fact, None) for fact in before.values())
        return
    for item in before.keys() & after.keys():
        same = (before[item].start, before[item].end) == (after[item].start, after[item].end)
        yield FactChange("unchanged" if same else "redated", before[item], after[item])
    old_only = [fact for item, fact in before.items() if item not in after]
    new_only = [fact for item, fact in after.items() if item not in before]
    if not old_only and not new_only:
        return
    reasons = {fact.object: _reason(fact, new.of(pair), new.today) for fact in old_only}
    for predecessor, successor in [*_successions(old_only, new_only, new.of(pair))]:
        old_only.remove(predecessor)
        new_only.remove(successor)
        was_wrong = reasons[predecessor.object] == "retracted" or _began_together(predecessor, successor)
        yield FactChange("corrected" if was_wrong else "replaced", predecessor, successor)
    yield from (FactChange(reasons[fact.object], fact, None) for fact in old_only)
    yield from (FactChange("new", None, fact) for fact in new_only)


def _reason(former: Fact, statements: Sequence[Fact], today: str) -> str:
    """Return the kind of change of a fact that holds no more, by the newer fetch's `statements` about its object."""
    same_object = [fact for fact in statements if fact.object == former.object]
    if not same_object:
        return "removed"
    valid = [fact for fact in same_object if fact.rank != "deprecated"]
    if not valid:
        return "retracted"
    return "outranked" if any(holds(fact, today) for fact in valid) else "ended"


def _successions(
    old_only: Sequence[Fact], new_only: Sequence[Fact], statements: Sequence[Fact]
) -> Iterator[tuple[Fact, Fact]]:
    """Yield (predecessor, successor): a fact that holds no more, and the fact whose object took its place.

    First come the facts that began on one day, then those of which one ended when the other began, then the two that
    remain if there is one on each side. Among more than that, nothing tells which took whose place.
    """
    predecessors, successors = list(old_only), list(new_only)
    ends = {fact.object: fact.end for fact in statements}

    def followed(earlier: Fact, later: Fact) -> bool:
        end, start = ends.get(earlier.object), later.start
        return end is not None and start is not None and UNKNOWN not in (end, start) and _meet(end, start)

    for belong_together in (_began_together, followed):
        for predecessor in list(predecessors):
            found = [successor for successor in successors if belong_together(predecessor, successor)]
            if len(found) == 1 and sum(belong_together(rival, found[0]) for rival in predecessors) == 1:
                predecessors.remove(predecessor)
                successors.remove(found[0])
                yield predecessor, found[0]
    if len(predecessors) == len(successors) == 1:
        yield predecessors[0], successors[0]


def _began_together(first: Fact, second: Fact) -> bool:
    return first.start not in (None, UNKNOWN) and first.start == second.start


def _meet(end: str, start: str) -> bool:
    """Return True if two dates are equal to the precision of the less precise one: 2026-03-01 and 2026-03."""
    return end.startswith(start) or start.startswith(end)
