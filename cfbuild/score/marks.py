"""Marks of the figures in a table that are the best or have clearly failed, by rules on their 95% intervals.

The paper's Table 4 marks the best of each column and clear failures. Here a share of prompts has failed where its whole
interval is below 50, so that the wrong object wins more often than the right one, and a margin where it is below 0. An
edit is blamed for what it should have left alone (NS, NM) only where the unedited model had not failed already.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cfbuild.score.metrics import METRICS, PERPLEXITY, Figure

Figures = Mapping[str, Figure]

BEST, FAILING = "best", "failing"
SIGNS = {BEST: "*", FAILING: "!", "": ""}
"""The sign behind a marked figure in a text without colours."""
RULE = (
    f"{SIGNS[BEST]} best of its column: the highest mean, and each whose 95% interval meets that one's; a run whose ES "
    f"has failed is best in nothing. {SIGNS[FAILING]} failed: the whole interval is below 50 (shares of prompts: the "
    "wrong object wins more often) or below 0 (margins); where the right object should stay likelier (as in NS), only "
    "if the unedited model has not failed too. Of two runs the paired difference says more than these marks."
)
"""The rules in words, a remark of the table."""
EFFICACY = "ES"
"""The metric without which no other counts: an editor that edits nothing leaves everything else alone too."""


def marks_of(runs: Sequence[Figures], unedited: Figures) -> list[dict[str, str]]:
    """Return the marks, BEST or FAILING by figure, of each of a model's runs. unedited: the model's own figures."""
    marks = [_failures(figures, unedited) for figures in runs]
    editing = [place for place, failed in enumerate(marks) if EFFICACY not in failed]
    for name in dict.fromkeys(name for figures in runs for name in figures):
        sound = {i: runs[i][name] for i in editing if name in runs[i] and name not in marks[i]}
        sign = -1 if name == PERPLEXITY else 1
        best = max(sound.values(), key=lambda figure: sign * figure.mean, default=None)
        if best is None or sum(name in figures for figures in runs) < 2:
            continue
        for place, figure in sound.items():
            if sign * (figure.mean - best.mean) + figure.half_width + best.half_width >= 0:
                marks[place][name] = BEST
    return marks


def _failures(figures: Figures, unedited: Figures) -> dict[str, str]:
    found = {}
    for metric in METRICS:
        if metric.fails_below is None or not _is_below(figures.get(metric.name), metric.fails_below):
            continue
        if not (metric.stays and _is_below(unedited.get(metric.name), metric.fails_below)):
            found[metric.name] = FAILING
    return found


def _is_below(figure: Figure | None, limit: float) -> bool:
    return figure is not None and figure.mean + figure.half_width < limit
