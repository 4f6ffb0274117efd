"""The scoring runs of a build, its sweeps and its traces: any number, each in a folder and with a manifest entry.

A build of an earlier cfbuild has a single run, whose files are at the build's top; it is read under its editor's name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cfbuild.errors import BuildStateError, ConfigError
from cfbuild.store.folder import BuildFolder
from cfbuild.store.manifest import VerbEntry

VERB = "validate-and-score"
RUNS = "runs"
CASES, REPORT, EDITS = "cases.jsonl", "report.json", "edits.safetensors"
RETAINED, CURVES_DRAWN = "retained.jsonl", "sequence.svg"
"""A sequence's cases on the model after all of its edits, and its curves."""
TIMING = "timing.json"
"""The time and memory of editing. They differ from run to run, so the manifest does not list the file."""
SWEEP, SWEEPS = "sweep", "sweeps"
"""The verb and the folder of sweeps, each in `sweeps/NAME/` and with its own manifest entry, like runs."""
POINTS, FOUND = "points.jsonl", "preset.json"
"""A sweep's rows, one a point and record, and the layer that it found best."""
TRACE, TRACES = "trace", "traces"
"""The verb and the folder of causal traces, each in `traces/NAME/`."""
TRACED, SKIPPED, SUMMARY, TRACED_CASES = "traces.jsonl", "skipped.jsonl", "summary.json", "cases"
"""The facts that were traced and those that were not, the averages, and a folder of files in the released format."""
BASE, LIKELIHOODS = "score-base", "pre_edit.jsonl"
"""The verb of models' scores before any edit, each in `base/NAME/`, and their rows, one a prompt."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")


@dataclass(frozen=True, slots=True)
class Run:
    """A scoring run, a sweep or a trace.

    `name` is as given to `--run`, `entry` its manifest key, `prefix` the start of its file names.
    """

    folder: BuildFolder
    name: str
    entry: str
    prefix: str

    def file(self, name: str) -> str:
        """Return the name in the build of the run's file `name`, such as `runs/rome/cases.jsonl`."""
        return f"{self.prefix}{name}"

    def path(self, name: str) -> Path:
        """Return the path of the run's file `name`."""
        return self.folder.path(self.file(name))

    @property
    def record(self) -> VerbEntry:
        """The manifest's entry: config, files, and counts with the signature; empty until the run is finished."""
        return self.folder.manifest().entry(self.entry)


def new_run(folder: BuildFolder, name: str) -> Run:
    """Return the run called `name`, finished or not. Raises ConfigError for a name that does not fit a folder."""
    return _new(folder, VERB, RUNS, name)


def new_sweep(folder: BuildFolder, name: str) -> Run:
    """Return the sweep called `name`, finished or not. Raises ConfigError as `new_run` does."""
    return _new(folder, SWEEP, SWEEPS, name)


def new_trace(folder: BuildFolder, name: str) -> Run:
    """Return the trace called `name`, finished or not. Raises ConfigError as `new_run` does."""
    return _new(folder, TRACE, TRACES, name)


def new_base(folder: BuildFolder, name: str) -> Run:
    """Return the scores before any edit called `name`, finished or not. Raises ConfigError as `new_run` does."""
    return _new(folder, BASE, "base", name)


def _new(folder: BuildFolder, verb: str, place: str, name: str) -> Run:
    if not NAME.match(name):
        raise ConfigError(f"--run {name}: expected letters, digits, '.', '_' and '-', 64 at the most, no '.' in front")
    return Run(folder, name, f"{verb}/{name}", f"{place}/{name}/")


def finished_sweeps(folder: BuildFolder) -> list[Run]:
    """Return the build's finished sweeps whose report exists, sorted by name."""
    return _finished(new_sweep(folder, name) for name in _names(folder, SWEEP))


def finished_traces(folder: BuildFolder) -> list[Run]:
    """Return the build's finished traces whose rows exist, sorted by name."""
    return _finished((new_trace(folder, name) for name in _names(folder, TRACE)), TRACED)


def finished_bases(folder: BuildFolder) -> list[Run]:
    """Return the build's finished scores before any edit, sorted by name."""
    return _finished((new_base(folder, name) for name in _names(folder, BASE)), LIKELIHOODS)


def _names(folder: BuildFolder, verb: str) -> list[str]:
    """Return the names that a verb's manifest entries have after it."""
    return [entry.partition("/")[2] for entry in folder.manifest().verbs if entry.startswith(f"{verb}/")]


def _finished(runs: Iterable[Run], file: str = REPORT) -> list[Run]:
    """Return the runs that have a file, sorted by name."""
    return sorted((run for run in runs if run.path(file).is_file()), key=lambda run: run.name)


def default_name(editor: str) -> str:
    """Return the default name of an editor's run: the editor's, without characters that a folder's name cannot hold."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", editor).strip("-.")[:64] or "run"


def finished_runs(folder: BuildFolder) -> list[Run]:
    """Return the build's finished runs whose report exists, sorted by name.

    A run of an earlier cfbuild whose editor's name a newer run has taken is called `NAME-earlier`.
    """
    entries = folder.manifest().verbs
    found = [new_run(folder, name) for name in _names(folder, VERB)]
    if VERB in entries:
        name = default_name(entries[VERB].config.get("editor", ""))
        taken = any(run.name == name for run in found)
        found.append(Run(folder, f"{name}-earlier" if taken else name, VERB, ""))
    return _finished(found)


def chosen_run(folder: BuildFolder, name: str | None) -> Run | None:
    """Return the finished run called `name`; without a name the first by name, or None if there is no run.

    Raises BuildStateError, listing the existing runs, if none has that name.
    """
    runs = finished_runs(folder)
    if name is None:
        return runs[0] if runs else None
    for run in runs:
        if run.name == name:
            return run
    there = ", ".join(run.name for run in runs) or "none"
    raise BuildStateError(f"{folder.root} has no run {name!r}; it has {there}")
