"""The votes of a study as tables of text, for a terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cfbuild.score.metrics import BOOTSTRAP_DRAWS
from cfbuild.score.typeset import bars, plain
from cfbuild.study.votes import PLACES, Interval, PairVotes, QuestionVotes

ADJECTIVES = {"consistency": "consistent", "fluency": "fluent"}
"""The adjective of each question."""
NOTES = (
    f"Intervals are of 95%, the percentiles of {BOOTSTRAP_DRAWS:,} bootstrap draws over cases with all their ratings. "
    "Ratio: wins divided by losses. p: exact two-sided sign test, over pages as if these were independent, and over "
    "cases, each of which has the winner of most of its pages; several raters judge the same passages, so believe the "
    "latter. No correction for several pairs.",
    "alpha: Krippendorff's, of the ranks, ordinal; 1 is perfect agreement, 0 what chance gives.",
)
"""The explanations of the figures, which are printed below the tables."""


@dataclass(frozen=True, slots=True)
class Grid:
    """A table of texts with a title; the first column names its rows."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def grids_of(votes: Mapping[str, QuestionVotes]) -> Iterator[Grid]:
    """Yield the tables of each question: votes by system, then pairs of systems."""
    for question, answers in votes.items():
        about = f"{question} (pages {answers.pages}, cases {answers.cases}, raters {answers.raters})"
        shown = tuple(place for place in PLACES if place != "middle" or len(answers.votes) > 2)
        rows = tuple((system, *(str(counts[place]) for place in shown)) for system, counts in answers.votes.items())
        alpha = f"; alpha {_interval(answers.alpha)}" if answers.alpha else ""
        adjective = ADJECTIVES[question]
        named = (place if place == "middle" else f"{place} {adjective}" for place in shown)
        yield Grid(f"{about}{alpha}", ("system", *named), rows)
        ties = any(pair.ties for pair in answers.pairs)
        results = ("wins", "losses", "neither") if ties else ("wins", "losses")
        heads = ("pair", *results, "ratio", "share of wins", "p pages", "p cases")
        yield Grid(f"{question}, pairwise", heads, tuple(_pair(pair, ties) for pair in answers.pairs))


def as_markdown(votes: Mapping[str, QuestionVotes]) -> str:
    """Return the tables and the explanations below them as Markdown."""
    parts = ["\n".join(_markdown(grid)) for grid in grids_of(votes)]
    return "\n\n".join([*parts, "\n".join(f"- {plain(note)}" for note in NOTES)])


def _markdown(grid: Grid) -> Iterator[str]:
    yield f"{plain(grid.title[0].upper() + grid.title[1:])}:\n"
    yield bars([plain(head) for head in grid.heads])
    yield bars(["---", *("---:" for _ in grid.heads[1:])])
    for row in grid.rows:
        yield bars([plain(cell) for cell in row])


def _pair(pair: PairVotes, ties: bool) -> tuple[str, ...]:
    return (
        f"{pair.first} over {pair.other}",
        str(pair.wins),
        str(pair.losses),
        *([str(pair.ties)] if ties else []),
        "" if pair.ratio is None else f"{pair.ratio:.1f}",
        _interval(pair.share) if pair.share else "",
        _p(pair.p_pages),
        _p(pair.p_cases),
    )


def _interval(interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return f"{interval.value:.2f}"
    return f"{interval.value:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else f"{value:.0e}"
