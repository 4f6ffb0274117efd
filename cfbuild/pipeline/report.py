"""`cfbuild report`: report.html and the table of a build's runs. `validate-and-score` writes the page too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cfbuild.audit.validate import RecordFile, read_valid, violations
from cfbuild.data import Record
from cfbuild.errors import BuildStateError, DataError
from cfbuild.probe.effects import mlp_effects, read_traces
from cfbuild.progress import Progress, silent
from cfbuild.score.matrix import finished_matrices
from cfbuild.score.scored import ScoredRun, scored_runs
from cfbuild.score.swept import read_sweep
from cfbuild.score.table import ScoreTable
from cfbuild.store.codec import decode_record
from cfbuild.store.files import write_atomic
from cfbuild.store.folder import BuildFolder
from cfbuild.store.jsonl import Value
from cfbuild.store.manifest import Manifest
from cfbuild.store.runs import SWEEP, TRACE, Run, finished_runs
from cfbuild.store.schema.located import LocatedRows
from cfbuild.views.page import RunView, SweepView, make_page, run_view
from cfbuild.views.page.heat import TraceView, trace_view
from cfbuild.views.page.plots import sweep_plots
from cfbuild.views.page.shown import ShownCases, ShownRecords, show_records

PAGE = "report.html"
ROWS_AT_ONCE = 1_000
"""Rows between two reports of progress, well under a second of work."""


@dataclass(frozen=True, slots=True)
class Reported:
    """The page's path, the table of its runs, and the names of runs that are not on it, for they scored another file.

    unchanged: a remark on each run whose edits changed nothing.
    """

    page: Path
    table: ScoreTable
    left_out: tuple[str, ...]
    unchanged: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Streamed:
    """A file of records that is read again whenever records are needed; `rows` is the number of its rows."""

    path: Path
    sha256: str
    rows: int

    @classmethod
    def of(cls, path: Path, progress: Progress) -> _Streamed:
        """Return the file after counting its rows. Raises DataError if it cannot be read."""
        with LocatedRows(path) as rows:
            count = sum(1 for _ in _reported(rows, "rows counted", None, progress))
            return cls(path, rows.sha256, count)

    def shown(self, whole: bool, progress: Progress) -> ShownRecords:
        """Return the valid records as the page has them. Raises DataError for an invalid row if `whole`."""
        shown = show_records(self._records(progress), self.rows)
        if whole and (not self.rows or shown.count < self.rows):
            raise DataError(str(next(violations(self.path))))
        return shown if shown.count == self.rows else show_records(self._records(progress), shown.count)

    def _records(self, progress: Progress) -> Iterator[Record]:
        return map(decode_record, _reported(read_valid(self.path), "records read", self.rows, progress))


def _reported(rows: Iterable[Value], task: str, total: int | None, progress: Progress) -> Iterator[Value]:
    """Yield the rows, and report every ROWS_AT_ONCE of them as progress of a task."""
    for number, row in enumerate(rows, start=1):
        yield row
        if not number % ROWS_AT_ONCE:
            progress(task, number, total)


def report(
    folder: BuildFolder,
    file: Path | None = None,
    read: RecordFile | None = None,
    runs: Sequence[str] = (),
    progress: Progress = silent,
) -> Reported:
    """Write report.html of the build's records and their runs; return its path and the table in it.

    file: the scored file of records, if it is not the build's.
    read: the records, if they were read before.
    runs: the names of the runs to show, in this order; none for all, by name. The others of a model are compared with
    its first.
    Raises BuildStateError if there are no records, only runs that scored another file, or not all of `runs`; DataError
    for files that cannot be read or hold violations.
    """
    scored: RecordFile | _Streamed
    if read is None:
        scored = _Streamed.of(file or folder.require("records.jsonl"), progress)
        shown = scored.shown(file is None, progress)
    else:
        scored, shown = read, show_records(read.records, len(read.records))
    chosen, left_out = runs_of(folder, scored, runs)
    views, table = _read_runs(chosen, shown.case_ids, progress)
    manifest = folder.manifest() if file is None else Manifest()
    page = make_page(
        shown,
        views,
        table,
        manifest.entry("generate").counted.get("by_rule", {}),
        origin=_origin(manifest),
        left_out=left_out,
        traces=_traces_of(folder, scored),
        matrices=finished_matrices(folder),
        sweeps=[_sweep_view(sweep, folder) for sweep in finished_runs(folder, SWEEP)],
    )
    write_atomic(folder.path(PAGE), page)
    unchanged = (remark for run in chosen for remark in run.report.remarks(run.name))
    return Reported(folder.path(PAGE), table, left_out, tuple(unchanged))


def _traces_of(folder: BuildFolder, read: RecordFile | _Streamed) -> list[TraceView]:
    views = []
    for trace in finished_runs(folder, TRACE):
        config = trace.record.config
        if config.get("records") in (None, read.sha256):
            views.append(trace_view(trace.name, read_traces(trace), config["metric"], config["pictures"]))
    return [view for view in views if view is not None]


def _sweep_view(sweep: Run, folder: BuildFolder) -> SweepView:
    """Return a sweep for the page, with the MLPs' effects in the build's first trace of the same weights, if any."""
    report = read_sweep(sweep)
    model = report.settings.get("model"), report.settings.get("revision")
    for trace in finished_runs(folder, TRACE):
        config = trace.record.config
        if config["prompt"] is None and (config["model"], config["revision"]) == model:
            return SweepView(sweep.name, report, sweep_plots(report, mlp_effects(read_traces(trace))))
    return SweepView(sweep.name, report, sweep_plots(report))


def runs_of(
    folder: BuildFolder, read: RecordFile | _Streamed, names: Sequence[str]
) -> tuple[list[ScoredRun], tuple[str, ...]]:
    """Return the runs that scored the file `read`, and the names of the other runs.

    names: the runs to choose from, in this order; none for all. Raises BuildStateError if one of them does not exist,
    or if all scored another file.
    """
    found = scored_runs(folder)
    if names:
        by_name = {run.name: run for run in found}
        if missing := [name for name in names if name not in by_name]:
            existing = ", ".join(by_name) or "none"
            raise BuildStateError(f"{folder.root} has no run {', '.join(missing)}; it has {existing}")
        found = [by_name[name] for name in dict.fromkeys(names)]
    runs = [run for run in found if run.scores_file(read.sha256)]
    if found and not runs:
        raise BuildStateError(
            f"{read.path} is not the file that was scored in {folder.root}; name that one by --file, or score this one"
        )
    return runs, tuple(run.name for run in found if run not in runs)


def _read_runs(
    runs: Sequence[ScoredRun], listed: Sequence[int], progress: Progress
) -> tuple[list[RunView], ScoreTable]:
    """Return the runs as the page shows them, and their table. `listed` are the case ids of the page's records."""
    views, values = [], {}
    for number, run in enumerate(runs):
        progress("runs on the page", number, len(runs))
        cases = ShownCases(run.cases(), listed)
        views.append(run_view(run.name, run.report, cases))
        values[run.name] = cases.values
    progress("runs on the page", len(runs), len(runs))
    costs = {run.name: run.cost for run in runs}
    return views, ScoreTable.of({run.name: run.report for run in runs}, costs, values)


def _origin(manifest: Manifest) -> dict[str, str]:
    """Return what the manifest says of the build's origin: source, language, seed and filter, as far as known."""
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
