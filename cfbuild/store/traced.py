"""The causal traces of a build: any number, each in `traces/NAME/` and with its own manifest entry."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cfbuild.errors import ConfigError
from cfbuild.store.folder import BuildFolder
from cfbuild.store.manifest import VerbEntry
from cfbuild.store.runs import NAME

TRACE, TRACES = "trace", "traces"
ROWS, SKIPPED, SUMMARY, CASES_FOLDER = "traces.jsonl", "skipped.jsonl", "summary.json", "cases"


@dataclass(frozen=True, slots=True)
class TraceFolder:
    """The folder of the traces called `name`."""

    folder: BuildFolder
    name: str

    def __post_init__(self) -> None:
        if not NAME.match(self.name):
            raise ConfigError(
                f"--run {self.name}: expected letters, digits, '.', '_' and '-', 64 at the most, no '.' in front"
            )

    @property
    def entry(self) -> str:
        """The key of the manifest's entry."""
        return f"{TRACE}/{self.name}"

    @property
    def record(self) -> VerbEntry:
        """The manifest's entry; empty until the traces are finished."""
        return self.folder.manifest().entry(self.entry)

    def file(self, name: str) -> str:
        """Return the name in the build of a file of the traces."""
        return f"{TRACES}/{self.name}/{name}"

    def path(self, name: str) -> Path:
        """Return the path of a file of the traces."""
        return self.folder.path(self.file(name))


def finished_traces(folder: BuildFolder) -> list[TraceFolder]:
    """Return the build's finished traces whose rows exist, sorted by name."""
    keys = (entry.partition("/") for entry in folder.manifest().verbs)
    found = (TraceFolder(folder, name) for name in sorted(name for verb, _, name in keys if verb == TRACE and name))
    return [one for one in found if one.path(ROWS).is_file()]
