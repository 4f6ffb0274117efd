"""The parts of the page's drawings: scales, axes, lines and texts as SVG, and SVG files of plots.

Lengths, places and heights are in user units of SVG; y grows downwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH = 420
"""The width of every plot: on a phone a user unit is nearly a pixel, so text stays readable."""
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 10, 40
"""The margins around the axes of a plot."""
ROW = 20
"""The height of a row of bars, or of a plot's key."""
TITLE = 24
"""The height of a title above a plot in a file of its own."""
STYLE = (
    "text{font:12px sans-serif;fill:#444}.grid{stroke:#ddd}.axis{stroke:#444}.curve{fill:none;stroke-width:2}"
    ".right-after{stroke:#c2571a}.first{stroke:#5b7aa6;stroke-dasharray:5 3}.so-far{stroke:#2f7d4f}"
    ".dot{fill:#fff;stroke-width:2}.band{stroke:none;fill-opacity:.13}.was{stroke:#444;stroke-dasharray:1 4}"
    ".series-0{stroke:#b36b00;fill:#b36b00;stroke-dasharray:6 3}.series-1{stroke:#c8321f;fill:#c8321f}"
    ".series-2{stroke:#2f7d4f;fill:#2f7d4f;stroke-dasharray:2 3}"
    ".series-3{stroke:#1f5fae;fill:#1f5fae;stroke-dasharray:9 3 2 3}.trace{stroke:#444;stroke-dasharray:3 5}"
    ".curve.series-0,.curve.series-1,.curve.series-2,.curve.series-3{fill:none}"
)
"""The style of plots in a file of their own: the page's light colours."""
Scale = Callable[[float], float]
"""A function from a value to its place in user units."""


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot: its heading, a caption for those who cannot see it, and the drawing."""

    title: str
    caption: str
    svg: Markup


def scale(low: float, high: float, start: float, end: float) -> Scale:
    """Return the scale that maps the value `low` to the place `start` and `high` to `end`."""
    return lambda value: start + (value - low) / ((high - low) or 1) * (end - start)


def svg(height: float, parts: Iterable[Markup]) -> Markup:
    """Return a drawing of WIDTH by `height` with the parts in it."""
    # Screen readers read the caption instead of every bar.
    return Markup('<svg viewBox="0 0 {} {}" aria-hidden="true">{}</svg>').format(
        WIDTH, round(height), Markup("").join(parts)
    )


def axis_x(
    across: Scale, ticks: Sequence[float], height: float, label: str, name: Callable[[float], str] = "{:g}".format
) -> Markup:
    """Return the horizontal axis of a plot of this height. ticks: have a grid line each, and `name` as their text."""
    base = height - BOTTOM
    parts = [line(across(ticks[0]), base, across(ticks[-1]), base, "axis")]
    for tick in ticks:
        parts.append(line(across(tick), TOP, across(tick), base + 4, "grid"))
        parts.append(text(across(tick), base + 17, name(tick), "middle"))
    parts.append(text((across(ticks[0]) + across(ticks[-1])) / 2, height - 6, label, "middle"))
    return Markup("").join(parts)


def axis_y(up: Scale, ticks: Sequence[float], label: str, name: Callable[[float], str] = "{:g}".format) -> Markup:
    """Return the vertical axis with a grid line at each of `ticks`; `name` turns a tick into text."""
    parts = []
    for tick in ticks:
        parts.append(line(LEFT - 4, up(tick), WIDTH - RIGHT, up(tick), "grid"))
        parts.append(text(LEFT - 7, up(tick) + 4, name(tick), "end"))
    middle = (up(ticks[0]) + up(ticks[-1])) / 2
    parts.append(
        Markup('<text transform="translate(12 {}) rotate(-90)" text-anchor="middle">{}</text>').format(
            round(middle, 1), label
        )
    )
    return Markup("").join(parts)


def tenths(x: float, y: float) -> tuple[float, float]:
    """Return the point (x, y) rounded to tenths: more digits would only make the page larger."""
    return round(x, 1), round(y, 1)


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    """Return a line from (x1, y1) to (x2, y2). kind: a class that the page has a style for."""
    return Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(kind, *tenths(x1, y1), *tenths(x2, y2))


def polyline(points: Sequence[tuple[float, float]], kind: str) -> Markup:
    """Return a curve through points, a dot for a single one. kind: a class that the page has a style for."""
    if len(points) == 1:
        return Markup('<circle class="dot {}" cx="{}" cy="{}" r="3"/>').format(kind, *tenths(*points[0]))
    return Markup('<polyline class="curve {}" points="{}"/>').format(kind, path(points))


def path(points: Iterable[tuple[float, float]]) -> str:
    """Return points in the syntax of SVG: `1.0,2.0 3.5,4.0`."""
    return " ".join("{},{}".format(*tenths(*point)) for point in points)


def band(across: Scale, up: Scale, intervals: Sequence[tuple[float, float, float]]) -> str:
    """Return the outline of a band in the syntax of SVG. intervals: (x, low, high), by x."""
    highs = [(across(x), up(high)) for x, _, high in intervals]
    lows = [(across(x), up(low)) for x, low, _ in reversed(intervals)]
    return path([*highs, *lows])


def text(x: float, y: float, words: str, anchor: str) -> Markup:
    """Return words at the point (x, y), which is their `anchor`: start, middle or end."""
    return Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>').format(*tenths(x, y), anchor, words)


def svg_file(plots: Sequence[Plot]) -> str:
    """Return the content of an SVG file with the plots below each other, each under its title."""
    parts, top = [], 0
    for plot in plots:
        height = int(plot.svg.partition('viewBox="0 0 ')[2].partition('"')[0].split()[1])
        moved = Markup('<svg y="{}" width="{}" height="{}" {}').format(TITLE, WIDTH, height, plot.svg[len("<svg ") :])
        parts.append(
            Markup('<g transform="translate(0 {})"><desc>{}</desc>{}{}</g>').format(
                top, plot.caption, text(6, 16, plot.title, "start"), moved
            )
        )
        top += height + TITLE
    return str(
        Markup('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {} {}"><style>{}</style>{}</svg>\n').format(
            WIDTH, top, Markup(STYLE), Markup("").join(parts)
        )
    )
