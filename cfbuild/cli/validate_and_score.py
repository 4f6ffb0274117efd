"""The command `validate-and-score`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cfbuild.cli.shared import Build, OutputOptions, new_table, print_json, print_text
from cfbuild.lm.selection import ModelOptions
from cfbuild.pipeline.scoring import ScoringWorkers
from cfbuild.pipeline.validate_and_score import EvaluateOptions, evaluate
from cfbuild.store.folder import BuildFolder
from cfbuild.text.safe import visible
from cfbuild.work import ModelWorkerOptions

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cfbuild.audit.validate import RecordFile, RowTally
    from cfbuild.score.curve import SequenceCurve
    from cfbuild.score.run_report import Report
    from cfbuild.store.runs import Run
    from cfbuild.store.schema.faults import Violation

EXAMPLES = (
    "cfbuild validate-and-score --model gpt2-xl",
    "cfbuild validate-and-score --limit 100 --editor ft --set learning_rate=1e-4",
    "cfbuild validate-and-score --workers 4 --gpus 1",
    "cfbuild validate-and-score --file counterfact.json --validate-only",
)
MOST_CASES = 10
"""The most cases with the same fault that the summary lists, about a line; report.json has all."""


def run(
    build: Build = Path("build"),
    *,
    options: EvaluateOptions,
    validate_only: Annotated[bool, typer.Option("--validate-only", help="Only check the file; run no model.")] = False,
    lm_options: ModelOptions,
    processes: ModelWorkerOptions,
    output: OutputOptions,
) -> None:
    """Check every record, edit the model by each one, print the paper's metrics before and after.

    Prints every row that breaks the schema or a rule, and then exits with 1 unless --skip-invalid is given. Writes
    runs/NAME/ and report.html in the build. An interrupted run goes on after its last finished chunk of records.
    """
    folder = BuildFolder(build)
    if validate_only:
        validate(options.file or folder.require("records.jsonl"), output, stop=not options.skip_invalid)
        return
    from cfbuild.store.runs import new_run

    workers = ScoringWorkers(processes, lm_options)
    workers.check(options)
    read = read_to_edit(folder, options.file, options.skip_invalid, output)
    lm = output.load_model(lm_options)
    with output.progress() as progress:
        report = evaluate(folder, options, lm, progress, read, workers)
    for remark in report.remarks(options.name):
        print_text(f"cfbuild: {remark}", err=True)
    print_report(report, new_run(folder, options.name), output.json_)


def validate(path: Path, output: OutputOptions, stop: bool = True) -> None:
    """Print every violation of a file as it is found; exit with 1 if there is any and `stop` is True."""
    from cfbuild.audit.validate import RowTally, violations

    tally = RowTally()
    _print_violations(path, violations(path, tally), tally, stop, output)


def read_to_edit(folder: BuildFolder, file: Path | None, skip_invalid: bool, output: OutputOptions) -> RecordFile:
    """Return the records of a file (None: the build's), after printing its violations.

    Exits with 1 if there is any and `skip_invalid` is False.
    """
    from cfbuild.audit.validate import read_records

    read = read_records(file or folder.require("records.jsonl"))
    _print_violations(read.path, read.violations, read.tally, not skip_invalid, OutputOptions(quiet=output.quiet))
    return read


def _print_violations(
    path: Path, violations: Iterable[Violation], tally: RowTally, stop: bool, output: OutputOptions
) -> None:
    count = 0
    for violation in violations:
        count += 1
        print_json(asdict(violation), indent=None) if output.json_ else print_text(violation)
    if count and stop:
        print_text(f"cfbuild: {count} violations in {tally.faulty} of {tally.rows} rows of {path}", err=True)
        raise typer.Exit(1)
    output.note(f"{path}: {tally.rows - tally.faulty} of {tally.rows} rows are valid")


def print_report(report: Report, run: Run, as_json: bool) -> None:
    """Print a run's scores before and after its edits, the failed edits, and the paths of its files."""
    if as_json:
        print_json(report.as_dict())
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
        cases = ", ".join(map(str, ids[:MOST_CASES])) + (", ..." if len(ids) > MOST_CASES else "")
        console.print(f"{len(ids)} records without an edit: {fault} (cases {cases})", style="yellow", markup=False)
    console.print(visible(f"signature: {report.signature}"), style="dim", markup=False, soft_wrap=True)
    console.print(visible(f"cases: {run.path(CASES)}  report: {run.path(REPORT)}"), markup=False)


def _report_table(report: Report) -> Any:
    from cfbuild.score.run_report import STAGES
    from cfbuild.score.table import GROUP_FIGURES, HEADLINE, OTHER_FIGURES, figure_text

    title = f"{report.model}, {report.editor}, {report.cases} records (mean ± 95% interval)"
    table = new_table(("metric", "before", "after"), title)
    for name in (*HEADLINE, *OTHER_FIGURES, *GROUP_FIGURES):
        figures = [report.figures[stage].get(name) for stage in STAGES]
        if any(figures):
            cells = (figure_text(figure) if figure else "" for figure in figures)
            ends = name in ("RS", OTHER_FIGURES[-1])
            table.add_row(name, *cells, end_section=ends, style="bold" if name == "S" else None)
    return table


def _sequence_table(curve: SequenceCurve) -> Any:
    from cfbuild.score.metrics import HARMONIC

    title = f"over the edits, batches of {curve.batch}: right after / first / all so far"
    table = new_table(("edits", *HARMONIC, "perplexity"), title, texts=0)
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
