"""The command `report`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cfbuild.cli.shared import Build, OutputOptions, open_folder, say, shown_progress, tell, tell_json
from cfbuild.text.safe import visible

if TYPE_CHECKING:
    from rich.console import Console

    from cfbuild.score.table import ScoreTable

EXAMPLES = ("cfbuild report --build build/demo", "cfbuild report --json")
GAPS = (" ", "\n")
"""The text between a mean and its interval: a space where there is room, else a line break."""
ANY_WIDTH = 10_000
"""More columns than any table needs, so that a table is measured uncut."""
WIDE = 200
"""The width in characters without a terminal, at which no cell of the table is broken."""


def run(
    build: Build = Path("build"),
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="The file that was scored, if it was not the build's records.")
    ] = None,
    *,
    output: OutputOptions,
) -> None:
    """Print the scores of all runs in a table, the unedited model on top, and write report.html with it.

    The page has figures, plots and a browsable table of the build's records, in one file.
    """
    from cfbuild.pipeline.report import report

    folder = open_folder(build)
    with folder.lock("report"), shown_progress(output.quiet) as progress:
        made = report(folder, file, progress=progress)
    if made.left_out:
        left_out = ", ".join(made.left_out)
        say(output.quiet, f"cfbuild: left out, for another file was scored: {left_out}; name it by --file")
    if output.json_:
        tell_json({"page": str(made.page), **made.table.as_dict(), "left_out": list(made.left_out)})
        return
    print_scores(made.table)
    tell(made.page)


def print_scores(table: ScoreTable) -> None:
    """Print a table of runs in sections (the paper's columns, other rates, further groups), then remarks."""
    from rich.console import Console

    console = Console() if sys.stdout.isatty() else Console(width=WIDE)
    if table.rows:
        title = f"{', '.join(table.models)}: scores times 100, mean ± 95% interval"
        console.print(visible(title), style="italic", markup=False, soft_wrap=True)
    for section in table.sections:
        for part in _fitting(table, section, console):
            console.print(part)
    for remark in table.remarks:
        console.print(visible(remark), style="yellow", markup=False, soft_wrap=True)


def _fitting(table: ScoreTable, names: tuple[str, ...], console: Console) -> list[Any]:
    """Return rich tables of the columns `names` that fit the console's width.

    If a table is too wide, its intervals go below the means; if it still is, its columns are divided among tables.
    """
    unbounded = console.options.update(max_width=ANY_WIDTH)
    for gap in GAPS:
        whole = _rich_table(table, names, gap)
        if console.measure(whole, options=unbounded).maximum <= console.width:
            return [whole]
    if len(names) == 1:
        return [whole]
    half = (len(names) + 1) // 2
    return [*_fitting(table, names[:half], console), *_fitting(table, names[half:], console)]


def _rich_table(table: ScoreTable, names: tuple[str, ...], gap: str) -> Any:
    """Return a rich table of the columns `names`, a row for each run, with `gap` between a mean and its interval."""
    from rich.table import Table
    from rich.text import Text

    from cfbuild.score.table import figure_text

    shown = Table()
    for place, head in enumerate((*table.heads, *names)):
        shown.add_column(head.replace("_", gap), justify="left" if place == 0 else "right")
    for row in table.rows:
        figures = (figure_text(row.figures.get(name)).replace(" ", gap, 1) for name in names)
        cells = (Text(visible(cell)) for cell in (*table.labels(row), *figures))
        shown.add_row(*cells, style="dim" if row.run is None else None)
    return shown
