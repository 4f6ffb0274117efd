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
from random import Random
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np

MANY = 1_000
"""The most objects of a relation for a race; another number would draw other objects."""
MISSES = 64
"""The draws in a row that do not count after which a race decides among the remaining objects."""

SCOUTS, REACHED = 32, 5
"""The most frequent places that are looked at first, and how many of them have arrived by the time that is compared."""
ROUNDING = 1 + 1e-9
"""A factor that is larger than what rounding does to an arrival."""


class Weighted(NamedTuple):
    """Places of objects in a relation's list, ascending, and the sum of their counts up to each."""

    places: array[int]
    sums: array[int]

    @classmethod
    def of(cls, places: Iterable[int], counts: Sequence[int]) -> Weighted:
        """Return the places with the sums of their counts; `counts` holds those of all places."""
        kept = array("I", places)
        return cls(kept, array("Q", accumulate(counts[place] for place in kept)))


def random_numbers(random: Random, count: int) -> np.ndarray:
    """Return the next `count` numbers of `random.random()`, in [0, 1), in a tenth of its time."""
    import numpy as np  # here, since a shell that completes a command should not wait for it

    # Like CPython: a number is made of the upper 27 and 26 bits of two words of 32.
    words = np.frombuffer(random.getrandbits(64 * count).to_bytes(8 * count, "little"), "<u4").reshape(count, 2)
    return ((words[:, 0] >> 5) * 2.0**26 + (words[:, 1] >> 6)) / 2.0**53


def race(places: Sequence[int], counts: Sequence[int], numbers: np.ndarray) -> Iterator[int]:
    """Yield places in the order of their arrival.

    places: with the most frequent ones in front. counts, numbers: the weight of each place there is, and its random
    number, in [0, 1).
    """
    import numpy as np

    runners, leaders = np.asarray(places, dtype=np.int64), set[int]()
    if len(runners) > SCOUTS:
        # Few places are reached. An arrival is never before its number over its count: a comparison with the arrival of
        # a scout says who may be among the first, without a logarithm of all.
        own, weights = numbers[runners], np.asarray(counts)[runners]
        until = float(np.sort(-np.log1p(-own[:SCOUTS]) / weights[:SCOUTS])[REACHED - 1])
        early = runners[own <= until * ROUNDING * weights]
        for arrival, place in sorted(_arrivals(early, counts, numbers)):
            if arrival <= until:
                leaders.add(place)
                yield place
    arrivals = [one for one in _arrivals(runners, counts, numbers) if one[1] not in leaders]
    heapify(arrivals)
    while arrivals:
        yield heappop(arrivals)[1]


def _arrivals(places: np.ndarray, counts: Sequence[int], numbers: np.ndarray) -> list[tuple[float, int]]:
    """Return the arrival of each place with its place."""
    pairs = zip(places.tolist(), numbers[places].tolist(), strict=True)
    return [(-log(1.0 - number) / counts[place], place) for place, number in pairs]


def drawn(
    pools: Sequence[Weighted], counts: Sequence[int], takes: Callable[[int, int], bool], random: Random
) -> Iterator[int]:
    """Yield the places in `pools`, none of which is empty, in the order of weighted draws, each once.

    takes: returns True for a place and a pool's number if the place counts in that pool; it may count in one at most.
    """
    totals = list(accumulate(pool.sums[-1] for pool in pools))
    seen: set[int] = set()
    misses = 0
    while totals and misses < MISSES:
        number = int(random.random() * totals[-1])
        which = bisect_right(totals, number)
        pool = pools[which]
        place = pool.places[bisect_right(pool.sums, number - (totals[which - 1] if which else 0))]
        if place in seen or not takes(place, which):
            misses += 1
            continue
        misses = 0
        seen.add(place)
        yield place
    places = {place for which, pool in enumerate(pools) for place in pool.places if takes(place, which)}
    remaining = sorted(places - seen)
    weights = [counts[place] for place in remaining]
    for index in race(range(len(remaining)), weights, random_numbers(random, len(remaining))):
        yield remaining[index]
