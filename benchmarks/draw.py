"""The curve of cost over records as one SVG file: both axes logarithmic, a line a side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

SIZE_INCHES = (7.5, 4.8)
COLOURS = ("#1f6f8b", "#d1495b", "#6a994e", "#7d5ba6")


def draw_curve(lines: Mapping[str, Sequence[tuple[int, float]]], path: Path) -> None:
    """Seconds per record (up) over number of records (across)."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot
    from matplotlib.ticker import LogLocator

    figure, axes = pyplot.subplots(figsize=SIZE_INCHES)
    for colour, (name, points) in zip(COLOURS, lines.items(), strict=False):
        axes.plot(*zip(*points, strict=True), marker="o", color=colour, label=name)
    axes.set(xscale="log", yscale="log", xlabel="records edited in one call", ylabel="seconds per record")
    axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    axes.yaxis.set_minor_formatter("{x:g}")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)
