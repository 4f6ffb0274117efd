"""The order in which a relation's objects are drawn as o*: those closest to the true object first.

Among equals it is the order of weighted draws without replacement: in a race each object arrives after an exponential
time whose rate is its count (Efraimidis and Spirakis 2006), which takes a random number an object. Where there are MANY
objects, they are drawn instead, one by one, from sums of counts, and what does not count is drawn again: the same
distribution from a few numbers a fact, whatever the number of objects.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import heapify, heappop
from itertools import accumulate
from math import log
from typing import NamedTuple

MANY = 1_000
"""Objects of a relation from which on they are drawn one by one: a race of so many takes a third of a millisecond."""
MISSES = 64
"""Draws in a row that do not count before a race decides among what is left."""

RandomNumber = Callable[[], float]


class Weighted(NamedTuple):
    """Places of objects, ascending, and the sum of their counts up to each."""

    places: array[int]
    sums: array[int]

    @classmethod
    def of(cls, places: Iterable[int], counts: Sequence[int]) -> Weighted:
        """Return the places with the sums of their counts; `counts` holds the count at each place."""
        given = array("I", places)
        return cls(given, array("Q", accumulate(counts[place] for place in given)))


def race(places: Iterable[int], counts: Sequence[int], numbers: Callable[[int], float]) -> Iterator[int]:
    """Yield places in the order of their arrival; `numbers` returns the random number of a place."""
    arrivals = [(-log(1.0 - numbers(place)) / counts[place], place) for place in places]
    heapify(arrivals)
    while arrivals:
        yield heappop(arrivals)[1]


def drawn(
    pools: Sequence[Weighted], counts: Sequence[int], takes: Callable[[int, int], bool], random: RandomNumber
) -> Iterator[int]:
    """Yield the places in `pools`, none of which is empty, in the order of weighted draws, each once.

    takes: returns True for a place and the number of a pool if the place counts there; it must in one of them at most.
    """
    totals = list(accumulate(pool.sums[-1] for pool in pools))
    seen: set[int] = set()
    misses = 0
    while totals and misses < MISSES:
        number = int(random() * totals[-1])
        which = bisect_right(totals, number)
        pool = pools[which]
        place = pool.places[bisect_right(pool.sums, number - (totals[which - 1] if which else 0))]
        if place in seen or not takes(place, which):
            misses += 1
            continue
        misses = 0
        seen.add(place)
        yield place
    left = {place for which, pool in enumerate(pools) for place in pool.places if takes(place, which)} - seen
    yield from race(sorted(left), counts, lambda place: random())
