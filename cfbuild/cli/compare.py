"""The command `compare`."""

from __future__ import annotations

from pathlib import Path

from cfbuild.cli.report import TableOptions, print_reported
from cfbuild.cli.shared import Build, OutputOptions, print_text
from cfbuild.cli.validate_and_score import read_to_edit
from cfbuild.lm.selection import ModelOptions
from cfbuild.pipeline.compare import CompareOptions, compare
from cfbuild.pipeline.scoring import ScoringWorkers
from cfbuild.store.folder import BuildFolder
from cfbuild.work import ModelWorkerOptions

EXAMPLES = (
    "cfbuild compare --editors rome,ft,ft-l,memit,ike --limit 100 --texts 30 --in-use",
    "cfbuild compare --editors rome,ft --set rome.steps=10 --set ft.learning_rate=1e-4 --format markdown",
    "cfbuild compare --editors rome,emmet,memit --batch 50 --format latex",
)


def run(
    build: Build = Path("build"),
    *,
    options: CompareOptions,
    table: TableOptions,
    lm_options: ModelOptions,
    processes: ModelWorkerOptions,
    output: OutputOptions,
) -> None:
    """Edit and score every record by several editors; print the table of all; write report.html.

    Each editor gets a run of its name, the same as validate-and-score makes. A finished run is not repeated, an
    interrupted one goes on. If an editor cannot be made, nothing is run.
    """
    folder, workers = BuildFolder(build), ScoringWorkers(processes, lm_options)
    workers.check(options)
    read = read_to_edit(folder, options.file, options.skip_invalid, output)
    lm = output.load_model(lm_options)
    with output.progress() as progress:
        reported = compare(folder, options, lm, progress, read, workers)
    for remark in reported.unchanged:
        print_text(f"cfbuild: {remark}", err=True)
    print_reported(reported, table, output)
