"""The command `compare`."""

from __future__ import annotations

from pathlib import Path

from cfbuild.cli.report import TableOptions, print_made
from cfbuild.cli.shared import Build, OutputOptions, load_model, open_folder, shown_progress, tell
from cfbuild.cli.validate_and_score import read_to_edit
from cfbuild.lm.selection import ModelOptions
from cfbuild.pipeline.compare import CompareOptions, compare
from cfbuild.pipeline.scoring import Crew
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
    working: ModelWorkerOptions,
    output: OutputOptions,
) -> None:
    """Edit and score every record by each of several editors; print their table; write report.html.

    Every editor has a run of its name, as of validate-and-score. A finished run is not repeated, an interrupted one
    goes on. Nothing is run if any of the editors cannot be made.
    """
    folder, crew = open_folder(build), Crew(working, lm_options)
    crew.check(options)
    read = read_to_edit(folder, options.file, options.skip_invalid, output)
    lm = load_model(lm_options, output.quiet)
    with shown_progress(output.quiet) as progress:
        made = compare(folder, options, lm, progress, read, crew)
    for remark in made.unchanged:
        tell(f"cfbuild: {remark}", err=True)
    print_made(made, table, output)
