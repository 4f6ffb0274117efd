"""The scoring runs of a build: any number, each in `runs/NAME/` and with its own manifest entry.

A build of an earlier cfbuild has a single run, whose files are at the build's top; it is read under its editor's name.
"""

from __future__ import annotations

import re
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
"""What editing took. It differs from run to run, so it is none of the run's files in the manifest."""
SWEEP, SWEEPS = "sweep", "sweeps"
"""The verb and the folder of sweeps, each in `sweeps/NAME/` and with its own manifest entry, like runs."""
POINTS, FOUND = "points.jsonl", "preset.json"
"""A sweep's rows, one a point and record, and the layer that it found best."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")


@dataclass(frozen=True, slots=True)
class Run:
    """A scoring run, or a sweep.

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
    if not NAME.match(name):
        raise ConfigError(f"--run {name}: expected letters, digits, '.', '_' and '-', 64 at the most, no '.' in front")
    return Run(folder, name, f"{VERB}/{name}", f"{RUNS}/{name}/")


def new_sweep(folder: BuildFolder, name: str) -> Run:
    """Return the sweep called `name`, finished or not. Raises ConfigError as `new_run` does."""
    new_run(folder, name)
    return Run(folder, name, f"{SWEEP}/{name}", f"{SWEEPS}/{name}/")


def finished_sweeps(folder: BuildFolder) -> list[Run]:
    """Return the build's finished sweeps whose report exists, sorted by name."""
    names = (entry.partition("/")[2] for entry in folder.manifest().verbs if entry.startswith(f"{SWEEP}/"))
    found = (new_sweep(folder, name) for name in names)
    return sorted((sweep for sweep in found if sweep.path(REPORT).is_file()), key=lambda sweep: sweep.name)


def default_name(editor: str) -> str:
    """Return the default name of an editor's run: the editor's, without characters that a folder's name cannot hold."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", editor).strip("-.")[:64] or "run"


def finished_runs(folder: BuildFolder) -> list[Run]:
    """Return the build's finished runs whose report exists, sorted by name.

    A run of an earlier cfbuild whose editor's name a newer run has taken is called `NAME-earlier`.
    """
    entries = folder.manifest().verbs
    found = [new_run(folder, entry.partition("/")[2]) for entry in entries if entry.startswith(f"{VERB}/")]
    if VERB in entries:
        name = default_name(entries[VERB].config.get("editor", ""))
        taken = any(run.name == name for run in found)
        found.append(Run(folder, f"{name}-earlier" if taken else name, VERB, ""))
    return sorted((run for run in found if run.path(REPORT).is_file()), key=lambda run: run.name)


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
