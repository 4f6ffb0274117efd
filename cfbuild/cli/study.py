"""The command `study`, with its parts `make` and `read`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cfbuild.cli.report import WIDE
from cfbuild.cli.shared import Build, OutputOptions, open_folder, say, shown_progress, tell, tell_json
from cfbuild.errors import ConfigError
from cfbuild.pipeline.study import StudyOptions
from cfbuild.text.safe import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cfbuild.pipeline.study import StudyMade, StudyRead

EXAMPLES = (
    "cfbuild study make --runs rome,ft-l --unedited",
    "cfbuild study make --runs rome,memit --cases 20 --raters 6 --pages 10 --out study",
    "cfbuild study read build/study answers",
    "cfbuild study read build/study answers-01-3fa.txt pasted.txt --format markdown",
)


def make(build: Build = Path("build"), *, options: StudyOptions, output: OutputOptions) -> None:
    """Draw records, write a page a rater and the key that says which passage is whose.

    The pages, in DIR/pages, are what you give away: they work offline, on a phone and by keyboard, and name no system.
    Keep DIR/key.json to yourself.
    """
    from cfbuild.pipeline.study import make as make_study

    folder = open_folder(build)
    with folder.lock("study"), shown_progress(output.quiet) as progress:
        made = make_study(folder, options, progress)
    if output.json_:
        tell_json(asdict(made))
    else:
        _tell_made(made)


def _tell_made(made: StudyMade) -> None:
    from cfbuild.pipeline.study import KEY, PAGES

    shared, orders = made.balance.shared, made.balance.orders
    tell(f"study {made.study}: {', '.join(made.systems)}; {made.cases} of {made.eligible} records with texts of all")
    times = made.raters * made.pages // made.cases
    tell(f"{made.raters} raters x {made.pages} pages: each case is rated {times} times")
    tell(f"two raters share {_range(shared)} cases; each order of systems has {_range(orders)} pages")
    if made.balance.same_groups:
        tell(f"{made.balance.same_groups} cases have the same raters as another: there are no more groups of raters")
    if made.balance.repeated:
        tell(f"{made.balance.repeated} pages repeat an order of their case: there are no more orders")
    if made.alike:
        tell(f"{made.alike} cases have two passages that are the same text; raters must choose all the same")
    tell(f"give away: {made.folder / PAGES}  keep: {made.folder / KEY}")


def _range(counts: Sequence[int]) -> str:
    low, high = counts
    return str(low) if low == high else f"{low} to {high}"


def read(
    folder: Annotated[Path, typer.Argument(help="The study's folder, in which `make` left the key.")],
    answers: Annotated[list[Path], typer.Argument(help="Files of answers or pasted codes, or folders of such files.")],
    *,
    skip_invalid: Annotated[
        bool, typer.Option("--skip-invalid", help="Leave out answers that cannot be used.")
    ] = False,
    format_: Annotated[str, typer.Option("--format", help="The tables' format: text or markdown.")] = "text",
    output: OutputOptions,
) -> None:
    """Check the answers; print votes, pairwise wins with intervals and sign tests, and how far raters agree.

    Exits with 1, naming each, if answers are damaged, contradict each other or belong to another study.
    """
    from cfbuild.pipeline.study import read_answers

    if format_ not in ("text", "markdown"):
        raise ConfigError(f"format {format_!r} does not exist; expected text or markdown")
    found = read_answers(folder, answers, skip_invalid)
    for remark in (*found.checked.errors, *found.checked.warnings):
        say(output.quiet, f"cfbuild: {remark}")
    if output.json_:
        tell_json(found.as_dict())
    elif format_ == "markdown":
        from cfbuild.study.tables import as_markdown

        tell(as_markdown(found.votes))
    else:
        _print_votes(found)


def _print_votes(found: StudyRead) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from cfbuild.study.tables import NOTES, grids_of

    console = Console() if sys.stdout.isatty() else Console(width=WIDE)
    for grid in grids_of(found.votes):
        console.print(visible(grid.title), style="italic", markup=False, soft_wrap=True)
        table = Table()
        for place, head in enumerate(grid.heads):
            table.add_column(head, justify="right" if place else "left")
        for row in grid.rows:
            table.add_row(*(Text(visible(cell)) for cell in row))
        console.print(table)
    for note in NOTES:
        console.print(note, style="dim", markup=False, soft_wrap=True)


PARTS = {"make": make, "read": read}
"""The functions of the command's parts, each of which has options of its own."""
