"""Drawings of causal traces: heat maps in the paper's colours, and curves over the layers with their intervals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from cfbuild.probe.effects import AverageEffects, CausalTrace, Curve
from cfbuild.probe.settings import ATTENTION, KINDS, MLP, PROBABILITY, SEVERED_KINDS, STATE
from cfbuild.text.safe import visible
from cfbuild.views.page.drawing import (
    BOTTOM,
    RIGHT,
    ROW,
    TOP,
    WIDTH,
    Plot,
    Scale,
    axis_x,
    axis_y,
    band,
    path,
    scale,
    svg,
    svg_file,
    tenths,
    text,
)

RAMPS = {
    STATE: ("#fcfbfd", "#dadaeb", "#9e9ac8", "#6a51a3", "#3f007d"),
    MLP: ("#f7fcf5", "#c7e9c0", "#74c476", "#238b45", "#00441b"),
    ATTENTION: ("#fff5f0", "#fcbba1", "#fb6a4a", "#cb181d", "#67000d"),
}
"""The colours from the lowest to the highest value: ColorBrewer's Purples, Greens and Reds, as in the paper."""
LINES = {STATE: "#7d63b8", MLP: "#2a9150", ATTENTION: "#d8352f"}
"""Colours of curves, visible on light and dark pages."""
DASHES = ("", "6 3", "2 3")
NAMES = {STATE: "state", MLP: "MLP", ATTENTION: "attention"}
CURVES_AT = ("last subject", "first subject", "last")
"""The tokens that have a curve over the layers."""
LABELS, BAR = 118, 46
"""User units for the tokens' names on the left, and for the colour bar on the right."""
CELL, CURVE_HEIGHT, BAR_STEPS = 15, 240, 24
LONGEST_LABEL = 15
AVERAGE = "average"


@dataclass(frozen=True, slots=True)
class TraceView:
    """Causal traces as the page shows them: their name, a summary in a sentence, and the plots."""

    name: str
    summary: str
    plots: Sequence[Plot]


def trace_view(name: str, traces: Sequence[CausalTrace], metric: str, pictures: int) -> TraceView | None:
    """Return finished traces of a metric as the page shows them, with heat maps of the first `pictures`, or None."""
    if not traces:
        return None
    average = AverageEffects.of(traces)
    mean, half_width = average.total
    measured = "probability" if metric == PROBABILITY else "logit difference"
    summary = (
        f"{average.facts:,} facts. Total effect of the corruption {mean:.3f} ± {half_width:.3f}: the {measured} of "
        f"the answer is {average.high:.3f} in the clean run and {average.low:.3f} in the corrupted one."
    )
    if average.correlations:
        values = ", ".join(f"{NAMES[kind]} {value:.2f}" for kind, value in average.correlations.items())
        summary += f" Correlation of attributed with exact effects: {values}."
    plots = [plot for _, plot in _plots(traces[:pictures], average, metric)]
    return TraceView(name, summary, plots)


def drawings(traces: Sequence[CausalTrace], average: AverageEffects, metric: str) -> Iterator[tuple[str, list[str]]]:
    """Yield (name, [content]) of each SVG file: heat maps of traces of a metric and of their averages, and curves."""
    for name, plot in _plots(traces, average, metric):
        yield f"{name}.svg", [svg_file([plot])]


def heat_map_of(trace: CausalTrace, kind: str, metric: str) -> str:
    """Return the content of an SVG file with a trace's heat map of a kind, such as STATE. metric: what it measures."""
    return svg_file([_fact_map(trace, kind, trace.maps[kind] + trace.low, metric)])


def _plots(traces: Sequence[CausalTrace], average: AverageEffects, metric: str) -> Iterator[tuple[str, Plot]]:
    for kind in (kind for kind in KINDS if kind in average.curves):
        yield f"{AVERAGE}-{kind}", _mean_map(average, kind)
        yield f"curves-{kind}", _curves(average, kind)
    if set(SEVERED_KINDS) <= average.curves.keys() and STATE in average.curves:
        yield "severed", _severed(average)
    for trace in traces:
        for kind, effects in trace.maps.items():
            yield f"{kind}-{trace.case_id}", _fact_map(trace, kind, effects + trace.low, metric)


def _layer_label(kind: str) -> str:
    return "single restored layer" if kind == STATE else f"middle of the restored window of {NAMES[kind]} layers"


def _fact_map(trace: CausalTrace, kind: str, scores: np.ndarray, metric: str) -> Plot:
    begin, end = trace.subject
    labels = [f"{token.strip() or token}*" if begin <= i < end else token for i, token in enumerate(trace.tokens)]
    answer = visible(trace.answer.strip())
    unit = f"p({answer})" if metric == PROBABILITY else "logits"
    low, high = trace.low, max(float(scores.max()), trace.low)
    token, layer = (int(place) for place in np.unravel_index(scores.argmax(), scores.shape))
    caption = (
        f"{visible(trace.prompt)}: {answer}, {trace.high:.3f} in the clean run and {trace.low:.3f} in the corrupted one"
        f"{f' (about {visible(trace.swapped)})' if trace.swapped else ''}. Highest {scores.max():.3f}, restoring "
        f"{visible(trace.tokens[token].strip())} at layer {layer}. Tokens of the subject have a star."
    )
    title = f"Restored {NAMES[kind]}: {visible(trace.subject_label)}"
    return Plot(title, caption, _heat_map(labels, scores, (low, high), kind, unit))


def _mean_map(average: AverageEffects, kind: str) -> Plot:
    curves = average.curves[kind]
    values = np.stack([curve.mean for curve in curves.values()])
    place, curve = max(curves.items(), key=lambda item: float(item[1].mean.max()))
    caption = (
        f"Mean indirect effect by the place of the token, {average.facts:,} facts, clipped at 0. Highest at the "
        f"{place} token, layer {curve.best}: {curve.mean.max():.3f} ± {curve.half_width[curve.best]:.3f}."
    )
    labels = [f"{name}*" if "subject" in name else name for name in curves]
    drawn = _heat_map(labels, values.clip(min=0), (0.0, max(float(values.max()), 0.0)), kind, "effect")
    return Plot(f"Average indirect effect, {NAMES[kind]}", caption, drawn)


def _heat_map(labels: Sequence[str], values: np.ndarray, ends: tuple[float, float], kind: str, unit: str) -> Markup:
    """Return a heat map of values, [labels, layers], and its colour bar, which goes from `ends[0]` to `ends[1]`."""
    rows, layers = values.shape
    height = TOP + CELL * rows + BOTTOM
    across = scale(0, layers, LABELS, WIDTH - RIGHT - BAR)
    cell = across(1) - across(0)
    parts = []
    for row, label in enumerate(labels):
        y = TOP + CELL * row
        parts.append(text(LABELS - 5, y + CELL - 4, _short(label), "end"))
        for layer in range(layers):
            colour = _colour(kind, _share(values[row, layer], ends))
            parts.append(_cell(across(layer), y, cell, CELL, colour, f"{values[row, layer]:.3f}"))
    base = TOP + CELL * rows
    ticks = range(0, layers, max(1, 5 * round(layers / 30)))
    parts += [text(across(tick + 0.5), base + 15, str(tick), "middle") for tick in ticks]
    parts.append(text((across(0) + across(layers)) / 2, height - 6, _layer_label(kind), "middle"))
    return svg(height, [*parts, *_colour_bar(kind, ends, base, unit)])


def _colour_bar(kind: str, ends: tuple[float, float], base: float, unit: str) -> Iterator[Markup]:
    left, step = WIDTH - RIGHT - BAR + 10, (base - TOP) / BAR_STEPS
    for place in range(BAR_STEPS):
        colour = _colour(kind, (place + 0.5) / BAR_STEPS)
        yield _cell(left, base - step * (place + 1), 9, step, colour, "")
    yield text(left + 12, TOP + 9, f"{ends[1]:.2f}", "start")
    yield text(left + 12, base, f"{ends[0]:.2f}", "start")
    yield text(WIDTH - 4, base + 15, unit if len(unit) <= LONGEST_LABEL else f"{unit[: LONGEST_LABEL - 1]}…", "end")


def _curves(average: AverageEffects, kind: str) -> Plot:
    curves = {place: curve for place, curve in average.curves[kind].items() if place in CURVES_AT}
    drawn = [(place, curve, LINES[kind], DASHES[CURVES_AT.index(place)]) for place, curve in curves.items()]
    title = f"Average indirect effect over the layers, {NAMES[kind]}"
    return _over_layers(title, drawn, _layer_label(kind))


def _severed(average: AverageEffects) -> Plot:
    last = "last subject"
    drawn = [("state", average.curves[STATE][last], LINES[STATE], "")]
    for name, kind in SEVERED_KINDS.items():
        drawn.append((f"{NAMES[kind]} severed", average.curves[name][last], LINES[kind], DASHES[1]))
    return _over_layers("State restored at the last subject token, paths severed", drawn, "single restored layer")


def _over_layers(title: str, drawn: Sequence[tuple[str, Curve, str, str]], label: str) -> Plot:
    """Return a plot of curves over the layers with 95% intervals. drawn: (name, curve, colour, dash)."""
    layers = len(drawn[0][1].mean)
    low = min(0.0, *(float((curve.mean - curve.half_width).min()) for _, curve, _, _ in drawn))
    high = max(1e-6, *(float((curve.mean + curve.half_width).max()) for _, curve, _, _ in drawn))
    across = scale(0, max(layers - 1, 1), 50, WIDTH - RIGHT - 6)
    up = scale(low, high, CURVE_HEIGHT - BOTTOM, TOP + ROW)
    ticks = tuple(dict.fromkeys((0, (layers - 1) // 2, layers - 1)))
    parts = [
        axis_x(across, ticks, CURVE_HEIGHT, label),
        axis_y(up, (low, 0, high) if low < -high / 5 else (0, high), "indirect effect", "{:.2g}".format),
    ]
    for place, (name, curve, colour, dash) in enumerate(drawn):
        parts += _banded(across, up, curve, colour, dash)
        x = 54 + 122 * place
        parts.append(_stroke([(x, TOP), (x + 20, TOP)], colour, dash))
        parts.append(text(x + 24, TOP + 4, name, "start"))
    highest = "; ".join(
        f"{name}: highest {curve.mean.max():.3f} ± {curve.half_width[curve.best]:.3f} at layer {curve.best}"
        for name, curve, _, _ in drawn
    )
    return Plot(title, f"{highest}. Bands are 95% intervals.", svg(CURVE_HEIGHT, parts))


def _banded(across: Scale, up: Scale, curve: Curve, colour: str, dash: str) -> list[Markup]:
    points = zip(curve.mean, curve.half_width, strict=True)
    outline = band(across, up, [(x, mean - width, mean + width) for x, (mean, width) in enumerate(points)])
    polygon = Markup('<polygon fill="{}" fill-opacity="0.13" points="{}"/>').format(colour, outline)
    return [polygon, _stroke([(across(x), up(y)) for x, y in enumerate(curve.mean)], colour, dash)]


def _stroke(points: Iterable[tuple[float, float]], colour: str, dash: str) -> Markup:
    return Markup('<polyline fill="none" stroke="{}" stroke-width="2" stroke-dasharray="{}" points="{}"/>').format(
        colour, dash or "none", path(points)
    )


def _cell(x: float, y: float, width: float, height: float, colour: str, hint: str) -> Markup:
    title = Markup("<title>{}</title>").format(hint) if hint else Markup("")
    # A little larger, so that no seam shows between cells.
    return Markup('<rect x="{}" y="{}" width="{}" height="{}" fill="{}">{}</rect>').format(
        *tenths(x, y), round(width + 0.3, 1), round(height + 0.3, 1), colour, title
    )


def _short(label: str) -> str:
    shown = visible(label).strip() or visible(label)
    return shown if len(shown) <= LONGEST_LABEL else f"{shown[: LONGEST_LABEL - 1]}…"


def _share(value: float, ends: tuple[float, float]) -> float:
    """Return the place of a value between the ends, 0 to 1."""
    low, high = ends
    return float(min(1.0, max(0.0, (value - low) / (high - low)))) if high > low else 0.0


def _colour(kind: str, share: float) -> str:
    return "#{:02x}{:02x}{:02x}".format(*_rgb(kind, share))


def _rgb(kind: str, share: float) -> tuple[int, int, int]:
    """Return red, green and blue, each 0 to 255, of a share, 0 to 1, in the colours of a kind."""
    ramp = RAMPS[kind]
    place = share * (len(ramp) - 1)
    below = min(int(place), len(ramp) - 2)
    ends = ([int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in ramp[below : below + 2])
    red, green, blue = (round(a + (b - a) * (place - below)) for a, b in zip(*ends, strict=True))
    return red, green, blue


def terminal_rows(
    rows: Mapping[str, np.ndarray], ends: tuple[float, float], kind: str
) -> Iterator[tuple[str, list[tuple[tuple[int, int, int], int]]]]:
    """Yield the rows of a heat map for a terminal: a label and, for each layer, (red, green, blue) and a digit, 0 to 9.

    rows: the values by label, [layers]. ends: the values of 0 and of 9. kind: whose colours are used.
    """
    for label, values in rows.items():
        shares = [_share(value, ends) for value in values]
        yield _short(label), [(_rgb(kind, share), min(9, int(share * 10))) for share in shares]
