"""The scoring runs of a build, its sweeps, its traces and its scores before any edit.

Each has a name, a folder such as `runs/NAME/`, and a manifest entry such as `validate-and-score/NAME`. A build of
cfbuild 0.1 has one run, whose files are not in a folder of their own; it has its editor's name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from cfbuild.errors import ConfigError
from cfbuild.store.folder import BuildFolder
from cfbuild.store.manifest import VerbEntry

VERB, SWEEP, TRACE, BASE = "validate-and-score", "sweep", "trace", "score-base"
"""The verbs that make runs, sweeps, traces and scores before any edit."""
RUNS = "runs"
CASES, REPORT, EDITS = "cases.jsonl", "report.json", "edits.safetensors"
RETAINED, CURVES_DRAWN = "retained.jsonl", "sequence.svg"
"""The cases of a sequence on the model after all edits, and the drawing of its curves."""
TIMING = "timing.json"
"""The time and memory that editing took; not in the manifest, because no two runs have the same."""
POINTS, FOUND = "points.jsonl", "preset.json"
"""A sweep's rows, one for each point and record, and the best layer."""
TRACED, SKIPPED, SUMMARY, TRACED_CASES = "traces.jsonl", "skipped.jsonl", "summary.json", "cases"
"""The traces, the facts without one, the averages, and the folder of files in the released format."""
LIKELIHOODS = "pre_edit.jsonl"
"""The scores before any edit, a row for each prompt."""
PLACES = {VERB: (RUNS, REPORT), SWEEP: ("sweeps", REPORT), TRACE: ("traces", TRACED), BASE: ("base", LIKELIHOODS)}
"""By verb, the folder of its runs, and a file that each finished one has."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")


@dataclass(frozen=True, slots=True)
class Run:
    """A run, a sweep, a trace or scores before any edit, finished or not.

    `name` is as given to `--run`, `entry` the key in the manifest, `prefix` the folder with a slash (empty for none).
    """

    folder: BuildFolder
    name: str
    entry: str
    prefix: str

    def file(self, name: str) -> str:
        """Return the path of the run's file `name` inside the build, such as `runs/rome/cases.jsonl`."""
        return f"{self.prefix}{name}"

    def path(self, name: str) -> Path:
        """Return the path of the run's file `name`."""
        return self.folder.path(self.file(name))

    @property
    def record(self) -> VerbEntry:
        """Return the manifest's entry of the run; an empty one until it is finished."""
        return self.folder.manifest().entry(self.entry)


def new_run(folder: BuildFolder, name: str, verb: str = VERB) -> Run:
    """Return the run (or sweep, ... by its `verb`) called `name`, finished or not.

    Raises ConfigError for a name that no folder may have.
    """
    if not NAME.match(name):
        raise ConfigError(f"--run {name}: expected up to 64 letters, digits, '.', '_', '-', a letter or digit first")
    return Run(folder, name, f"{verb}/{name}", f"{PLACES[verb][0]}/{name}/")


def default_name(editor: str) -> str:
    """Return the default name of a run of `editor`: its own, with `-` for characters that a run's name cannot hold."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", editor).strip("-.")[:64] or "run"


def finished_runs(folder: BuildFolder, verb: str = VERB) -> list[Run]:
    """Return the finished runs (or sweeps, ... by their `verb`) whose main file exists, sorted by name.

    If another run has the name of the run of cfbuild 0.1, that is called `NAME-earlier`.
    """
    entries = folder.manifest().verbs
    found = [new_run(folder, entry.partition("/")[2], verb) for entry in entries if entry.startswith(f"{verb}/")]
    if verb == VERB and VERB in entries:
        name = default_name(entries[VERB].config.get("editor", ""))
        is_taken = any(run.name == name for run in found)
        found.append(Run(folder, f"{name}-earlier" if is_taken else name, VERB, ""))
    return sorted((run for run in found if run.path(PLACES[verb][1]).is_file()), key=lambda run: run.name)
