"""The command `report`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cfbuild.cli.shared import Build, OutputOptions, new_console, new_table, print_json, print_text
from cfbuild.errors import ConfigError
from cfbuild.option import COMMA_SEPARATED, WORD, option
from cfbuild.store.folder import BuildFolder
from cfbuild.text.safe import visible

if TYPE_CHECKING:
    from rich.console import Console

    from cfbuild.pipeline.report import Reported
    from cfbuild.score.table import Block, ScoreTable

EXAMPLES = (
    "cfbuild report --build build/demo",
    "cfbuild report --runs rome,ft,memit --format latex",
    "cfbuild report --json",
)
STYLES = {"best": "bold green", "failing": "red"}
"""The style of figures with a mark, the best and the failed ones, on a terminal; the signs * and ! stay."""
GAPS = (" ", "\n")
"""The text between a mean and its interval: a space where there is room, else a line break."""
ANY_WIDTH = 10_000
"""More columns than any table needs, so that the width of a whole table can be measured."""
TABLE_FORMATS = ("text", "markdown", "latex")


@dataclass(frozen=True)
class ReportOptions:
    """Options of `cfbuild report` alone."""

    file: Path | None = option(None, "The file that was scored, if it was not the build's records.", flag="--file -f")
    runs: tuple[str, ...] = option(
        (),
        "Comma-separated runs to show, in this order; the others are compared with the first. [default: all, by name]",
        form=COMMA_SEPARATED,
    )


@dataclass(frozen=True)
class TableOptions:
    """Options of commands that print a table of runs. Raises ConfigError for an unknown format."""

    format_: str = option(
        "text",
        "The table's format: text, markdown or latex (booktabs).",
        flag="--format",
        form=WORD.naming(*TABLE_FORMATS),
    )

    def __post_init__(self) -> None:
        if self.format_ not in TABLE_FORMATS:
            raise ConfigError(f"format {self.format_!r} does not exist; expected text, markdown or latex")


def run(build: Build = Path("build"), *, options: ReportOptions, table: TableOptions, output: OutputOptions) -> None:
    """Print the scores of all runs in a table, the unedited model on top, and write report.html.

    The page is one file with the figures, plots, and a table of the build's records to search and filter.
    """
    from cfbuild.pipeline.report import report

    folder = BuildFolder(build)
    with folder.lock("report"), output.progress() as progress:
        reported = report(folder, options.file, runs=options.runs, progress=progress)
    if reported.left_out:
        left_out = ", ".join(reported.left_out)
        output.note(f"cfbuild: left out, for another file was scored: {left_out}; name it by --file")
    print_reported(reported, table, output)


def print_reported(reported: Reported, table: TableOptions, output: OutputOptions) -> None:
    """Print the table of runs in its format or as JSON, and the page's path."""
    if output.json_:
        print_json({"page": str(reported.page), **reported.table.as_dict(), "left_out": list(reported.left_out)})
    elif table.format_ == "text":
        print_scores(reported.table)
        print_text(reported.page)
    else:
        from cfbuild.score.typeset import FORMATS

        print_text(FORMATS[table.format_](reported.table))
        output.note(str(reported.page))


def print_scores(table: ScoreTable) -> None:
    """Print a table of runs in blocks (the paper's columns, other rates, further groups, differences), then remarks."""
    from cfbuild.score.table import TITLE

    console = new_console()
    if table.rows:
        console.print(visible(f"{', '.join(table.models)}: {TITLE}"), style="italic", markup=False, soft_wrap=True)
    for block in table.blocks():
        if block.title:
            console.print(visible(block.title), style="italic", markup=False, soft_wrap=True)
        for part in _fitting(block, console):
            console.print(part)
    for remark in table.remarks:
        console.print(visible(remark), style="yellow", markup=False, soft_wrap=True)


def _fitting(block: Block, console: Console) -> list[Any]:
    """Return rich tables with a block's columns that fit the console's width.

    In a table that is too wide, intervals go below the means; if it is still too wide, it is divided into two.
    """
    unbounded = console.options.update(max_width=ANY_WIDTH)
    for gap in GAPS:
        whole = _rich_table(block, gap)
        if console.measure(whole, options=unbounded).maximum <= console.width:
            return [whole]
    count = len(block.columns)
    if count == 1:
        return [whole]
    half = (count + 1) // 2
    return [*_fitting(block.part(0, half), console), *_fitting(block.part(half, count), console)]


def _rich_table(block: Block, gap: str) -> Any:
    """Return a rich table of a block, with `gap` between a mean and its interval."""
    from rich.text import Text

    table = new_table(head.replace("_", gap) for head in (*block.heads, *block.columns))
    for line, texts in zip(block.lines, block.texts(), strict=True):
        styles = (STYLES.get(cell.mark, "") for cell in line.cells)
        figures = map(Text, (text.replace(" ", gap, 1) for text in texts), styles)
        labels = (Text(visible(label)) for label in line.labels)
        table.add_row(*labels, *figures, style="dim" if line.row.run is None else None)
    return table
