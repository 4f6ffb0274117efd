"""Figures over scored cases: the paper's metrics (section 3.4) with their intervals. No model is needed."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from cfbuild.data import CaseScore, PromptScore, StageScore
from cfbuild.records.kinds import KINDS

Z_95 = 1.96
"""Standard deviations of a 95% interval (paper, Table 4)."""
BOOTSTRAP_DRAWS = 1000
"""Resamples of the cases from which the interval of S is taken."""
BOOTSTRAP_SEED = 0
DIGITS = 4
"""Decimals of a figure: two batch sizes agree on no more."""
PERCENT = 100.0
"""The scale of shares and of differences of probabilities, as in the paper's tables."""
HALF = 50.0
"""The share of prompts, times 100, on which one of two objects wins by chance."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure of each case: the mean of `of` over the prompts of a group, reported times `scale`.

    `meaning` is a line of text for tables. Below `fails_below`, times `scale` too, the wrong object wins (None: the
    figure has no such limit). `stays` is true if the right object is the one that the model should have said before.
    `scale` is 100 for shares and differences of probabilities, 1 for a figure in units of its own.
    """

    name: str
    group: str
    of: Callable[[PromptScore], float]
    meaning: str
    fails_below: float | None = None
    stays: bool = False
    scale: float = PERCENT


def _new_wins(score: PromptScore) -> float:
    return float(score.target_true_nll > score.target_new_nll)


def _new_margin(score: PromptScore) -> float:
    return math.exp(-score.target_new_nll) - math.exp(-score.target_true_nll)


def _true_wins(score: PromptScore) -> float:
    return float(score.target_true_nll < score.target_new_nll)


METRICS = (
    Metric("ES", "rewrite", _new_wins, "efficacy: o* likelier than the true object after the rewrite prompt", HALF),
    Metric("EM", "rewrite", _new_margin, "efficacy margin: P(o*) − P(true)", 0.0),
    Metric("PS", "paraphrase", _new_wins, "paraphrase score: the same after paraphrases", HALF),
    Metric("PM", "paraphrase", _new_margin, "paraphrase margin", 0.0),
    Metric(
        "NS",
        "neighborhood",
        _true_wins,
        "neighborhood score: true object likelier after prompts about neighbors",
        HALF,
        stays=True,
    ),
    Metric(
        "NM",
        "neighborhood",
        lambda score: -_new_margin(score),
        "neighborhood margin: P(true) − P(o*)",
        0.0,
        stays=True,
    ),
    Metric(
        "rewrite_exact",
        "rewrite",
        lambda score: float(score.target_new_argmax),
        "o* is what greedy decoding says after the rewrite prompt",
    ),
    Metric(
        "paraphrase_exact",
        "paraphrase",
        lambda score: float(score.target_new_argmax),
        "the same after paraphrases",
    ),
    Metric(
        "neighborhood_exact",
        "neighborhood",
        lambda score: float(score.target_true_argmax),
        "greedy decoding says the true object about neighbours",
    ),
    *(
        Metric(name, name, _true_wins if group.stays_true else _new_wins, group.meaning, HALF, group.stays_true)
        for name, group in KINDS.items()
    ),
)
MARGINS = frozenset(metric.name for metric in METRICS if metric.fails_below == 0.0)
"""The metrics whose sign says who wins; those times PERCENT lie between -100 and 100, and all others are shares."""
TEXT_METRICS = {
    "GE": "generation_entropy",
    "RS": "reference_score",
    "generation_mentions": "mentions_target_new",
    "distinct_1": "distinct_1",
    "distinct_2": "distinct_2",
    "in_use_rewrite": "in_use_rewrite",
    "in_use_paraphrase": "in_use_paraphrase",
}
"""Figures that are computed once a case from its texts and answers: name -> field of StageScore."""
PERPLEXITY = "perplexity"
"""The perplexity of the fixed text, not times 100; the lower it is, the better."""
HARMONIC = ("ES", "PS", "NS")
"""The metrics whose harmonic mean is S."""


@dataclass(frozen=True, slots=True)
class Figure:
    """The mean of a metric over cases, times its scale (mostly 100), with the half width of its 95% interval.

    `prompts` is the number of prompts of these cases; 0 for a metric that is no mean over prompts.
    """

    mean: float
    half_width: float
    cases: int
    prompts: int = 0


def aggregate(cases: Sequence[CaseScore], stage: str) -> dict[str, Figure]:
    """Return every metric over the cases that have it, S last. stage: `pre` or `post`, which faulty cases have not."""
    prompts = _prompts(cases, stage)
    figures = figures_over(case_values(cases, stage))
    return {name: replace(figure, prompts=prompts.get(name, 0)) for name, figure in figures.items()}


def figures_over(values: Mapping[str, Sequence[float | None]]) -> dict[str, Figure]:
    """Return each metric over the cases that have it, S last. values: each metric's by case, times its scale."""
    figures = {name: _figure([value for value in column if value is not None]) for name, column in values.items()}
    figures = {name: figure for name, figure in figures.items() if figure.cases}
    harmonic = _harmonic_figure(values)
    return {**figures, "S": harmonic} if harmonic else figures


def means(cases: Sequence[CaseScore], stage: str) -> dict[str, float]:
    """Return the means of `aggregate`, without its intervals, whose bootstrap takes long. stage: `pre` or `post`."""
    values = case_values(cases, stage)
    rows = _harmonic_rows(values)
    known = {name: [value for value in column if value is not None] for name, column in values.items()}
    found = {name: float(np.mean(column)) for name, column in known.items() if column}
    return {**found, "S": _harmonic_mean(rows.mean(axis=0))} if len(rows) else found


def case_values(cases: Sequence[CaseScore], stage: str) -> dict[str, list[float | None]]:
    """Return each metric of each case at a stage, `pre` or `post`, times its scale, or None."""
    stages = [getattr(case, stage) for case in cases]
    values = prompt_values(stages)
    for name, attribute in TEXT_METRICS.items():
        values[name] = [_times_100(getattr(scores, attribute)) if scores else None for scores in stages]
    values[PERPLEXITY] = [scores.perplexity if scores else None for scores in stages]
    return values


def prompt_values(stages: Sequence[StageScore | None]) -> dict[str, list[float | None]]:
    """Return each metric over prompts, times its scale, of each case's scores in `stages`; None without any."""
    return {metric.name: [_mean(metric, scores) for scores in stages] for metric in METRICS}


class FigureColumn:
    """A figure of each case, or None, kept in eight bytes."""

    def __init__(self) -> None:
        self._figures = array("d")  # no figure is NaN, so NaN can mean None

    def extend(self, figures: Iterable[float | None]) -> None:
        """Add the figures of further cases."""
        self._figures.extend(math.nan if figure is None else figure for figure in figures)

    def __getitem__(self, place: int) -> float | None:
        figure = self._figures[place]
        return None if math.isnan(figure) else figure


@dataclass(frozen=True, slots=True)
class CaseValues:
    """Each metric of each case, as `case_values` gives it, and the cases' ids, by which two runs are paired."""

    case_ids: array[int] = field(default_factory=lambda: array("q"))
    values: dict[str, FigureColumn] = field(default_factory=dict)

    @classmethod
    def of(cls, cases: Sequence[CaseScore]) -> CaseValues:
        """Return the values of a run's cases after their edits."""
        values = cls()
        values.add(cases)
        return values

    def add(self, cases: Sequence[CaseScore]) -> dict[str, list[float | None]]:
        """Return the values of further cases after their edits, which are added."""
        values = case_values(cases, "post")
        self.extend([case.case_id for case in cases], values)
        return values

    def extend(self, case_ids: Iterable[int], values: Mapping[str, Iterable[float | None]]) -> None:
        """Add the values of further cases by metric."""
        self.case_ids.extend(case_ids)
        for name, column in values.items():
            self.values.setdefault(name, FigureColumn()).extend(column)


def paired_differences(first: CaseValues, second: CaseValues) -> dict[str, Figure]:
    """Return each metric of `second` minus that of `first`, record by record, over the records for which both have it.

    Its interval is narrower than those of the two means, as a record that is hard for the first run is hard for the
    second. S, which no record has by itself, is bootstrapped over the records that both have, as in `aggregate`.
    """
    places = {case_id: place for place, case_id in enumerate(first.case_ids)}
    both = [(places[case_id], place) for place, case_id in enumerate(second.case_ids) if case_id in places]

    def pairs(name: str) -> Iterator[tuple[float | None, float | None]]:
        return ((first.values[name][i], second.values[name][j]) for i, j in both)

    figures = {
        name: _figure([new - old for old, new in pairs(name) if old is not None and new is not None])
        for name in second.values
        if name in first.values
    }
    figures = {name: figure for name, figure in figures.items() if figure.cases}
    olds, news = ({name: [pair[side] for pair in pairs(name)] for name in HARMONIC} for side in (0, 1))
    harmonic = _harmonic_difference(olds, news)
    return {**figures, "S": harmonic} if harmonic else figures


def _harmonic_difference(
    olds: Mapping[str, Sequence[float | None]], news: Mapping[str, Sequence[float | None]]
) -> Figure | None:
    rows = [
        (*old, *new)
        for old, new in zip(
            *(zip(*(values[name] for name in HARMONIC), strict=True) for values in (olds, news)), strict=True
        )
        if None not in old and None not in new
    ]
    table = np.array(rows, dtype=float).reshape(-1, 2 * len(HARMONIC))
    return _bootstrapped(
        table, lambda means: _harmonic_mean(means[len(HARMONIC) :]) - _harmonic_mean(means[: len(HARMONIC)])
    )


def _prompts(cases: Sequence[CaseScore], stage: str) -> dict[str, int]:
    """Return the number of prompts that each metric of METRICS is over."""
    stages = [scores for case in cases if (scores := getattr(case, stage)) is not None]
    return {metric.name: sum(len(scores.prompts.get(metric.group, ())) for scores in stages) for metric in METRICS}


def _mean(metric: Metric, stage: StageScore | None) -> float | None:
    scores = stage.prompts.get(metric.group) if stage else None
    return metric.scale * sum(map(metric.of, scores)) / len(scores) if scores else None


def _times_100(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _figure(values: Sequence[float]) -> Figure:
    if not values:
        return Figure(0.0, 0.0, 0)
    return Figure(float(np.mean(values)), float(Z_95 * np.std(values) / math.sqrt(len(values))), len(values))


def _harmonic_figure(values: Mapping[str, Sequence[float | None]]) -> Figure | None:
    """Return S with a bootstrap interval over cases, as S has no value of each case; None without a case."""
    return _bootstrapped(_harmonic_rows(values), _harmonic_mean)


def _bootstrapped(table: np.ndarray, figure: Callable[[np.ndarray], float]) -> Figure | None:
    """Return `figure` of the means of a table's columns, its interval by resampling the rows, the cases."""
    if not len(table):
        return None
    draw = np.random.RandomState(BOOTSTRAP_SEED)  # the one generator of numpy whose draws never change
    samples = [figure(table[draw.randint(len(table), size=len(table))].mean(axis=0)) for _ in range(BOOTSTRAP_DRAWS)]
    low, high = np.percentile(samples, [2.5, 97.5])
    return Figure(figure(table.mean(axis=0)), float(high - low) / 2, len(table))


def _harmonic_rows(values: Mapping[str, Sequence[float | None]]) -> np.ndarray:
    """Return the parts of S of the cases that have all of them: [cases, 3]."""
    rows = [row for row in zip(*(values[name] for name in HARMONIC), strict=True) if None not in row]
    return np.array(rows, dtype=float).reshape(-1, len(HARMONIC))


def _harmonic_mean(parts: np.ndarray) -> float:
    return 0.0 if (parts <= 0).any() else float(len(parts) / (1 / parts).sum())


def rounded(figures: Mapping[str, Figure]) -> dict[str, Figure]:
    """Return the figures rounded to DIGITS."""
    return {
        name: replace(figure, mean=round(figure.mean, DIGITS), half_width=round(figure.half_width, DIGITS))
        for name, figure in figures.items()
    }


def figures_of(row: Mapping[str, Any]) -> dict[str, Figure]:
    """Return the figures of an object in report.json."""
    return {
        name: Figure(
            float(figure["mean"]), float(figure["half_width_95"]), int(figure["cases"]), int(figure.get("prompts", 0))
        )
        for name, figure in row.items()
    }


def figures_as_dict(figures: Mapping[str, Figure]) -> dict[str, dict[str, float | int]]:
    """Return figures for JSON."""
    return {
        name: {
            "mean": figure.mean,
            "half_width_95": figure.half_width,
            "cases": figure.cases,
            **({"prompts": figure.prompts} if figure.prompts else {}),
        }
        for name, figure in figures.items()
    }
