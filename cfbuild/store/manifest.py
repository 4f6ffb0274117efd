"""The content of manifest.json: the settings, files and counts of each verb."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cfbuild import __version__
from cfbuild.errors import DataError
from cfbuild.store.files import sha256_text
from cfbuild.store.schema import schema_faults

DIGEST = "sha256"
"""The key of the digest of all other keys, by which a changed file is recognised."""
TODAY = "today"
"""The key of the day for which fetched facts hold."""


@dataclass(frozen=True, slots=True)
class MadeFile:
    """A file that a verb made: the number of its rows, and the hex sha256 of its bytes."""

    rows: int
    sha256: str


@dataclass(frozen=True, slots=True)
class VerbEntry:
    """The entry of a verb or a run: its settings (`config`), the files that it made, and what it `counted`, by name."""

    config: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, MadeFile] = field(default_factory=dict)
    counted: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of_dict(cls, entry: Mapping[str, Any]) -> VerbEntry:
        """Return the entry that `as_dict` wrote."""
        files = {name: MadeFile(file["rows"], file["sha256"]) for name, file in entry["files"].items()}
        counted = {name: value for name, value in entry.items() if name not in ("config", "files")}
        return cls(entry["config"], files, counted)

    def as_dict(self) -> dict[str, Any]:
        """Return the entry as it is in the file, the counts beside `config` and `files`."""
        files = {name: {"rows": file.rows, "sha256": file.sha256} for name, file in sorted(self.files.items())}
        return {"config": dict(self.config), "files": files, **self.counted}


@dataclass(frozen=True, slots=True)
class Manifest:
    """The entries of a build, by verb or by `validate-and-score/NAME` for a run; `version` is that of cfbuild."""

    version: str = __version__
    verbs: Mapping[str, VerbEntry] = field(default_factory=dict)

    @classmethod
    def of_dict(cls, content: Any, place: object) -> Manifest:
        """Return the manifest that `content`, the JSON value of the file `place`, holds.

        Raises DataError if it is no manifest, or was changed since cfbuild wrote it.
        """
        for fault in schema_faults(content, "manifest"):
            raise DataError(f"{place}: {fault.path or '/'}: got {fault.got}; expected {fault.expected}")
        if content[DIGEST] != _digest(content):
            raise DataError(
                f"{place} was changed since cfbuild wrote it: its digest differs. Restore it, or delete it to have "
                "each verb done again (what was fetched is kept)"
            )
        return cls(content["cfbuild"], {verb: VerbEntry.of_dict(entry) for verb, entry in content["verbs"].items()})

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON value of the file."""
        content = {"cfbuild": self.version, "verbs": {verb: entry.as_dict() for verb, entry in self.verbs.items()}}
        return {**content, DIGEST: _digest(content)}

    def entry(self, verb: str) -> VerbEntry:
        """Return the entry of a verb or of a run (`validate-and-score/rome`); an empty one if it is not finished."""
        return self.verbs.get(verb, VerbEntry())

    @property
    def notes_today(self) -> bool:
        """Return True if the fetch wrote down the day for which its facts hold (earlier versions did not)."""
        return TODAY in self.entry("fetch").counted

    @property
    def today(self) -> str | None:
        """Return the day for which the fetched facts hold, else that of the last answer; None if neither is known."""
        counted = self.entry("fetch").counted
        last = (counted.get("retrieved") or {}).get("last")
        return counted.get(TODAY) or (last[: len("2026-11-26")] if last else None)


def _digest(content: Mapping[str, Any]) -> str:
    """Return the sha256 of a manifest's content without its digest; order and layout of the file do not matter."""
    rest = {name: value for name, value in content.items() if name != DIGEST}
    return sha256_text(json.dumps(rest, ensure_ascii=False, sort_keys=True))
