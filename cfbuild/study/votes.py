"""The votes of raters: counts, wins of pairs of systems with intervals and sign tests, and agreement."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations

import numpy as np

from cfbuild.score.metrics import BOOTSTRAP_DRAWS, BOOTSTRAP_SEED

PERCENTILES = (2.5, 97.5)
"""The ends of a 95% interval."""
PLACES = ("most", "middle", "least")
"""The places that a rater gives a system on a page: it has most, neither, or least."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """A rater's ranks of the systems for a case, in the systems' order: 1 has most; the middle ones share a rank."""

    case: int
    rater: str
    ranks: tuple[float, ...]

    @classmethod
    def of(cls, case: int, rater: str, named: tuple[int, int], systems: int) -> Ranking:
        """Return the ranking of `systems` systems; `named` are the places of those with most and least."""
        ranks = [(systems + 1) / 2] * systems
        ranks[named[0]], ranks[named[1]] = 1, systems
        return cls(case, rater, tuple(ranks))


@dataclass(frozen=True, slots=True)
class Interval:
    """A share or a coefficient with its 95% bootstrap interval over cases; no bounds if there are too few cases."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class PairVotes:
    """The pages on which the system `first` was ranked above the system `other` (wins), below it (losses), or neither.

    `ratio` is wins divided by losses, the paper's figure (None without losses), `share` wins divided by both.
    `p_pages` is the exact two-sided sign test over pages, as if they were independent; `p_cases` over cases, each of
    which is won by the winner of most of its pages.
    """

    first: str
    other: str
    wins: int
    losses: int
    ties: int
    ratio: float | None
    share: Interval | None
    p_pages: float
    p_cases: float


@dataclass(frozen=True, slots=True)
class QuestionVotes:
    """The votes on a question: by system how often it had each of PLACES, all pairs, and Krippendorff's alpha.

    The system with more wins comes first in a pair. `alpha` is None if no case has two raters or all ranks are equal.
    """

    pages: int
    cases: int
    raters: int
    votes: Mapping[str, Mapping[str, int]]
    pairs: tuple[PairVotes, ...]
    alpha: Interval | None


def count_votes(rankings: Sequence[Ranking], systems: Sequence[str]) -> QuestionVotes:
    """Return the votes of `rankings` on a question; `systems` are the names of the systems in the rankings' order."""
    by_case: dict[int, list[Ranking]] = {}
    for ranking in rankings:
        by_case.setdefault(ranking.case, []).append(ranking)
    cases = [by_case[case] for case in sorted(by_case)]
    draws = _draws(len(cases))
    return QuestionVotes(
        len(rankings),
        len(cases),
        len({ranking.rater for ranking in rankings}),
        {system: _places(rankings, place, len(systems)) for place, system in enumerate(systems)},
        tuple(_pair(cases, systems, *places, draws) for places in combinations(range(len(systems)), 2)),
        _agreement(cases, len(systems), draws),
    )


def _draws(cases: int) -> np.ndarray:
    """Return how often each bootstrap draw takes each case, [BOOTSTRAP_DRAWS, cases]; no draws of fewer than two."""
    if cases < 2:
        return np.zeros((0, cases), dtype=int)
    draw = np.random.RandomState(BOOTSTRAP_SEED)  # numpy promises that its draws never change
    return np.stack([np.bincount(draw.randint(cases, size=cases), minlength=cases) for _ in range(BOOTSTRAP_DRAWS)])


def _places(rankings: Iterable[Ranking], system: int, systems: int) -> dict[str, int]:
    ranks = [ranking.ranks[system] for ranking in rankings]
    most, least = ranks.count(1), ranks.count(systems)
    return dict(zip(PLACES, (most, len(ranks) - most - least, least), strict=True))


def _pair(
    cases: Sequence[Sequence[Ranking]], systems: Sequence[str], first: int, second: int, draws: np.ndarray
) -> PairVotes:
    ranks = [[(ranking.ranks[first], ranking.ranks[second]) for ranking in case] for case in cases]
    wins = np.array([sum(mine < theirs for mine, theirs in case) for case in ranks], dtype=int)
    losses = np.array([sum(mine > theirs for mine, theirs in case) for case in ranks], dtype=int)
    if losses.sum() > wins.sum():
        first, second, wins, losses = second, first, losses, wins
    won, lost = int(wins.sum()), int(losses.sum())
    drawn_wins, decided = draws @ wins, draws @ (wins + losses)
    shares = drawn_wins[decided > 0] / decided[decided > 0]
    return PairVotes(
        systems[first],
        systems[second],
        won,
        lost,
        sum(map(len, cases)) - won - lost,
        won / lost if lost else None,
        _interval(won / (won + lost), shares) if won + lost else None,
        sign_test(won, lost),
        sign_test(int((wins > losses).sum()), int((wins < losses).sum())),
    )


def _interval(value: float, drawn: Sequence[float] | np.ndarray) -> Interval:
    if not len(drawn):
        return Interval(value)
    low, high = np.percentile(drawn, PERCENTILES)
    return Interval(value, float(low), float(high))


def sign_test(wins: int, losses: int) -> float:
    """Return the p of the exact two-sided sign test: 1 if there are neither wins nor losses."""
    count = wins + losses
    tail = sum(math.comb(count, fewer) for fewer in range(min(wins, losses) + 1))
    return float(min(Fraction(1), Fraction(2 * tail, 2**count)))  # a fraction, because 2**1024 is no float


def _agreement(cases: Sequence[Sequence[Ranking]], systems: int, draws: np.ndarray) -> Interval | None:
    """Return alpha; its units are the passages, whose values are the ranks that the raters of a case gave them."""
    levels = sorted({rank for case in cases for ranking in case for rank in ranking.ranks})
    units = [[[ranking.ranks[system] for ranking in case] for system in range(systems)] for case in cases]
    tables = np.array([coincidences(passages, levels) for passages in units]).reshape(-1, len(levels), len(levels))
    value = alpha_of(tables.sum(axis=0))
    if value is None:
        return None
    alphas = (alpha_of(np.tensordot(draw, tables, axes=1)) for draw in draws)
    return _interval(value, [alpha for alpha in alphas if alpha is not None])


def coincidences(units: Iterable[Sequence[float]], levels: Sequence[float]) -> np.ndarray:
    """Return Krippendorff's coincidence matrix, [levels, levels]: the pairs of values in units, each pair both ways.

    units: the values that raters gave each unit; raters who gave none are left out. levels: all values, rising.
    """
    place = {level: number for number, level in enumerate(levels)}
    table = np.zeros((len(levels), len(levels)))
    for values in units:
        if len(values) > 1:
            counts = np.bincount([place[value] for value in values], minlength=len(levels))
            table += (np.outer(counts, counts) - np.diag(counts)) / (len(values) - 1)
    return table


def alpha_of(table: np.ndarray) -> float | None:
    """Return Krippendorff's alpha for ordinal values of the coincidence matrix `table`; None if all values are equal.

    1 is perfect agreement, 0 the agreement of chance (Krippendorff 2011, "Computing Krippendorff's alpha-reliability").
    """
    totals = table.sum(axis=1)
    count = totals.sum()
    # The distance of two ranks is the number of values between them, with half of their own.
    until = np.cumsum(totals) - totals / 2
    distances = (until[:, None] - until[None, :]) ** 2
    expected = float((np.outer(totals, totals) * distances).sum())
    if expected == 0:
        return None
    return 1 - float((count - 1) * (table * distances).sum()) / expected
