"""The command `sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cfbuild.cli.shared import Build, OutputOptions, new_table, print_json, print_text
from cfbuild.cli.validate_and_score import read_to_edit
from cfbuild.lm.selection import ModelOptions
from cfbuild.pipeline.sweep import SweepOptions, sweep
from cfbuild.store.folder import BuildFolder

if TYPE_CHECKING:
    from cfbuild.score.swept import Series, SweepReport
    from cfbuild.store.runs import Run

EXAMPLES = (
    "cfbuild sweep --model gpt2-medium",
    "cfbuild sweep --layers 0-11 --positions subject_last,last --limit 50 --run lower",
    "cfbuild sweep --editor ft --eps 5e-4,1e-3,5e-3,none",
)


def run(
    build: Build = Path("build"), *, options: SweepOptions, lm_options: ModelOptions, output: OutputOptions
) -> None:
    """Edit at every layer and token, draw the curves, and find the layer that --layer auto takes.

    A point is a layer and a token; for ft a layer and a bound on the change. At every point the same records are
    edited, each on the unedited model. An interrupted sweep goes on after its last finished point; a finished sweep is
    not repeated.
    """
    from cfbuild.store.runs import SWEEP, new_run

    folder = BuildFolder(build)
    read = read_to_edit(folder, options.file, options.skip_invalid, output)
    lm = output.load_model(lm_options)
    with output.progress() as progress:
        report = sweep(folder, options, lm, progress, read)
    if output.json_:
        print_json(report.as_dict())
    else:
        print_sweep(report, new_run(folder, options.name, SWEEP))


def print_sweep(report: SweepReport, sweep: Run) -> None:
    """Print S at every point, the highest of each column in bold, and the layer that was found."""
    from rich.console import Console
    from rich.text import Text

    from cfbuild.score.swept import series_name
    from cfbuild.store.runs import REPORT

    title = f"S of {report.editor} on {report.model}, {report.records} records (mean ± 95% interval)"
    table = new_table(("layer", *map(series_name, report.series)), title, texts=0)
    columns = [_cells(report, series) for series in report.series]
    for layer in report.layers:
        table.add_row(str(layer), *(column.get(layer, Text("–")) for column in columns))
    console = Console()
    console.print(table)
    faults = sum(point.faults for point in report.points)
    if faults:
        console.print(f"{faults} edits failed; points.jsonl has the reasons", style="yellow", markup=False)
    if report.found:
        others = ", ".join(map(str, report.found.as_good))
        print_text(f"layer to edit: {report.found.layer} (as good by these records: {others}); use it by --layer auto")
    print_text(f"report: {sweep.path(REPORT)}")


def _cells(report: SweepReport, series: Series) -> dict[int, Any]:
    from rich.text import Text

    curve = dict(report.curve(series, "S"))
    highest = max((figure.mean for figure in curve.values()), default=0.0)
    return {
        layer: Text(f"{figure.mean:.1f} ± {figure.half_width:.1f}", style="bold" if figure.mean == highest else "")
        for layer, figure in curve.items()
    }
