"""The page's plots, as inline SVG in the page's colours, each with a caption for those who cannot see it."""

from __future__ import annotations

import math
import random
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from statistics import StatisticsError, correlation, median

from markupsafe import Markup

from cfbuild.data import CaseScore, Record
from cfbuild.edit import TOKENS
from cfbuild.score.curve import CURVES, SequenceCurve
from cfbuild.score.metrics import HARMONIC, MARGINS, Figure
from cfbuild.score.run_report import RelationScores, Report
from cfbuild.score.swept import DRAWN, SweepReport, series_name
from cfbuild.views.page.drawing import (
    BOTTOM,
    LEFT,
    RIGHT,
    ROW,
    TOP,
    WIDTH,
    Plot,
    Scale,
    axis_x,
    axis_y,
    band,
    line,
    polyline,
    scale,
    svg,
    svg_file,
    tenths,
    text,
)

LONG_LABEL = 150
"""User units for the names of rules on the left."""
BINS = 20
HEIGHT = 220
SWEEP_HEIGHT, SERIES = 280, 4
"""The height of a sweep's plots, and the number of curves with a colour and a dash of their own: those of Figure 5."""
CURVE_NAMES = {"right_after": "right after", "first": "the first ones", "so_far": "all so far"}
"""The names of a sequence's curves."""
POINTS = 800
"""The most points of a scatter plot; of more, a seeded sample is drawn."""
ORDER = (
    "by_relation",
    "efficacy",
    "paraphrase",
    "specificity",
    "perplexity",
    "nll_new",
    "nll_true",
    "ranks",
    "norms",
    "drops",
)
"""The keys of all plots, in the order of the page."""


@dataclass(frozen=True, slots=True)
class CasePoints:
    """The numbers of a run's cases that are drawn, in the cases' order: 48 bytes a case.

    `nlls` holds (before the edit, after it) of the rewrite prompt, by target (`target_new_nll`, `target_true_nll`).
    `norms` and `scores` hold the norms of the changes and NS after them, of the cases that have both.
    """

    nlls: Mapping[str, tuple[array[float], array[float]]] = field(
        default_factory=lambda: {name: (array("d"), array("d")) for name in ("target_new_nll", "target_true_nll")}
    )
    norms: array[float] = field(default_factory=lambda: array("d"))
    scores: array[float] = field(default_factory=lambda: array("d"))

    def add(self, case: CaseScore, score: float | None) -> None:
        """Add a case; `score` is its NS after the edit."""
        for name, (before, after) in self.nlls.items():
            if case.pre.prompts.get("rewrite"):
                before.append(getattr(case.pre.prompts["rewrite"][0], name))
            if case.post and case.post.prompts:
                after.append(getattr(case.post.prompts["rewrite"][0], name))
        norm = case.edit.get("delta_norm")
        if score is not None and isinstance(norm, (int, float)) and norm > 0:
            self.norms.append(norm)
            self.scores.append(score)


def run_plots(points: CasePoints, report: Report) -> dict[str, Plot]:
    """Return the plots of a run for which there is data, by their key in ORDER."""
    return _drawn(
        by_relation=_by_relation(report.by_relation),
        nll_new=_nll(*points.nlls["target_new_nll"], "Rewrite prompt: o*", "the false object o*"),
        nll_true=_nll(*points.nlls["target_true_nll"], "Rewrite prompt: true object", "the true object"),
        norms=_norms(points.norms, points.scores),
        **_sequence_plots(report.sequence),
    )


def record_plots(shares: Sequence[float], dropped: Mapping[str, int]) -> dict[str, Plot]:
    """Return plots by key in ORDER: of the `shares` (`rank_shares`) of all records, and of facts `dropped` by rule."""
    return _drawn(ranks=_ranks(shares), drops=_drops(dropped))


def rank_shares(record: Record) -> Iterator[float]:
    """Yield the rank of a record's o* as a share of its pool, 0 to 1, for each model that ranked it."""
    for measured in record.scores.values():
        rank, size = measured.get("target_new_rank"), measured.get("pool_size")
        if isinstance(rank, int) and isinstance(size, int) and size:
            yield min(1.0, rank / size)


def _drawn(**plots: Plot | None) -> dict[str, Plot]:
    return {key: plot for key, plot in plots.items() if plot is not None}


def _by_relation(relations: Mapping[str, RelationScores]) -> Plot | None:
    rows = [(name, scores.means["pre"].get("S"), scores.means["post"].get("S")) for name, scores in relations.items()]
    rows = [row for row in rows if row[1] is not None or row[2] is not None]
    if not rows:
        return None
    height = TOP + ROW * len(rows) + BOTTOM
    across = scale(0, 100, LEFT + 8, WIDTH - RIGHT)
    parts = [axis_x(across, (0, 25, 50, 75, 100), height, "score S, 0 to 100")]
    for place, (name, pre, post) in enumerate(rows):
        y = TOP + ROW * (place + 0.5)
        parts.append(text(LEFT, y + 4, name, "end"))
        if pre is not None and post is not None:
            parts.append(line(across(pre), y, across(post), y, "link"))
        for value, kind in ((pre, "before"), (post, "after")):
            if value is not None:
                parts.append(_mark(across(value), y, kind, f"{name} {kind}: {value:.1f}"))
    after = [row[2] for row in rows if row[2] is not None]
    extremes = f" After the edit S lies between {min(after):.0f} and {max(after):.0f}." if after else ""
    return Plot(
        "Score by relation",
        f"S of each relation before (square) and after (circle) the edit, {len(rows)} relations.{extremes}",
        svg(height, parts),
    )


def _nll(before: Sequence[float], after: Sequence[float], title: str, target: str) -> Plot | None:
    if not before:
        return None
    top = max(1.0, math.ceil(max(chain(before, after))))
    drawn = _histogram({"before": before, "after": after}, top, "NLL, nats per token", f"{top:g}")
    medians = f"{median(before):.2f}" + (f" before and {median(after):.2f} after" if after else " before")
    return Plot(f"{title}, NLL", f"How unlikely {target} is. Median {medians} the edit; lower is likelier.", drawn)


def _ranks(shares: Sequence[float]) -> Plot | None:
    if not shares:
        return None
    return Plot(
        "Rank of o* in its pool, before the edit",
        f"0 is the likeliest object of the relation, 1 the least likely. Lowest {min(shares):.2f}, "
        f"median {median(shares):.2f}, over {len(shares):,} records.",
        _histogram({"before": shares}, 1.0, "rank as a share of the pool", "1"),
    )


def _sequence_plots(curve: SequenceCurve | None) -> dict[str, Plot]:
    """Return the plots over the number of edits of a sequence, by their key in ORDER; none without a sequence."""
    if curve is None:
        return {}
    names = zip(("efficacy", "paraphrase", "specificity"), HARMONIC, strict=True)
    return _drawn(**{key: _over_edits(curve, name) for key, name in names}, perplexity=_perplexity(curve))


def curves_svg(curve: SequenceCurve) -> str:
    """Return a sequence's plots below each other as an SVG file of its own."""
    return svg_file([*_sequence_plots(curve).values()])


def _over_edits(curve: SequenceCurve, figure: str) -> Plot | None:
    lines = {
        name: [(point.edits, means[figure]) for point in curve.points if figure in (means := getattr(point, name))]
        for name in CURVES
    }
    if not any(lines.values()):
        return None
    (across, axis), up = _edits_axis(curve), scale(0, 100, HEIGHT - BOTTOM, TOP + ROW)
    parts = [axis, axis_y(up, (0, 50, 100), figure)]
    for place, (name, points) in enumerate(lines.items()):
        kind = name.replace("_", "-")
        parts.append(polyline([(across(x), up(y)) for x, y in points], kind))
        parts.append(line(LEFT + 110 * place, TOP, LEFT + 110 * place + 16, TOP, f"curve {kind}"))
        parts.append(text(LEFT + 110 * place + 20, TOP + 4, CURVE_NAMES[name], "start"))
    retained = curve.retained.get(figure)
    at_the_end = f" At the end {retained.mean:.1f} for all that none overwrote." if retained else ""
    ends = "; ".join(
        f"{CURVE_NAMES[name]}: {points[0][1]:.1f} to {points[-1][1]:.1f}" for name, points in lines.items() if points
    )
    return Plot(f"{figure} over the edits", f"{ends}.{at_the_end}", svg(HEIGHT, parts))


def _perplexity(curve: SequenceCurve) -> Plot | None:
    points = [(reading.edits, reading.perplexity) for reading in curve.readings if reading.perplexity is not None]
    if curve.unedited_perplexity is not None:
        points.insert(0, (0, curve.unedited_perplexity))
    if not points:
        return None
    values = [math.log10(value) for _, value in points]
    low, high = math.floor(min(values)), max(math.ceil(max(values)), math.floor(min(values)) + 1)
    (across, axis), up = _edits_axis(curve), scale(low, high, HEIGHT - BOTTOM, TOP + 4)
    parts = [
        axis,
        axis_y(up, range(low, high + 1), "perplexity (log scale)", lambda value: f"{10**value:.3g}"),
        polyline([(across(edits), up(value)) for (edits, _), value in zip(points, values, strict=True)], "right-after"),
    ]
    caption = f"Of a fixed text, a sign of collapse: {points[0][1]:,.1f} at first, {points[-1][1]:,.1f} at the end."
    return Plot("Perplexity over the edits", f"{caption} {curve.fault or ''}".strip(), svg(HEIGHT, parts))


def _edits_axis(curve: SequenceCurve) -> tuple[Scale, Markup]:
    last = curve.readings[-1].edits
    across = scale(0, last, LEFT + 6, WIDTH - RIGHT - 6)
    return across, axis_x(across, (0, last // 2, last) if last > 1 else (0, last), HEIGHT, "edits")


def _norms(norms: Sequence[float], scores: Sequence[float]) -> Plot | None:
    count = len(norms)
    if count < 2:
        return None
    shown = range(count) if count <= POINTS else random.Random("points").sample(range(count), POINTS)
    low, high = (math.log10(edge(norms)) for edge in (min, max))
    high = max(high, low + 0.1)
    across, up = scale(low, high, LEFT + 6, WIDTH - RIGHT - 6), scale(0, 100, HEIGHT - BOTTOM, TOP + 4)
    ticks = [low + (high - low) * share for share in (0, 0.5, 1)]
    parts = [
        axis_x(across, ticks, HEIGHT, "norm of the weight change (log scale)", lambda value: f"{10**value:.3g}"),
        axis_y(up, (0, 50, 100), "NS"),
        *(
            Markup('<circle class="point" cx="{}" cy="{}" r="3.5"/>').format(
                *tenths(across(math.log10(norms[place])), up(scores[place]))
            )
            for place in shown
        ),
    ]
    try:
        alike = correlation(array("d", map(math.log10, norms)), scores)
    except StatisticsError:  # all norms or all scores are the same
        alike = 0.0
    sample = f", a sample of {POINTS} of" if count > POINTS else ","
    caption = (
        f"Each point is an edit{sample} {count:,} edits. To the right: larger changes of the weights. "
        f"Below: neighbours damaged. Correlation {alike:+.2f}."
    )
    return Plot("Edit norm against specificity", caption, svg(HEIGHT, parts))


def _drops(dropped: Mapping[str, int]) -> Plot | None:
    rows = sorted(dropped.items(), key=lambda row: (-row[1], row[0]))
    if not rows:
        return None
    height = TOP + ROW * len(rows) + 8
    across = scale(0, max(count for _, count in rows), LONG_LABEL, WIDTH - 60)
    parts = []
    for place, (name, count) in enumerate(rows):
        y = TOP + ROW * place
        parts.append(text(LONG_LABEL - 6, y + 14, name, "end"))
        parts.append(_bar(LONG_LABEL, y + 3, across(count) - LONG_LABEL, ROW - 6, "after", f"{name}: {count}"))
        parts.append(text(across(count) + 5, y + 14, f"{count:,}", "start"))
    total = sum(dropped.values())
    return Plot(
        "Why facts were dropped", f"{total:,} facts became no record; the rule that said so.", svg(height, parts)
    )


def sweep_plots(report: SweepReport, trace: Sequence[tuple[int, float]] = ()) -> list[Plot]:
    """Return the plots of a sweep's figures over the layers, a curve a series, with bands of 95% intervals.

    trace: (layer, mean) of a causal trace's indirect effect, drawn with them, its peak at the top.
    """
    return [plot for name in DRAWN if (plot := _over_layers(report, name, trace)) is not None]


def sweep_svg(report: SweepReport, figure: str) -> str | None:
    """Return the plot of a sweep's `figure`, such as S, as an SVG file of its own; None where no point has it."""
    plot = _over_layers(report, figure, ())
    return None if plot is None else svg_file([plot])


def _over_layers(report: SweepReport, name: str, trace: Sequence[tuple[int, float]]) -> Plot | None:
    curves = {series_name(series): curve for series in report.series if (curve := report.curve(series, name))}
    if not curves:
        return None
    figures = [figure for curve in curves.values() for _, figure in curve]
    # The axis ends at multiples of 25 around the bands; of the figures only margins may be below 0.
    least = -100 if name in MARGINS else 0
    low = max(least, min(0, *(25 * math.floor((figure.mean - figure.half_width) / 25) for figure in figures)))
    high = max(25, *(25 * math.ceil(min(figure.mean + figure.half_width, 100) / 25) for figure in figures))
    top = TOP + ROW * (1 + (len(curves) + bool(trace)) // 2)
    across = scale(report.layers[0], report.layers[-1], LEFT + 6, WIDTH - RIGHT - 6)
    up = scale(low, high, SWEEP_HEIGHT - BOTTOM, top)
    ends = report.layers[0], (report.layers[0] + report.layers[-1]) // 2, report.layers[-1]
    step = 25 if high - low <= 100 else 50
    ticks = range(step * math.ceil(low / step), high + 1, step)
    parts = [axis_x(across, tuple(dict.fromkeys(ends)), SWEEP_HEIGHT, "layer"), axis_y(up, ticks, name)]
    if before := report.before.get(name):
        parts.append(line(across(ends[0]), up(before.mean), across(ends[-1]), up(before.mean), "was"))
    for place, (series, curve) in enumerate(curves.items()):
        parts += _banded(across, up, curve, f"series-{place % SERIES}", least)
        parts += _key_entry(place, TOKENS.get(series, f"at most {series}"), f"curve series-{place % SERIES}")
    if trace:
        parts += _trace_curve(across, up, trace, len(curves))
    highest = "; ".join(_highest(series, curve) for series, curve in curves.items())
    baseline = f" Unedited (dotted): {before.mean:.1f}." if before else ""
    return Plot(f"{name} over the layers", f"{highest}.{baseline}", svg(SWEEP_HEIGHT, parts))


def _banded(across: Scale, up: Scale, curve: Sequence[tuple[int, Figure]], kind: str, least: float) -> list[Markup]:
    """Return the band of a curve's intervals, cut at `least` and at 100, and the curve over it."""
    intervals = [
        (x, max(least, figure.mean - figure.half_width), min(100, figure.mean + figure.half_width))
        for x, figure in curve
    ]
    polygon = Markup('<polygon class="band {}" points="{}"/>').format(kind, band(across, up, intervals))
    return [polygon, polyline([(across(x), up(figure.mean)) for x, figure in curve], kind)]


def _trace_curve(across: Scale, up: Scale, trace: Sequence[tuple[int, float]], place: int) -> list[Markup]:
    """Return a trace's curve with its peak at the plot's top, and its entry in the key."""
    layer, peak = max(trace, key=lambda point: point[1])
    up_to_peak = scale(0, peak, up(0), TOP + ROW * (1 + (place + 1) // 2))
    drawn = polyline([(across(x), up_to_peak(max(mean, 0))) for x, mean in trace], "trace")
    return [drawn, *_key_entry(place, f"trace: {peak:.3g} at layer {layer}", "curve trace")]


def _key_entry(place: int, name: str, kind: str) -> list[Markup]:
    """Return entry number `place` of a plot's key, which has two in a row."""
    x, y = LEFT + (WIDTH - LEFT) * 0.54 * (place % 2), TOP + ROW * (place // 2)
    return [line(x, y, x + 22, y, kind), text(x + 26, y + 4, name, "start")]


def _highest(name: str, curve: Sequence[tuple[int, Figure]]) -> str:
    layer, best = max(curve, key=lambda point: point[1].mean)
    return f"{name}: highest {best.mean:.1f} ± {best.half_width:.1f} at layer {layer}"


def _histogram(series: Mapping[str, Sequence[float]], top: float, label: str, last: str) -> Markup:
    """Return bars of the number of values in each of BINS bins from 0 to `top`, whose tick says `last`."""
    counts = {
        name: Counter(min(BINS - 1, max(0, int(value / top * BINS))) for value in values)
        for name, values in series.items()
    }
    most = max(1, *(count for bins in counts.values() for count in bins.values()))
    across, up = scale(0, BINS, LEFT, WIDTH - RIGHT), scale(0, most, HEIGHT - BOTTOM, TOP + 4)
    ticks = (0, BINS / 2, BINS)
    parts = [
        axis_x(across, ticks, HEIGHT, label, lambda tick: f"{top * tick / BINS:g}" if tick < BINS else last),
        axis_y(up, (0, most), "records"),
    ]
    width = (across(1) - across(0) - 1) / len(counts)
    for place, (name, bins) in enumerate(counts.items()):
        for number, count in sorted(bins.items()):
            x, y = across(number) + width * place, up(count)
            hint = f"{name}, {top * number / BINS:.3g} to {top * (number + 1) / BINS:.3g}: {count}"
            parts.append(_bar(x, y, width, HEIGHT - BOTTOM - y, name, hint))
    return svg(HEIGHT, parts)


def _bar(x: float, y: float, width: float, height: float, kind: str, hint: str) -> Markup:
    return Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>').format(
        kind, *tenths(x, y), *tenths(max(width, 0.5), max(height, 0.5)), hint
    )


def _mark(x: float, y: float, kind: str, hint: str) -> Markup:
    if kind == "before":
        return _bar(x - 4, y - 4, 8, 8, kind, hint)
    return Markup('<circle class="{}" cx="{}" cy="{}" r="4.5"><title>{}</title></circle>').format(
        kind, *tenths(x, y), hint
    )
