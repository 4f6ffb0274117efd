"""The scoring runs of a build: any number stand side by side, each in `runs/NAME/` with a manifest entry of its own.

A build of an earlier cfbuild has one run, whose files lie at the build's top; it is read under its editor's name.
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
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")


@dataclass(frozen=True, slots=True)
class Run:
    """One scoring run: `name` as `--run` takes it, `entry` the manifest's word for it, `prefix` where its files lie."""

    folder: BuildFolder
    name: str
    entry: str
    prefix: str

    def file(self, name: str) -> str:
        """Return the name that a file of the run has in the build, such as `runs/rome/cases.jsonl`."""
        return f"{self.prefix}{name}"

    def path(self, name: str) -> Path:
        """Return where a file of the run lies."""
        return self.folder.path(self.file(name))

    @property
    def record(self) -> VerbEntry:
        """The manifest's entry: config, files, and the signature among what was counted; empty until it is finished."""
        return self.folder.manifest().entry(self.entry)


def new_run(folder: BuildFolder, name: str) -> Run:
    """Return the run called `name`, finished or not. Raises ConfigError for a name that no folder can have."""
    if not NAME.match(name):
        raise ConfigError(f"--run {name}: expected letters, digits, '.', '_' and '-', 64 at the most, no '.' in front")
    return Run(folder, name, f"{VERB}/{name}", f"{RUNS}/{name}/")


def default_name(editor: str) -> str:
    """Return the name of a run that was given none: its editor's, without what a folder's name cannot hold."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", editor).strip("-.")[:64] or "run"


def finished_runs(folder: BuildFolder) -> list[Run]:
    """Return the build's finished runs whose report is there, by name.

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
    """Return the finished run called `name`; without a name the only one, or the first by name, or None.

    Raises BuildStateError naming those there are if there is none of that name.
    """
    runs = finished_runs(folder)
    if name is None:
        return runs[0] if runs else None
    for run in runs:
        if run.name == name:
            return run
    there = ", ".join(run.name for run in runs) or "none"
    raise BuildStateError(f"{folder.root} has no run {name!r}; it has {there}")
