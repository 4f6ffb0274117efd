"""Weighted draws without replacement: the order in which equally close objects of a relation are drawn as o*.

Two methods give the same distribution. In a race each object arrives after an exponential time whose rate is its count
(Efraimidis and Spirakis 2006), which takes a random number for each object. With more than MANY objects they are drawn
one by one from cumulated counts, and a draw that does not count is repeated, which takes few random numbers.
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
"""The most objects of a relation for a race: with so many it takes a third of a millisecond."""
MISSES = 64
"""The draws in a row that do not count after which a race decides among the remaining objects."""

SCOUTS, REACHED = 32, 5
"""The most frequent places that are looked at first, and how many of them have arrived by the time that is compared."""
ROUNDING = 1 + 1e-9
"""A factor that is larger than what rounding does to an arrival."""

RandomNumber = Callable[[], float]


class Weighted(NamedTuple):
    """Places of objects in a relation's list, ascending, and the sum of their counts up to each."""

    places: array[int]
    sums: array[int]

    @classmethod
    def of(cls, places: Iterable[int], counts: Sequence[int]) -> Weighted:
        """Return the places with the sums of their counts; `counts` holds those of all places."""
        kept = array("I", places)
        return cls(kept, array("Q", accumulate(counts[place] for place in kept)))


def race(places: Iterable[int], counts: Sequence[int], numbers: Callable[[int], float]) -> Iterator[int]:
    """Yield places in the order of their arrival.

    counts: the weights of all places. numbers: returns the random number of a place, in [0, 1).
    """
    runners = [(numbers(place), place) for place in places]
    leaders = set[int]()
    if len(runners) > SCOUTS:
        # Few places are reached. An arrival is never before its number over its count: a comparison with the arrival of
        # a scout says who may be among the first, without a logarithm of all.
        until = sorted(_arrivals(runners[:SCOUTS], counts))[REACHED - 1][0]
        early = [runner for runner in runners if runner[0] <= until * ROUNDING * counts[runner[1]]]
        for arrival, place in sorted(_arrivals(early, counts)):
            if arrival <= until:
                leaders.add(place)
                yield place
    arrivals = [one for one in _arrivals(runners, counts) if one[1] not in leaders]
    heapify(arrivals)
    while arrivals:
        yield heappop(arrivals)[1]


def _arrivals(runners: Iterable[tuple[float, int]], counts: Sequence[int]) -> list[tuple[float, int]]:
    """Return the arrival of each place with its place; `runners` are the places with their random numbers."""
    return [(-log(1.0 - number) / counts[place], place) for number, place in runners]


def drawn(
    pools: Sequence[Weighted], counts: Sequence[int], takes: Callable[[int, int], bool], random: RandomNumber
) -> Iterator[int]:
    """Yield the places in `pools`, none of which is empty, in the order of weighted draws, each once.

    takes: returns True for a place and a pool's number if the place counts in that pool; it may count in one at most.
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
    remaining = {place for which, pool in enumerate(pools) for place in pool.places if takes(place, which)} - seen
    yield from race(sorted(remaining), counts, lambda place: random())
