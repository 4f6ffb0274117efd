"""Commands that look at a build or hand it on: `report`, `show` and `export`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from cfbuild.cli.shared import Build, Json, Seed, examples, open_folder, tell, tell_json

app = typer.Typer()

COLOURS = {"subject": "33", "true": "36", "new": "35", "head": "1", "soft": "2"}
"""SGR codes of what `show` paints."""


@app.command(epilog=examples("cfbuild report --build build/demo"))
def report(
    build: Build = Path("build"),
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="The file that was scored, if it was not the build's records.")
    ] = None,
) -> None:
    """Write report.html: figures, plots and a browsable table of the build's records, in one file."""
    from cfbuild.pipeline.page import write_page

    folder = open_folder(build)
    with folder.lock("report"):
        tell(write_page(folder, file))


@app.command(
    epilog=examples(
        "cfbuild show --sample 5",
        "cfbuild show --case 17",
        "cfbuild show --relation P36 --json",
        "cfbuild show --rejected --sample 9",
    )
)
def show(
    build: Build = Path("build"),
    case: Annotated[int | None, typer.Option(help="The record of this case id.")] = None,
    relation: Annotated[str | None, typer.Option(help="Records of this relation only, such as P36.")] = None,
    sample: Annotated[int | None, typer.Option(help="A seeded sample of so many. [default: all]")] = None,
    rejected: Annotated[bool, typer.Option("--rejected", help="The facts that became no record, and why.")] = False,
    seed: Seed = 0,
    json_: Json = False,
) -> None:
    """Look at records: prompts, probabilities before and after the edit, generated texts."""
    from cfbuild.pipeline import show as verb
    from cfbuild.show import Choice, record_lines, rejection_lines

    folder, choice = open_folder(build), Choice(case, relation, sample, seed)
    if json_:
        for row in verb.rows(folder, choice, rejected):
            tell_json(row, indent=None)
        return
    blocks = (
        [rejection_lines(one, _paint) for one in verb.chosen_rejections(folder, choice)]
        if rejected
        else [record_lines(record, scored, _paint) for record, scored in verb.chosen_records(folder, choice)]
    )
    for place, lines in enumerate(blocks):
        if place and not rejected:
            typer.echo()
        for line in lines:
            typer.echo(line)


@app.command(
    "export",
    epilog=examples("cfbuild export", "cfbuild export --format easyedit --out counterfact-edit.json"),
)
def export_(
    build: Build = Path("build"),
    format_: Annotated[
        str, typer.Option("--format", help="counterfact (without meta), easyedit, knowedit, zsre (MEND's), or mquake.")
    ] = "counterfact",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The file to write. [default: export/FORMAT.json in the build]")
    ] = None,
) -> None:
    """Write the records as one JSON array in another project's format."""
    from cfbuild.pipeline.export import export_records

    path, count = export_records(open_folder(build), format_, out)
    tell(f"{path}: {count} records in the format {format_}")


def _paint(text: str, kind: str) -> str:
    coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    return f"\x1b[{COLOURS[kind]}m{text}\x1b[0m" if coloured else text
