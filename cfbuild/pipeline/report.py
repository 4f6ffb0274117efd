"""`cfbuild report`: report.html and the table of a build's runs. `validate-and-score` writes the page too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cfbuild.audit.validate import RecordFile, read_records
from cfbuild.data import Record
from cfbuild.errors import BuildStateError, DataError
from cfbuild.probe.effects import mlp_effects, read_traces
from cfbuild.progress import Progress, silent
from cfbuild.score.matrix import finished_matrices
from cfbuild.score.metrics import CaseValues
from cfbuild.score.scored import ScoredRun, scored_runs
from cfbuild.score.swept import SweepReport, read_sweep
from cfbuild.score.table import ScoreTable
from cfbuild.store.files import write_atomic
from cfbuild.store.folder import BuildFolder
from cfbuild.store.manifest import Manifest
from cfbuild.store.runs import Run, finished_sweeps, finished_traces
from cfbuild.views.page import PageInput, RunView, SweepView, listed, make_page, run_view
from cfbuild.views.page.heat import TraceView, trace_view
from cfbuild.views.page.plots import sweep_plots

PAGE = "report.html"


@dataclass(frozen=True, slots=True)
class Reported:
    """The page's path, the table over its runs, and the names of runs that scored another file.

    `unchanged` holds a remark on each run whose edits changed nothing.
    """

    page: Path
    table: ScoreTable
    left_out: tuple[str, ...]
    unchanged: tuple[str, ...] = ()


def write_page(folder: BuildFolder, file: Path | None = None, read: RecordFile | None = None) -> Path:
    """Write report.html of the build's records and all their runs; return its path. Raises as `report` does."""
    return report(folder, file, read).page


def report(
    folder: BuildFolder,
    file: Path | None = None,
    read: RecordFile | None = None,
    runs: Sequence[str] = (),
    progress: Progress = silent,
) -> Reported:
    """Write report.html of the build's records and their runs; return its path and the table in it.

    file: the scored file of records, if it is not the build's. read: the records, if they were read before. runs: the
    names of the runs to show, in this order (none: all, by name); others of a model are compared with its first.
    Raises BuildStateError if there are no records, only runs that scored another file, or not all of `runs`; DataError
    for files that cannot be read or hold violations.
    """
    if read is None:
        read = read_records(file or folder.require("records.jsonl"))
        if file is None and read.violations:
            raise DataError(str(read.violations[0]))
    found, left_out = runs_of(folder, read, runs)
    views, table = _read_runs(found, listed(read.records), progress)
    manifest = folder.manifest() if file is None else Manifest()
    given = PageInput(
        records=read.records,
        runs=views,
        table=table,
        dropped=manifest.entry("generate").counted.get("by_rule", {}),
        origin=_origin(manifest),
        left_out=left_out,
        traces=_traces_of(folder, read),
        matrices=finished_matrices(folder),
        sweeps=[_sweep_view(sweep, read_sweep(sweep), folder) for sweep in finished_sweeps(folder)],
    )
    write_atomic(folder.path(PAGE), make_page(given))
    unchanged = (remark for run in found for remark in run.report.remarks(run.name))
    return Reported(folder.path(PAGE), table, left_out, tuple(unchanged))


def _traces_of(folder: BuildFolder, read: RecordFile) -> list[TraceView]:
    """Return the build's causal traces of these records, and those of prompts."""
    views = []
    for made in finished_traces(folder):
        config = made.record.config
        if config.get("records") in (None, read.sha256):
            views.append(trace_view(made.name, read_traces(made), config["metric"], config["pictures"]))
    return [view for view in views if view is not None]


def _sweep_view(sweep: Run, found: SweepReport, folder: BuildFolder) -> SweepView:
    """Return a sweep to be shown, beside the MLPs' effects in the build's first trace of the same weights."""
    model = found.settings.get("model"), found.settings.get("revision")
    for made in finished_traces(folder):
        config = made.record.config
        if config["prompt"] is None and (config["model"], config["revision"]) == model:
            return SweepView(sweep.name, found, sweep_plots(found, mlp_effects(read_traces(made))))
    return SweepView(sweep.name, found, sweep_plots(found))


def runs_of(folder: BuildFolder, read: RecordFile, wanted: Sequence[str]) -> tuple[list[ScoredRun], tuple[str, ...]]:
    """Return the runs that scored this file, and the names of the others; of those `wanted`, where there are any.

    Raises BuildStateError if there are only others, or one that is wanted is not there.
    """
    found = scored_runs(folder)
    if wanted:
        named = {run.name: run for run in found}
        missing = [name for name in wanted if name not in named]
        if missing:
            raise BuildStateError(f"{folder.root} has no run {', '.join(missing)}; it has {', '.join(named) or 'none'}")
        found = [named[name] for name in dict.fromkeys(wanted)]
    runs = [run for run in found if run.scores_file(read.sha256)]
    if found and not runs:
        raise BuildStateError(
            f"{read.path} is not the file that was scored in {folder.root}; name that one by --file, or score this one"
        )
    return runs, tuple(run.name for run in found if run not in runs)


def _read_runs(
    runs: Sequence[ScoredRun], records: Sequence[Record], progress: Progress
) -> tuple[list[RunView], ScoreTable]:
    """Return the runs as the page shows them, and their table. The cases of one run at a time are in memory."""
    views, values = [], {}
    for number, run in enumerate(runs):
        progress("runs on the page", number, len(runs))
        cases = list(run.cases())
        views.append(run_view(run.name, run.report, cases, records))
        values[run.name] = CaseValues.of(cases)
    progress("runs on the page", len(runs), len(runs))
    costs = {run.name: run.cost for run in runs}
    return views, ScoreTable.of({run.name: run.report for run in runs}, costs, values)


def _origin(manifest: Manifest) -> dict[str, str]:
    """Return the origin of the build as the manifest has it: source, language, seed and filter, as far as known."""
    fetched, made = (manifest.entry(verb).config for verb in ("fetch", "generate"))
    judge = made.get("model_filter")
    filtered = f"{judge['model']} ({judge['revision']})" if judge else "no model" if made else None
    known = {
        "source": fetched.get("source"),
        "language": made.get("language") or fetched.get("language"),
        "seed": made.get("seed", made.get("build", {}).get("seed")),
        "filtered by": filtered,
    }
    return {name: str(value) for name, value in known.items() if value is not None}
