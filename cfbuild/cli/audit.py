"""The command `audit`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from cfbuild.cli.shared import Json, Quiet, open_folder, shown_progress, tell_json
from cfbuild.text.safe import visible

EXAMPLES = (
    "cfbuild audit counterfact.json",
    "cfbuild audit build/records.jsonl --build build --fix clean.jsonl",
)


def run(
    file: Annotated[Path, typer.Argument(help="A file of CounterFact's format, cfbuild's, or EasyEdit's.")],
    build: Annotated[
        Path | None, typer.Option("--build", "-b", help="A build folder whose facts to hold the file against.")
    ] = None,
    fix: Annotated[
        Path | None, typer.Option(help="Write a cleaned file here, and what was changed beside it (.changes.jsonl).")
    ] = None,
    max_per_entity: Annotated[
        int, typer.Option(help="How often one entity may be asked about among a record's prompts of a kind.")
    ] = 1,
    allow_symmetric: Annotated[
        bool, typer.Option("--allow-symmetric", help="Relations that hold both ways are no fault.")
    ] = False,
    allow_several: Annotated[
        bool, typer.Option("--allow-several", help="Subjects with several true objects are no fault.")
    ] = False,
    min_sitelinks: Annotated[int | None, typer.Option(help="Fewest wikis with a page about the subject.")] = None,
    max_sitelinks: Annotated[int | None, typer.Option(help="Most wikis with a page about the subject.")] = None,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find the known faults of counterfactual records in anyone's file, by rule, with examples; or clean the file.

    Exits with 1 if there are faults and no cleaned file was asked for.
    """
    from cfbuild.pipeline.audit import AuditOptions, audit

    folder = None if build is None else open_folder(build)
    options = AuditOptions(
        file, folder, fix, max_per_entity, allow_symmetric, allow_several, min_sitelinks, max_sitelinks
    )
    with shown_progress(quiet) as progress:
        summary = audit(options, progress)
    if json_:
        tell_json(asdict(summary))
    else:
        _print_audit(summary, file, fix)
    if summary.faulty and fix is None:
        raise typer.Exit(1)


def _print_audit(summary: Any, file: Path, fix: Path | None) -> None:
    """A table of faults by rule, each with an example; then totals."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if summary.rules:
        table = Table(title=Text(visible(f"faults in {file}")))
        for name in ("faults", "rows"):
            table.add_column(name, justify="right")
        for name in ("rule", "for example"):
            table.add_column(name)
        for rule, entry in summary.rules.items():
            one = entry.examples[0]
            where = f"line {one.line}" if one.case_id is None else f"case {one.case_id}"
            example = Text(visible(f"{where} {one.path}: {one.got}; expected {one.expected}"))
            table.add_row(str(entry.faults), str(entry.rows), rule, example)
        console.print(table)
    lines = [f"{summary.rows - summary.faulty} of {summary.rows} rows have no fault"]
    if summary.known is not None:
        lines.append(f"{summary.known} rows are about facts of the build and were held against them")
    if fix is not None:
        lines.append(
            f"{summary.written} rows written to {fix}, {summary.dropped} dropped; {fix}.changes.jsonl says why"
        )
    for line in lines:
        console.print(visible(line), markup=False, soft_wrap=True)
