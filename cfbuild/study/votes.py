"""Votes of raters: counts, pairwise wins with intervals and sign tests, and agreement. No texts, no model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from typing import Any

import numpy as np

from cfbuild.score.metrics import BOOTSTRAP_DRAWS, BOOTSTRAP_SEED

PERCENTILES = (2.5, 97.5)
"""The ends of a 95% interval."""
PLACES = ("most", "middle", "least")
"""Places of a system on a page: named as having most or least, or neither."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """A rater's ranks of the systems for a case, in the systems' order: 1 has most; those not named share a rank."""

    case: int
    rater: str
    ranks: tuple[float, ...]

    @classmethod
    def of(cls, case: int, rater: str, named: tuple[int, int], systems: int) -> Ranking:
        """Return the ranking that names the systems at two places as having most and least."""
        ranks = [(systems + 1) / 2] * systems
        ranks[named[0]], ranks[named[1]] = 1, systems
        return cls(case, rater, tuple(ranks))


@dataclass(frozen=True, slots=True)
class Interval:
    """A share or a coefficient with its 95% interval, by drawing the cases again with all their ratings.

    Bounds are None where there are too few cases to draw from.
    """

    value: float
    low: float | None = None
    high: float | None = None

    def as_dict(self) -> dict[str, float | None]:
        """Return it for JSON."""
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True, slots=True)
class PairVotes:
    """Two systems: on how many pages `first` was ranked above `other`, below it, and neither.

    `share` is that of wins in pages that decide. `p_pages` is the exact two-sided sign test over pages, as if they were
    independent; `p_cases` over cases, each of which has the winner of most of its pages.
    """

    first: str
    other: str
    wins: int
    losses: int
    ties: int
    share: Interval | None
    p_pages: float
    p_cases: float

    @property
    def ratio(self) -> float | None:
        """Wins divided by losses, the paper's figure; None without a loss."""
        return self.wins / self.losses if self.losses else None

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "first": self.first,
            "other": self.other,
            "wins": self.wins,
            "losses": self.losses,
            "ties": self.ties,
            "ratio": self.ratio,
            "share": self.share and self.share.as_dict(),
            "p_pages": self.p_pages,
            "p_cases": self.p_cases,
        }


@dataclass(frozen=True, slots=True)
class QuestionVotes:
    """The votes on a question: by system the numbers of PLACES, every pair, and Krippendorff's alpha of the ranks.

    The system with more wins comes first in a pair. `alpha` is None where no case has two raters, or all ranks are the
    same.
    """

    pages: int
    cases: int
    raters: int
    votes: Mapping[str, tuple[int, int, int]]
    pairs: tuple[PairVotes, ...]
    alpha: Interval | None

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "pages": self.pages,
            "cases": self.cases,
            "raters": self.raters,
            "votes": {system: dict(zip(PLACES, counts, strict=True)) for system, counts in self.votes.items()},
            "pairs": [pair.as_dict() for pair in self.pairs],
            "alpha": self.alpha and self.alpha.as_dict(),
        }


def count_votes(rankings: Sequence[Ranking], systems: Sequence[str]) -> QuestionVotes:
    """Return what rankings of systems say on a question."""
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
    """Return how often each draw takes each case: [BOOTSTRAP_DRAWS, cases]; none for fewer than two cases."""
    if cases < 2:
        return np.zeros((0, cases), dtype=int)
    draw = np.random.RandomState(BOOTSTRAP_SEED)  # the one generator of numpy whose draws never change
    return np.stack([np.bincount(draw.randint(cases, size=cases), minlength=cases) for _ in range(BOOTSTRAP_DRAWS)])


def _places(rankings: Iterable[Ranking], system: int, systems: int) -> tuple[int, int, int]:
    ranks = [ranking.ranks[system] for ranking in rankings]
    most, least = ranks.count(1), ranks.count(systems)
    return most, len(ranks) - most - least, least


def _pair(
    cases: Sequence[Sequence[Ranking]], systems: Sequence[str], first: int, second: int, draws: np.ndarray
) -> PairVotes:
    wins = np.array([sum(each.ranks[first] < each.ranks[second] for each in some) for some in cases], dtype=int)
    losses = np.array([sum(each.ranks[first] > each.ranks[second] for each in some) for some in cases], dtype=int)
    if losses.sum() > wins.sum():
        first, second, wins, losses = second, first, losses, wins
    won, lost = int(wins.sum()), int(losses.sum())
    drawn, decided = draws @ wins, draws @ (wins + losses)
    shares = drawn[decided > 0] / decided[decided > 0]
    return PairVotes(
        systems[first],
        systems[second],
        won,
        lost,
        sum(map(len, cases)) - won - lost,
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
    """Return the exact two-sided p of as uneven wins and losses or more, if both are as likely; 1 without any."""
    count = wins + losses
    tail = sum(math.comb(count, fewer) for fewer in range(min(wins, losses) + 1))
    return float(min(Fraction(1), Fraction(2 * tail, 2**count)))  # whole numbers: 2**1024 is no float


def _agreement(cases: Sequence[Sequence[Ranking]], systems: int, draws: np.ndarray) -> Interval | None:
    """Return alpha over passages: a unit is a system's passage of a case, its values the ranks that raters gave it."""
    levels = sorted({rank for some in cases for each in some for rank in each.ranks})
    units = [[[each.ranks[system] for each in some] for system in range(systems)] for some in cases]
    tables = np.array([coincidences(of_case, levels) for of_case in units]).reshape(-1, len(levels), len(levels))
    value = alpha_of(tables.sum(axis=0))
    if value is None:
        return None
    drawn = (alpha_of(np.tensordot(draw, tables, axes=1)) for draw in draws)
    return _interval(value, [each for each in drawn if each is not None])


def coincidences(units: Iterable[Sequence[float]], levels: Sequence[float]) -> np.ndarray:
    """Return Krippendorff's coincidence matrix [levels, levels]: pairs of values in units, each pair both ways.

    units: the values that raters gave each unit, those of raters who gave none left out.
    """
    place = {level: number for number, level in enumerate(levels)}
    table = np.zeros((len(levels), len(levels)))
    for values in units:
        if len(values) > 1:
            counts = np.bincount([place[value] for value in values], minlength=len(levels))
            table += (np.outer(counts, counts) - np.diag(counts)) / (len(values) - 1)
    return table


def alpha_of(table: np.ndarray) -> float | None:
    """Return Krippendorff's alpha for ordinal values of a coincidence matrix; None where it has no variation.

    1 is perfect agreement, 0 what chance gives. It takes any number of raters, each of whom rated some units only
    (Krippendorff 2011, "Computing Krippendorff's alpha-reliability").
    """
    totals = table.sum(axis=1)
    count = totals.sum()
    # The distance of two ranks: how many values lie between them, half of their own included.
    until = np.cumsum(totals) - totals / 2
    distances = (until[:, None] - until[None, :]) ** 2
    expected = float((np.outer(totals, totals) * distances).sum())
    if expected == 0:
        return None
    return 1 - float((count - 1) * (table * distances).sum()) / expected
