"""The command `show`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from cfbuild.cli.shared import Build, OutputOptions, print_json
from cfbuild.errors import ConfigError
from cfbuild.pipeline import show as verb
from cfbuild.store.folder import BuildFolder
from cfbuild.views.terminal import Choice, record_lines, rejection_lines

EXAMPLES = (
    "cfbuild show --sample 5",
    "cfbuild show --case 17",
    "cfbuild show --relation P36 --json",
    "cfbuild show --run rome --sample 5",
    "cfbuild show --rejected --sample 9",
)
COLOURS = {"subject": "33", "true": "36", "new": "35", "head": "1", "soft": "2"}
"""The SGR code of each kind of text that `show` colours."""


def run(
    build: Build = Path("build"),
    run_: Annotated[
        str | None,
        typer.Option("--run", help="Show the scores of this run. [default: the first by name]"),
    ] = None,
    *,
    choice: Choice,
    rejected: Annotated[
        bool, typer.Option("--rejected", help="Show the facts that became no record, and why.")
    ] = False,
    output: OutputOptions,
) -> None:
    """Look at records: prompts, probabilities before and after the edit, generated texts."""
    if rejected and run_ is not None:
        raise ConfigError("--run and --rejected do not go together: rejects have no scores")
    folder = BuildFolder(build)
    if output.json_:
        for row in verb.rows(folder, choice, rejected, run_):
            print_json(row, indent=None)
        return
    if rejected:
        blocks = [rejection_lines(rejection, _coloured) for rejection in verb.chosen_rejections(folder, choice)]
    else:
        shown = verb.chosen_records(folder, choice, run_)
        if shown.others:
            others = ", ".join(shown.others)
            output.note(f"scores are of the run {shown.run}; --run shows another: {others}")
        blocks = [record_lines(record, case, _coloured, shown.run) for record, case in shown.records]
    for place, lines in enumerate(blocks):
        if place and not rejected:
            typer.echo()
        for line in lines:
            typer.echo(line)


def _coloured(text: str, kind: str) -> str:
    """Return a text in the colour of its kind, where stdout is a terminal and NO_COLOR is not set."""
    has_colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    return f"\x1b[{COLOURS[kind]}m{text}\x1b[0m" if has_colours else text
