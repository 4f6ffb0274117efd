"""`cfbuild report`: report.html and the table of a build's runs. `validate-and-score` writes the page too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cfbuild.audit.validate import RecordFile, read_records
from cfbuild.errors import BuildStateError, DataError
from cfbuild.progress import Progress, silent
from cfbuild.score.scored import ScoredRun, scored_runs, table_of
from cfbuild.score.table import ScoreTable
from cfbuild.store.files import write_atomic
from cfbuild.store.folder import BuildFolder
from cfbuild.store.manifest import Manifest
from cfbuild.views.page import PageInput, PageRun, make_page

PAGE = "report.html"


@dataclass(frozen=True, slots=True)
class Reported:
    """The page's path, the table over its runs, and the names of runs that scored another file."""

    page: Path
    table: ScoreTable
    left_out: tuple[str, ...]


def write_page(folder: BuildFolder, file: Path | None = None, read: RecordFile | None = None) -> Path:
    """Write report.html of the build's records and all their runs; return its path. Raises as `report` does."""
    return report(folder, file, read).page


def report(
    folder: BuildFolder, file: Path | None = None, read: RecordFile | None = None, progress: Progress = silent
) -> Reported:
    """Write report.html of the build's records and all their runs; return its path and the table in it.

    file: the scored file of records, if it is not the build's. read: the records, if they were read before.
    Raises BuildStateError if there are no records, or only runs that scored another file; DataError for files that
    cannot be read or hold violations.
    """
    if read is None:
        read = read_records(file or folder.require("records.jsonl"))
        if file is None and read.violations:
            raise DataError(str(read.violations[0]))
    runs, left_out = _runs_of(folder, read)
    manifest = folder.manifest() if file is None else Manifest()
    given = PageInput(
        records=read.records,
        runs=_page_runs(runs, progress),
        dropped=manifest.entry("generate").counted.get("by_rule", {}),
        origin=_origin(manifest),
        left_out=left_out,
    )
    write_atomic(folder.path(PAGE), make_page(given))
    return Reported(folder.path(PAGE), table_of(runs), left_out)


def _runs_of(folder: BuildFolder, read: RecordFile) -> tuple[list[ScoredRun], tuple[str, ...]]:
    """Return the runs that scored this file, and the names of the others.

    Raises BuildStateError if there are only others.
    """
    found = scored_runs(folder)
    runs = [run for run in found if run.scores_file(read.sha256)]
    if found and not runs:
        raise BuildStateError(
            f"{read.path} is not the file that was scored in {folder.root}; name that one by --file, or score this one"
        )
    return runs, tuple(run.name for run in found if run not in runs)


def _page_runs(runs: Sequence[ScoredRun], progress: Progress) -> Iterator[PageRun]:
    for number, run in enumerate(runs):
        progress("runs on the page", number, len(runs))
        yield PageRun(run.name, run.report, list(run.cases()))
    progress("runs on the page", len(runs), len(runs))


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
