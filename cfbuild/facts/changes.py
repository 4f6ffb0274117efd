"""Changes of facts between two fetches: what is new, ended, replaced, corrected, and what stayed as it was.

Compared is what holds: of a subject's statements under a relation those of the best rank that have begun and are not
over, each fetch's on its own day. An object that holds in one fetch only is looked up in the other one's statements,
which may say why.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from cfbuild.data import UNKNOWN, Fact, FactChange, id_number
from cfbuild.facts.dates import is_over, is_to_come
from cfbuild.facts.graph import in_force

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
"""The kinds of which the same object holds as before."""
TOOK_PLACE = frozenset({"replaced", "corrected"})
"""The kinds in which an object took another's place: those that records are made of."""


class Statements:
    """The statements of a fetch by subject and relation; `today` is its day."""

    def __init__(self, facts: Iterable[Fact], today: str) -> None:
        self.today = today
        self.by_pair: dict[tuple[str, str], tuple[Fact, ...]] = {}
        for fact in facts:
            pair = fact.subject, fact.relation
            self.by_pair[pair] = (*self.by_pair.get(pair, ()), fact)
        self.relations = frozenset(relation for _, relation in self.by_pair)

    def of(self, pair: tuple[str, str]) -> tuple[Fact, ...]:
        """Return the statements of a subject under a relation, of any rank and time."""
        return self.by_pair.get(pair, ())

    def in_force(self, pair: tuple[str, str]) -> dict[str, Fact]:
        """Return the facts that hold of a subject under a relation by object: of several, the one that began last."""
        held = in_force(self.of(pair), self.today)
        if len(held) < 2:
            return {fact.object: fact for fact in held}
        return {fact.object: fact for fact in sorted(held, key=lambda fact: fact.start or "")}


def changes(old: Statements, new: Statements) -> Iterator[FactChange]:
    """Yield the changes under the relations that both fetches have, unchanged facts among them.

    Their order is by relation and subject number, then by kind in the order of KINDS, then by object number.
    """
    order = {kind: place for place, kind in enumerate(KINDS)}
    shared = old.relations & new.relations
    pairs = {pair for pair in (*old.by_pair, *new.by_pair) if pair[1] in shared}
    for pair in sorted(pairs, key=lambda pair: (id_number(pair[1]), id_number(pair[0]))):
        found = [*_changes_of_pair(old, new, pair)]
        if len(found) < 2:
            yield from found
            continue
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
    gone = [fact for item, fact in before.items() if item not in after]
    came = [fact for item, fact in after.items() if item not in before]
    if not gone and not came:
        return
    reasons = {fact.object: _reason(fact, new.of(pair), new.today) for fact in gone}
    for predecessor, successor in [*_successions(gone, came, new.of(pair))]:
        gone.remove(predecessor)
        came.remove(successor)
        was_wrong = reasons[predecessor.object] == "retracted" or _began_together(predecessor, successor)
        yield FactChange("corrected" if was_wrong else "replaced", predecessor, successor)
    yield from (FactChange(reasons[fact.object], fact, None) for fact in gone)
    yield from (FactChange("new", None, fact) for fact in came)


def _reason(gone: Fact, statements: Sequence[Fact], today: str) -> str:
    """Return the kind of change of an object that holds no more, by what the newer fetch still says of it."""
    still = [fact for fact in statements if fact.object == gone.object]
    if not still:
        return "removed"
    if all(fact.rank == "deprecated" for fact in still):
        return "retracted"
    valid = [fact for fact in still if fact.rank != "deprecated"]
    over = all(is_over(fact.end, today) or is_to_come(fact.start, today) for fact in valid)
    return "ended" if over else "outranked"


def _successions(gone: Sequence[Fact], came: Sequence[Fact], statements: Sequence[Fact]) -> Iterator[tuple[Fact, Fact]]:
    """Yield pairs of facts: one whose object holds no more, and the one whose object took its place.

    Paired are first the facts that began on one day, then those of which one ended when the other began, then the last
    that is left on each side. Where several are left on a side, nothing says which took whose place.
    """
    left, right = list(gone), list(came)
    ends = {fact.object: fact.end for fact in statements}

    def followed(earlier: Fact, later: Fact) -> bool:
        end, start = ends.get(earlier.object), later.start
        return end is not None and start is not None and UNKNOWN not in (end, start) and _meet(end, start)

    for belong in (_began_together, followed):
        for predecessor in list(left):
            partners = [successor for successor in right if belong(predecessor, successor)]
            if len(partners) == 1 and sum(belong(rival, partners[0]) for rival in left) == 1:
                left.remove(predecessor)
                right.remove(partners[0])
                yield predecessor, partners[0]
    if len(left) == len(right) == 1:
        yield left[0], right[0]


def _began_together(first: Fact, second: Fact) -> bool:
    return first.start not in (None, UNKNOWN) and first.start == second.start


def _meet(end: str, start: str) -> bool:
    """Return True if two dates are the same as far as the less precise one tells."""
    return end.startswith(start) or start.startswith(end)
