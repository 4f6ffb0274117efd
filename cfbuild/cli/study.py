"""The command `study`, with its parts `make` and `read`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cfbuild.cli.shared import Build, OutputOptions, new_console, new_table, print_json, print_text
from cfbuild.errors import ConfigError
from cfbuild.pipeline.study import StudyOptions
from cfbuild.store.folder import BuildFolder
from cfbuild.text.safe import visible

if TYPE_CHECKING:
    from cfbuild.pipeline.study import StudyMade, StudyRead

EXAMPLES = (
    "cfbuild study make --runs rome,ft-l --unedited",
    "cfbuild study make --runs rome,memit --cases 20 --raters 6 --pages 10 --out study",
    "cfbuild study read build/study answers",
    "cfbuild study read build/study answers-01-3fa.txt pasted.txt --format markdown",
)


def make(build: Build = Path("build"), *, options: StudyOptions, output: OutputOptions) -> None:
    """Draw records; write a page for each rater, and the key that says which passage is of which run.

    Give the pages in DIR/pages away: they work offline, on a phone and by keyboard, and name no run. Keep DIR/key.json
    to yourself. DIR is the folder of --out.
    """
    from cfbuild.pipeline.study import make as make_study

    folder = BuildFolder(build)
    with folder.lock("study"), output.progress() as progress:
        made = make_study(folder, options, progress)
    output.print_summary(made, _made_lines)


def _made_lines(made: StudyMade) -> Iterator[str]:
    """Yield the study's numbers, how well it is balanced, and the paths of pages and key."""
    from cfbuild.pipeline.study import KEY, PAGES

    balance = made.balance
    yield f"study {made.study}: {', '.join(made.systems)}; {made.cases} of {made.eligible} records with texts of all"
    times = made.raters * made.pages // made.cases
    yield f"{made.raters} raters x {made.pages} pages: each case is rated {times} times"
    yield f"two raters share {_range(balance.shared)} cases; each order of systems has {_range(balance.orders)} pages"
    if balance.same_groups:
        yield f"{balance.same_groups} cases have the same raters as another: there are no more groups of raters"
    if balance.repeated:
        yield f"{balance.repeated} pages repeat an order of their case: there are no more orders"
    if made.alike:
        yield f"{made.alike} cases have two passages that are the same text; raters must choose one nevertheless"
    yield f"give away: {made.folder / PAGES}  keep: {made.folder / KEY}"


def _range(counts: Sequence[int]) -> str:
    low, high = counts
    return str(low) if low == high else f"{low} to {high}"


def read(
    folder: Annotated[Path, typer.Argument(help="The study's folder, where `study make` wrote the key.")],
    answers: Annotated[list[Path], typer.Argument(help="Files of answers or pasted codes, or folders of such files.")],
    *,
    skip_invalid: Annotated[
        bool, typer.Option("--skip-invalid", help="Leave out answers that cannot be used.")
    ] = False,
    format_: Annotated[str, typer.Option("--format", help="The tables' format: text or markdown.")] = "text",
    output: OutputOptions,
) -> None:
    """Check the answers; print votes, pairwise wins with intervals and sign tests, and how far raters agree.

    Exits with 1 if answers are damaged, contradict each other or belong to another study, and names each of them.
    """
    from cfbuild.pipeline.study import read_answers

    if format_ not in ("text", "markdown"):
        raise ConfigError(f"format {format_!r} does not exist; expected text or markdown")
    found = read_answers(folder, answers, skip_invalid)
    for remark in (*found.checked.errors, *found.checked.warnings):
        output.note(f"cfbuild: {remark}")
    if output.json_:
        print_json(found.as_dict())
    elif format_ == "markdown":
        from cfbuild.study.tables import as_markdown

        print_text(as_markdown(found.votes))
    else:
        _print_votes(found)


def _print_votes(found: StudyRead) -> None:
    from rich.text import Text

    from cfbuild.study.tables import NOTES, grids_of

    console = new_console()
    for grid in grids_of(found.votes):
        console.print(visible(grid.title), style="italic", markup=False, soft_wrap=True)
        table = new_table(grid.heads)
        for row in grid.rows:
            table.add_row(*(Text(visible(cell)) for cell in row))
        console.print(table)
    for note in NOTES:
        console.print(note, style="dim", markup=False, soft_wrap=True)


PARTS = {"make": make, "read": read}
"""The functions of the command's parts, each of which has options of its own."""
