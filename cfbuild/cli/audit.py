"""The command `audit`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import typer

from cfbuild.cli.shared import OutputOptions, print_json, print_text
from cfbuild.pipeline.audit import AuditOptions, AuditSummary, audit
from cfbuild.text.safe import visible

EXAMPLES = (
    "cfbuild audit counterfact.json",
    "cfbuild audit build/records.jsonl --build build --fix clean.jsonl",
    "cfbuild audit easyedit-results.json.gz --json",
    "cfbuild audit records.jsonl --workers 8",
)


def run(options: AuditOptions, output: OutputOptions) -> None:
    """Find the known faults of counterfactual records in any file, with examples, or write a cleaned file.

    Exits with 1 if there are faults and --fix is not given.
    """
    with output.progress() as progress:
        summary = audit(options, progress)
    if output.json_:
        print_json(asdict(summary))
    else:
        _print_audit(summary, options.file, options.fix)
    if summary.faulty and options.fix is None:
        raise typer.Exit(1)


def _print_audit(summary: AuditSummary, file: Path, fix: Path | None) -> None:
    """Print a table of faults by rule, each with an example; then totals."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if summary.rules:
        table = Table(title=Text(visible(f"faults in {file}")))
        for name in ("faults", "rows"):
            table.add_column(name, justify="right")
        for name in ("rule", "for example"):
            table.add_column(name)
        for rule, entry in summary.rules.items():
            first = entry.examples[0]
            where = f"line {first.line}" if first.case_id is None else f"case {first.case_id}"
            example = Text(visible(f"{where} {first.path}: {first.got}; expected {first.expected}"))
            table.add_row(str(entry.faults), str(entry.rows), rule, example)
        Console().print(table)
    print_text(f"{summary.rows - summary.faulty} of {summary.rows} rows have no fault")
    if summary.known is not None:
        print_text(f"{summary.known} rows are about facts of the build and were compared with them")
    guesses = sum(entry.guesses for entry in summary.rules.values())
    if guesses:
        print_text(f"{guesses} faults rest on names that were read off prompts; --fix mends those with --fix-guesses")
    if fix is not None:
        print_text(f"{summary.written} rows written to {fix}, {summary.dropped} dropped; {fix}.changes.jsonl says why")
