"""The command `validate-and-score`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cfbuild.cli.shared import (
    Build,
    OutputOptions,
    load_model,
    open_folder,
    say,
    shown_progress,
    tell,
    tell_json,
)
from cfbuild.lm.selection import ModelOptions
from cfbuild.pipeline.scoring import Crew
from cfbuild.pipeline.validate_and_score import EvaluateOptions, evaluate
from cfbuild.text.safe import visible
from cfbuild.work import ModelWorkerOptions

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cfbuild.audit.validate import RecordFile, RowTally
    from cfbuild.score.curve import SequenceCurve
    from cfbuild.score.run_report import Report
    from cfbuild.store.folder import BuildFolder
    from cfbuild.store.runs import Run
    from cfbuild.store.schema.faults import Violation

EXAMPLES = (
    "cfbuild validate-and-score --model gpt2-xl",
    "cfbuild validate-and-score --limit 100 --editor ft --set learning_rate=1e-4",
    "cfbuild validate-and-score --workers 4 --gpus 1",
    "cfbuild validate-and-score --file counterfact.json --validate-only",
)
NAMED = 10
"""The most faulty records of a kind that the summary names; report.json names all."""


def run(
    build: Build = Path("build"),
    *,
    options: EvaluateOptions,
    validate_only: Annotated[bool, typer.Option("--validate-only", help="Check the file; run no model.")] = False,
    lm_options: ModelOptions,
    working: ModelWorkerOptions,
    output: OutputOptions,
) -> None:
    """Check every record; edit the model by each one; print the paper's metrics before and after.

    Exits with 1, and every violation, if a row breaks the schema or a rule.
    """
    folder = open_folder(build)
    if validate_only:
        validate(options.file or folder.require("records.jsonl"), output, stop=not options.skip_invalid)
        return
    from cfbuild.store.runs import new_run

    crew = Crew(working, lm_options)
    crew.check(options)
    read = read_to_edit(folder, options.file, options.skip_invalid, output)
    lm = load_model(lm_options, output.quiet)
    with shown_progress(output.quiet) as progress:
        report = evaluate(folder, options, lm, progress, read, crew)
    for remark in report.remarks(options.name):
        tell(f"cfbuild: {remark}", err=True)
    print_report(report, new_run(folder, options.name), output.json_)


def validate(path: Path, output: OutputOptions, stop: bool = True) -> None:
    """Print every violation of a file as it is found; exit with 1 if there is any and `stop` is True."""
    from cfbuild.audit.validate import RowTally, violations

    tally = RowTally()
    tell_violations(path, violations(path, tally), tally, stop, output)


def read_to_edit(folder: BuildFolder, file: Path | None, skip_invalid: bool, output: OutputOptions) -> RecordFile:
    """Return the records of a file, or the build's; print its violations, and exit with 1 unless they are skipped."""
    from cfbuild.audit.validate import read_records

    read = read_records(file or folder.require("records.jsonl"))
    tell_violations(read.path, read.violations, read.tally, not skip_invalid, OutputOptions(quiet=output.quiet))
    return read


def tell_violations(path: Path, found: Iterable[Violation], tally: RowTally, stop: bool, output: OutputOptions) -> None:
    """Print violations of a file; exit with 1 if there is any and `stop` is True."""
    count = 0
    for violation in found:
        count += 1
        tell_json(asdict(violation), indent=None) if output.json_ else tell(violation)
    if count and stop:
        tell(f"cfbuild: {count} violations in {tally.faulty} of {tally.rows} rows of {path}", err=True)
        raise typer.Exit(1)
    say(output.quiet, f"{path}: {tally.rows - tally.faulty} of {tally.rows} rows are valid")


def print_report(report: Report, run: Run, as_json: bool) -> None:
    """Print a run's scores before and after its edits, the failed edits, and the paths of its files."""
    if as_json:
        tell_json(report.as_dict())
        return
    from rich.console import Console

    from cfbuild.store.runs import CASES, REPORT

    console = Console()
    console.print(_report_table(report))
    if report.sequence:
        console.print(_sequence_table(report.sequence))
        if report.sequence.fault:
            console.print(visible(report.sequence.fault), style="yellow", markup=False)
    for fault, ids in report.faulty.items():
        named = ", ".join(map(str, ids[:NAMED])) + (", ..." if len(ids) > NAMED else "")
        console.print(f"{len(ids)} records without an edit: {fault} (cases {named})", style="yellow", markup=False)
    console.print(visible(f"signature: {report.signature}"), style="dim", markup=False, soft_wrap=True)
    console.print(visible(f"cases: {run.path(CASES)}  report: {run.path(REPORT)}"), markup=False)


def _report_table(report: Report) -> Any:
    from rich.table import Table
    from rich.text import Text

    from cfbuild.score.run_report import STAGES
    from cfbuild.score.table import GROUP_FIGURES, HEADLINE, OTHER_FIGURES, figure_text

    title = f"{report.model}, {report.editor}, {report.cases} records (mean ± 95% interval)"
    table = Table(title=Text(visible(title)))
    table.add_column("metric")
    for name in ("before", "after"):
        table.add_column(name, justify="right")
    for name in (*HEADLINE, *OTHER_FIGURES, *GROUP_FIGURES):
        figures = [report.figures[stage].get(name) for stage in STAGES]
        if any(figures):
            cells = (figure_text(figure) if figure else "" for figure in figures)
            ends = name in ("RS", OTHER_FIGURES[-1])
            table.add_row(name, *cells, end_section=ends, style="bold" if name == "S" else None)
    return table


def _sequence_table(curve: SequenceCurve) -> Any:
    from rich.table import Table

    from cfbuild.score.metrics import HARMONIC

    table = Table(title=f"over the edits, batches of {curve.batch}: right after / first / all so far")
    for name in ("edits", *HARMONIC, "perplexity"):
        table.add_column(name, justify="right")
    table.add_row("0", *("" for _ in HARMONIC), _number(curve.unedited_perplexity))
    for point in curve.points:
        curves = (point.right_after, point.first, point.so_far)
        cells = (" / ".join(_number(values.get(name)) for values in curves) for name in HARMONIC)
        table.add_row(f"{point.edits:,}", *cells, _number(point.perplexity))
    kept = (_number(curve.retained[name].mean if name in curve.retained else None) for name in HARMONIC)
    table.add_row("all, at the end", *kept, "")
    return table


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.1f}"
