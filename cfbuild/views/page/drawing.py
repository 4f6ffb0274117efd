"""The parts of all the page's drawings: scales, axes, lines and words as SVG, and plots that stand alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH = 420
"""The width of every plot in user units: on a phone a unit is nearly a pixel, so text stays readable."""
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 10, 40
ROW = 20
TITLE = 24
"""The height of a title above a plot that stands alone."""
ALONE = (
    "text{font:12px sans-serif;fill:#444}.grid{stroke:#ddd}.axis{stroke:#444}.curve{fill:none;stroke-width:2}"
    ".right-after{stroke:#c2571a}.first{stroke:#5b7aa6;stroke-dasharray:5 3}.so-far{stroke:#2f7d4f}"
    ".dot{fill:#fff;stroke-width:2}.band{stroke:none;fill-opacity:.13}.was{stroke:#444;stroke-dasharray:1 4}"
    ".series-0{stroke:#b36b00;fill:#b36b00;stroke-dasharray:6 3}.series-1{stroke:#c8321f;fill:#c8321f}"
    ".series-2{stroke:#2f7d4f;fill:#2f7d4f;stroke-dasharray:2 3}"
    ".series-3{stroke:#1f5fae;fill:#1f5fae;stroke-dasharray:9 3 2 3}.trace{stroke:#444;stroke-dasharray:3 5}"
    ".curve.series-0,.curve.series-1,.curve.series-2,.curve.series-3{fill:none}"
)
"""The style of plots that stand outside the page: the page's light colours."""
Scale = Callable[[float], float]


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot: its heading, a caption that says in words what it shows, and the drawing."""

    title: str
    caption: str
    svg: Markup


def scale(low: float, high: float, start: float, end: float) -> Scale:
    """Return the scale that maps `low` to `start` and `high` to `end`, in user units."""
    return lambda value: start + (value - low) / ((high - low) or 1) * (end - start)


def svg(height: float, parts: Iterable[Markup]) -> Markup:
    """Return a drawing of the plots' width, of its parts."""
    # The caption says in words what the drawing shows, so screen readers need not read every bar.
    return Markup('<svg viewBox="0 0 {} {}" aria-hidden="true">{}</svg>').format(
        WIDTH, round(height), Markup("").join(parts)
    )


def axis_x(
    across: Scale, ticks: Sequence[float], height: float, label: str, name: Callable[[float], str] = "{:g}".format
) -> Markup:
    """Return the axis across with a grid line at each of `ticks`, which `name` turns into text."""
    base = height - BOTTOM
    parts = [line(across(ticks[0]), base, across(ticks[-1]), base, "axis")]
    for tick in ticks:
        parts.append(line(across(tick), TOP, across(tick), base + 4, "grid"))
        parts.append(text(across(tick), base + 17, name(tick), "middle"))
    parts.append(text((across(ticks[0]) + across(ticks[-1])) / 2, height - 6, label, "middle"))
    return Markup("").join(parts)


def axis_y(up: Scale, ticks: Sequence[float], label: str, name: Callable[[float], str] = "{:g}".format) -> Markup:
    """Return the axis upwards with a grid line at each of `ticks`, which `name` turns into text."""
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


def two(x: float, y: float) -> tuple[float, float]:
    """Return a point in tenths of a unit: more digits would only make the page larger."""
    return round(x, 1), round(y, 1)


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    """Return a line of a kind that the page has a style for."""
    return Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(kind, *two(x1, y1), *two(x2, y2))


def polyline(points: Sequence[tuple[float, float]], kind: str) -> Markup:
    """Return a curve through points, and a dot where there is only one."""
    if len(points) == 1:
        return Markup('<circle class="dot {}" cx="{}" cy="{}" r="3"/>').format(kind, *two(*points[0]))
    return Markup('<polyline class="curve {}" points="{}"/>').format(kind, path(points))


def path(points: Iterable[tuple[float, float]]) -> str:
    """Return points as SVG has them."""
    return " ".join("{},{}".format(*two(*point)) for point in points)


def band(across: Scale, up: Scale, ends: Sequence[tuple[float, float, float]]) -> str:
    """Return the outline of a band as SVG has points, from (x, low, high): over the highs and back under the lows."""
    highs = [(across(x), up(high)) for x, _, high in ends]
    lows = [(across(x), up(low)) for x, low, _ in reversed(ends)]
    return path([*highs, *lows])


def text(x: float, y: float, words: str, anchor: str) -> Markup:
    """Return words at a point, `anchor`ed there at their start, middle or end."""
    return Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>').format(*two(x, y), anchor, words)


def alone(plots: Sequence[Plot]) -> str:
    """Return plots, below each other under their titles, as a drawing that needs no page."""
    parts, below = [], 0
    for plot in plots:
        height = int(plot.svg.partition('viewBox="0 0 ')[2].partition('"')[0].split()[1])
        moved = Markup('<svg y="{}" width="{}" height="{}" {}').format(TITLE, WIDTH, height, plot.svg[len("<svg ") :])
        parts.append(
            Markup('<g transform="translate(0 {})"><desc>{}</desc>{}{}</g>').format(
                below, plot.caption, text(6, 16, plot.title, "start"), moved
            )
        )
        below += height + TITLE
    return str(
        Markup('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {} {}"><style>{}</style>{}</svg>\n').format(
            WIDTH, below, Markup(ALONE), Markup("").join(parts)
        )
    )
