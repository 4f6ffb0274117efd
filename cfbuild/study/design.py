"""The design of a study: the cases that each rater rates, and the order of the systems on each page.

As in the ROME paper's study, every case is rated equally often, no rater sees a case twice, no two cases have the same
raters, and no case has an order of systems twice, as far as there are enough groups of raters and orders. In addition
pairs of raters share cases as evenly as a search finds, and all orders are equally frequent, for each rater too.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations

from cfbuild.errors import ConfigError, check_least
from cfbuild.study.answers import LETTERS

IDLE_SWAPS = 10_000
"""Swaps without gain after which the search ends; enough to find the best design of the paper's size."""
GROUP_COST = 1_000
"""The cost of two cases with the same raters, far above that of a pair that shares one case more than others."""


@dataclass(frozen=True, slots=True)
class StudySize:
    """The numbers of a study: raters, pages of each rater, cases, and systems on a page.

    Raises ConfigError, with numbers that would do, if a rater would see a case twice or cases would not be rated
    equally often.
    """

    raters: int
    pages: int
    cases: int
    systems: int

    def __post_init__(self) -> None:
        check_least(self, raters=1, pages=1, cases=1)
        if not 2 <= self.systems <= len(LETTERS):
            raise ConfigError(f"{self.systems} systems to compare; expected 2 to {len(LETTERS)}: choose some by --runs")
        if self.pages > self.cases:
            raise ConfigError(
                f"--pages {self.pages} of --cases {self.cases}: a rater would see a case twice; expected at most "
                f"{self.cases} pages, or at least {self.pages} cases"
            )
        if self.ratings % self.cases:
            raise ConfigError(
                f"--raters {self.raters} x --pages {self.pages} are {self.ratings} ratings, no multiple of --cases "
                f"{self.cases}, so cases could not be rated equally often. These would do: {self._alternatives()}"
            )

    @property
    def ratings(self) -> int:
        """Return the number of pages of all raters."""
        return self.raters * self.pages

    @property
    def each(self) -> int:
        """Return the number of raters of each case."""
        return self.ratings // self.cases

    @property
    def all_orders(self) -> bool:
        """Return True if there are enough pages for every order of systems."""
        return math.factorial(self.systems) <= self.ratings

    def fitting_cases(self, most: int) -> list[int]:
        """Return the numbers of cases, at most `most`, that these raters and pages can rate equally often."""
        return [count for count in range(self.pages, min(most, self.ratings) + 1) if self.ratings % count == 0]

    def _alternatives(self) -> str:
        """Return the nearest numbers of cases, raters and pages with which the other two fit, for a message."""
        pages = _multiples(self.cases // math.gcd(self.cases, self.raters), self.pages)
        fitting = {
            "--cases": self.fitting_cases(self.ratings),
            "--raters": _multiples(self.cases // math.gcd(self.cases, self.pages), self.raters),
            "--pages": [count for count in pages if count <= self.cases],
        }
        numbers = {"--cases": self.cases, "--raters": self.raters, "--pages": self.pages}
        nearest = {flag: _around(counts, numbers[flag]) for flag, counts in fitting.items() if counts}
        return "; ".join(f"{flag} {' or '.join(map(str, counts))}" for flag, counts in nearest.items())


def _multiples(step: int, near: int) -> list[int]:
    """Return the multiples of `step` next to `near`, below and above."""
    below = near // step * step
    return [count for count in (below, below + step) if count]


def _around(counts: Sequence[int], near: int) -> list[int]:
    """Return the last of the rising `counts` below `near` and the first above it, if there are any."""
    below = [count for count in counts if count < near][-1:]
    return [*below, *[count for count in counts if count > near][:1]]


@dataclass(frozen=True, slots=True)
class PagePlan:
    """A page: the number of its case, and the numbers of the systems in the order of its passages; all from 0."""

    case: int
    order: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Balance:
    """The balance of a design: fewest and most cases that two raters share, fewest and most pages with one order.

    `same_groups` is the number of cases that have the same raters as an earlier one, `repeated` the number of pages
    that have the same case and order as an earlier one.
    """

    shared: tuple[int, int]
    orders: tuple[int, int]
    same_groups: int
    repeated: int


def design(size: StudySize, seed: int) -> list[list[PagePlan]]:
    """Return the pages of every rater, [raters][pages], in the order in which they are shown."""
    draw = random.Random(f"{seed}:study:design")
    groups = _Groups(size, draw)
    groups.improve()
    edges = [(rater, case) for case, raters in enumerate(groups.raters) for rater in sorted(raters)]
    draw.shuffle(edges)
    orders = _orders(size, draw)
    colors = _Coloring(edges, len(orders)).colors
    pages: list[list[PagePlan]] = [[] for _ in range(size.raters)]
    for (rater, case), color in zip(edges, colors, strict=True):
        pages[rater].append(PagePlan(case, orders[color]))
    for rater_pages in pages:
        draw.shuffle(rater_pages)
    return pages


def balance(pages: Sequence[Sequence[PagePlan]], size: StudySize) -> Balance:
    """Return the balance of a design; `pages` are those of every rater, as `design` returns them."""
    raters: list[set[int]] = [set() for _ in range(size.cases)]
    for rater, rater_pages in enumerate(pages):
        for page in rater_pages:
            raters[page.case].add(rater)
    shared = Counter(pair for group in raters for pair in combinations(sorted(group), 2))
    counts = [shared[pair] for pair in combinations(range(size.raters), 2)] or [0]
    orders = Counter(page.order for rater_pages in pages for page in rater_pages)
    used = [orders[order] for order in permutations(range(size.systems))] if size.all_orders else [*orders.values()]
    per_case = Counter((page.case, page.order) for rater_pages in pages for page in rater_pages)
    return Balance(
        (min(counts), max(counts)),
        (min(used), max(used)),
        size.cases - len({frozenset(group) for group in raters}) if size.each > 1 else 0,
        sum(per_case.values()) - len(per_case),
    )


class _Groups:
    """The raters of each case, and a search by which pairs of raters share cases evenly."""

    def __init__(self, size: StudySize, draw: random.Random) -> None:
        self._size, self._draw = size, draw
        self.raters: list[set[int]] = []
        self._shared = [[0] * size.raters for _ in range(size.raters)]
        open_pages = [size.pages] * size.raters
        for _ in range(size.cases):
            group = self._next_group(open_pages)
            for rater in group:
                open_pages[rater] -= 1
            self._count(group, 1)
            self.raters.append(group)
        self._groups = Counter(map(frozenset, self.raters))

    def _next_group(self, open_pages: Sequence[int]) -> set[int]:
        """Return the raters of the next case; `open_pages` is the number of pages that each rater still needs."""
        group: set[int] = set()
        for _ in range(self._size.each):
            met = [sum(self._shared[rater][other] for other in group) for rater in range(self._size.raters)]
            free = (rater for rater in range(self._size.raters) if rater not in group)
            # Raters who need most pages come first, or the last cases would lack raters.
            group.add(min(free, key=lambda rater: (-open_pages[rater], met[rater], self._draw.random())))
        return group

    def _count(self, group: Iterable[int], change: int) -> None:
        """Add `change` to the number of cases that each pair of a group shares."""
        for rater, partner in permutations(group, 2):
            self._shared[rater][partner] += change

    def improve(self) -> None:
        """Swap raters of two cases until no better design exists, or IDLE_SWAPS swaps in a row gained nothing."""
        if self._size.cases < 2 or self._size.each in (1, self._size.raters):
            return
        cost, least, idle = self._cost(), self._least_cost(), 0
        while cost > least and idle < IDLE_SWAPS:
            first, second = self._draw.sample(range(self._size.cases), 2)
            change = self._swap(first, second)
            cost, idle = cost + change, 0 if change else idle + 1

    def _swap(self, first: int, second: int) -> int:
        """Swap a random rater of each of two cases unless that makes it worse; return the change of the cost."""
        first_group, second_group = self.raters[first], self.raters[second]
        of_first, of_second = sorted(first_group - second_group), sorted(second_group - first_group)
        if not of_first:
            return 0
        gone, come = self._draw.choice(of_first), self._draw.choice(of_second)
        of_gone, of_come = self._shared[gone], self._shared[come]
        # The counts of pairs with a rater of both cases stay as they are.
        change = sum(2 * (of_come[rater] - of_gone[rater] + 1) for rater in of_first if rater != gone)
        change += sum(2 * (of_gone[rater] - of_come[rater] + 1) for rater in of_second if rater != come)
        old, new = (first_group, second_group), (first_group - {gone} | {come}, second_group - {come} | {gone})
        change += GROUP_COST * self._more_repeats(old, new)
        if change > 0:
            return 0
        for old_group, new_group in zip(old, new, strict=True):
            self._count(old_group, -1)
            self._count(new_group, 1)
        self.raters[first], self.raters[second] = new
        self._groups.subtract(map(frozenset, old))
        self._groups.update(map(frozenset, new))
        return change

    def _more_repeats(self, old: Iterable[Iterable[int]], new: Iterable[Iterable[int]]) -> int:
        """Return by how much the number of cases with the raters of an earlier one grows if groups are replaced."""
        change = Counter(map(frozenset, new))
        change.subtract(map(frozenset, old))
        counts = [(self._groups.get(group, 0), by) for group, by in change.items()]
        return sum(max(count + by - 1, 0) - max(count - 1, 0) for count, by in counts)

    def _cost(self) -> int:
        """Return the sum of squares of the cases that pairs share, plus GROUP_COST for each repeated group."""
        squares = sum(count * count for row in self._shared for count in row) // 2
        return squares + GROUP_COST * sum(count - 1 for count in self._groups.values())

    def _least_cost(self) -> int:
        """Return the cost of a design whose pairs differ by at most one case, with the fewest repeated groups."""
        pairs = math.comb(self._size.raters, 2)
        every, rest = divmod(self._size.cases * math.comb(self._size.each, 2), pairs)
        repeated = max(0, self._size.cases - math.comb(self._size.raters, self._size.each))
        return rest * (every + 1) ** 2 + (pairs - rest) * every**2 + GROUP_COST * repeated


def _orders(size: StudySize, draw: random.Random) -> list[tuple[int, ...]]:
    """Return the orders of systems to use: all, or for few pages a cycle, in which each system has each place once."""
    if size.all_orders:
        orders = list(permutations(range(size.systems)))
        draw.shuffle(orders)
        return orders
    first = draw.sample(range(size.systems), size.systems)
    return [tuple(first[turn:] + first[:turn]) for turn in range(size.systems)]


class _Coloring:
    """A coloring of a bipartite graph's edges in which colors are equally frequent: in all, and at each vertex.

    Numbers of edges of two colors differ by one at most. A vertex with more edges than there are colors is split into
    vertices with as many edges as colors and one with the rest. Then there is a coloring in which no two edges of a
    vertex have the same color (König); it is found by swapping two colors along a path. Such swaps also make all
    colors equally frequent (de Werra).

    edges: pairs of vertices, (rater, case). count: the number of colors.
    """

    def __init__(self, edges: Sequence[tuple[int, int]], count: int) -> None:
        self._count = count
        self._ends = list(_split_vertices(edges, count))
        self.colors = [-1] * len(edges)
        self._at: dict[tuple[tuple[int, int, int], int], int] = {}
        self._used = [0] * count
        for edge in range(len(edges)):
            self._color(edge)
        self._even_out()

    def _free(self, vertex: tuple[int, int, int]) -> list[int]:
        """Return the colors that no edge of a vertex has, the rarest first."""
        free = [color for color in range(self._count) if (vertex, color) not in self._at]
        return sorted(free, key=self._used.__getitem__)

    def _color(self, edge: int) -> None:
        here, there = (self._free(vertex) for vertex in self._ends[edge])
        both = [color for color in here if color in there]
        if not both:
            # The path of these two colors from one end never reaches the other end, which lacks the first of them.
            self._flip(self._path(self._ends[edge][1], here[0], there[0]), here[0], there[0])
            both = [here[0]]
        self._set(edge, both[0])

    def _path(self, vertex: tuple[int, int, int], first: int, second: int) -> list[int]:
        """Return the edges of the path from a vertex whose colors are `first`, `second`, `first` and so on."""
        path: list[int] = []
        color = first
        while (edge := self._at.get((vertex, color))) is not None and edge not in path[:1]:
            path.append(edge)
            here, there = self._ends[edge]
            vertex = there if vertex == here else here
            color = second if color == first else first
        return path

    def _flip(self, path: Sequence[int], first: int, second: int) -> None:
        for edge in path:
            for vertex in self._ends[edge]:
                self._at.pop((vertex, self.colors[edge]), None)
        for edge in path:
            self._used[self.colors[edge]] -= 1
        for edge in path:
            self._set(edge, second if self.colors[edge] == first else first)

    def _set(self, edge: int, color: int) -> None:
        self.colors[edge] = color
        self._used[color] += 1
        for vertex in self._ends[edge]:
            self._at[vertex, color] = edge

    def _even_out(self) -> None:
        while max(self._used) - min(self._used) > 1:
            most, least = self._used.index(max(self._used)), self._used.index(min(self._used))
            ends = (vertex for edge, color in enumerate(self.colors) if color == most for vertex in self._ends[edge])
            # A path that begins at a vertex without the color `least` may have one edge more of the color `most`.
            starts = (vertex for vertex in ends if (vertex, least) not in self._at)
            path = next(path for vertex in starts if len(path := self._path(vertex, most, least)) % 2)
            self._flip(path, most, least)


def _split_vertices(
    edges: Iterable[tuple[int, int]], count: int
) -> Iterator[tuple[tuple[int, int, int], tuple[int, int, int]]]:
    """Yield each edge's two ends as (side, vertex, part), where no part of a vertex has more than `count` edges."""
    degrees: Counter[tuple[int, int]] = Counter()
    for edge in edges:
        ends = []
        for side, vertex in enumerate(edge):
            ends.append((side, vertex, degrees[side, vertex] // count))
            degrees[side, vertex] += 1
        yield ends[0], ends[1]
