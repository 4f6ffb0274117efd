"""Two fetches of a made graph, the second changed by a seed, with the changes that a comparison must find."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from cfbuild.data import UNKNOWN, Fact, FactChange

OLD_DAY, NEW_DAY = "2024-06-30", "2026-06-30"
RELATIONS = ("P6", "P102", "P463")
RANKED = "normal"


@dataclass(frozen=True)
class Pair:
    """A subject and a relation, and objects that only this pair has."""

    relation: str
    subject: str
    objects: tuple[str, str, str]

    def fact(self, place: int, **parts: str | None) -> Fact:
        return Fact(self.relation, self.subject, self.objects[place], **{"rank": RANKED, "source": "made", **parts})


Planted = tuple[Sequence[Fact], Sequence[Fact], Sequence[FactChange]]
"""Statements of the older and the newer fetch, and the changes between them."""


def same(pair: Pair) -> Planted:
    held = pair.fact(0, start="2020")
    return [held], [held], [FactChange("unchanged", held, held)]


def ranked_otherwise(pair: Pair) -> Planted:
    held = pair.fact(0, start="2020")
    better = replace(held, rank="preferred")
    return [held], [better], [FactChange("unchanged", held, better)]


def redated(pair: Pair) -> Planted:
    held, earlier = pair.fact(0, start="2020"), pair.fact(0, start="2019-05-01")
    return [held], [earlier], [FactChange("redated", held, earlier)]


def second_value(pair: Pair) -> Planted:
    held, more = pair.fact(0), pair.fact(1, start="2025")
    return [held], [held, more], [FactChange("unchanged", held, held), FactChange("new", None, more)]


def begun(pair: Pair) -> Planted:
    over, planned = pair.fact(0, end="2001"), pair.fact(1, start="2025-01-01")
    return [over, planned], [over, planned], [FactChange("new", None, planned)]


def ended(pair: Pair) -> Planted:
    held = pair.fact(0, start="2020")
    return [held], [replace(held, end="2025")], [FactChange("ended", held, None)]


def run_out(pair: Pair) -> Planted:
    held = pair.fact(0, start="2020", end="2025-12-31")
    return [held], [held], [FactChange("ended", held, None)]


def succeeded(pair: Pair) -> Planted:
    """Two holders each end, and two others begin: dates say who followed whom."""
    first, second = pair.fact(0, start="2010"), pair.fact(1, start="2012-03")
    newer = pair.fact(2, start="2025-03-04")
    ends = replace(first, end="2025-01-09"), replace(second, end="2025-03")
    return [first, second], [*ends, newer], [FactChange("ended", first, None), FactChange("replaced", second, newer)]


def overwritten(pair: Pair) -> Planted:
    held, newer = pair.fact(0), pair.fact(1)
    return [held], [newer], [FactChange("replaced", held, newer)]


def corrected(pair: Pair) -> Planted:
    held, newer = pair.fact(0, start="2011-02-03"), pair.fact(1, start="2011-02-03")
    return [held], [newer], [FactChange("corrected", held, newer)]


def deprecated_for_another(pair: Pair) -> Planted:
    held, newer = pair.fact(0, start="2011"), pair.fact(1, start="2012")
    return [held], [replace(held, rank="deprecated"), newer], [FactChange("corrected", held, newer)]


def retracted(pair: Pair) -> Planted:
    held = pair.fact(0)
    return [held], [replace(held, rank="deprecated")], [FactChange("retracted", held, None)]


def preferred(pair: Pair) -> Planted:
    """Of three that hold one is preferred."""
    three = [pair.fact(place) for place in range(3)]
    best = replace(three[2], rank="preferred")
    found = [FactChange("unchanged", three[2], best), *(FactChange("outranked", one, None) for one in three[:2])]
    return three, [*three[:2], best], found


def preferred_instead(pair: Pair) -> Planted:
    first, second = pair.fact(0), pair.fact(1)
    best, better = replace(first, rank="preferred"), replace(second, rank="preferred")
    return [best, second], [first, better], [FactChange("replaced", best, better)]


def removed(pair: Pair) -> Planted:
    held, gone = pair.fact(0), pair.fact(1)
    return [held, gone], [held], [FactChange("unchanged", held, held), FactChange("removed", gone, None)]


def unknown_now(pair: Pair) -> Planted:
    held, newer = pair.fact(0), replace(pair.fact(1), object=UNKNOWN)
    return [held], [newer], [FactChange("replaced", held, newer)]


def appeared(pair: Pair) -> Planted:
    facts = [pair.fact(0), pair.fact(1, end="1999")]
    return [], facts, [FactChange("appeared", None, facts[0])]


def vanished(pair: Pair) -> Planted:
    facts = [pair.fact(0), pair.fact(1, rank="deprecated")]
    return facts, [], [FactChange("vanished", facts[0], None)]


def never_held(pair: Pair) -> Planted:
    over, wrong = pair.fact(0, end="1990"), pair.fact(1, rank="deprecated")
    return [over], [over, wrong], []


PLANTS: Mapping[str, Callable[[Pair], Planted]] = {
    plant.__name__: plant
    for plant in (
        *(same, ranked_otherwise, redated, second_value, begun, ended, run_out, succeeded, overwritten, corrected),
        *(deprecated_for_another, retracted, preferred, preferred_instead, removed, unknown_now),
        *(appeared, vanished, never_held),
    )
}


def planted(seed: int, pairs: int) -> tuple[list[Fact], list[Fact], list[FactChange]]:
    """Return the facts of both fetches, in an order that the seed shuffles, and the changes between them."""
    draw = random.Random(seed)
    old: list[Fact] = []
    new: list[Fact] = []
    found: list[FactChange] = []
    for number in range(pairs):
        base = 10 * (number + 1)
        objects = f"Q{base + 1}", f"Q{base + 2}", f"Q{base + 3}"
        pair = Pair(RELATIONS[number % len(RELATIONS)], f"Q{base}", objects)
        before, after, changes = PLANTS[draw.choice([*PLANTS])](pair)
        old += before
        new += after
        found += changes
    draw.shuffle(old)
    draw.shuffle(new)
    return old, new, found
