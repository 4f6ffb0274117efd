"""The build folder: where files lie, what made them, and whether a verb starts, resumes, or has nothing left to do.

Every verb calls `begin` with everything that affects its bytes (options, seed, digests of input files), works into
`progress/VERB/`, puts its output files in place, and calls `finish`. What `begin` was given is kept, so a run with
other settings on unfinished or finished work is refused with the difference instead of mixing two builds.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cfbuild import __version__
from cfbuild.codec import parse_json, sha256_file, write_json
from cfbuild.errors import BuildStateError, DataError

MANIFEST = "manifest.json"
MAKER = {"facts.jsonl": "fetch", "entities.jsonl": "fetch", "templates.jsonl": "fetch", "records.jsonl": "generate"}


class BuildFolder:
    """One build on the disk. Raises BuildStateError where its state does not allow what is asked."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, name: str) -> Path:
        """Where the file `name` of the build lies."""
        return self.root / name

    def require(self, name: str) -> Path:
        """The path of an input file. Raises BuildStateError naming the verb that makes it if it is not there."""
        path = self.path(name)
        if not path.is_file():
            raise BuildStateError(
                f"{path} does not exist; run `cfbuild {MAKER.get(name, 'fetch')} --build {self.root}` first"
            )
        return path

    def progress(self, verb: str) -> Path:
        """The folder where `verb` keeps what it needs to resume; made if it is not there."""
        path = self.root / "progress" / verb
        path.mkdir(parents=True, exist_ok=True)
        return path

    @contextmanager
    def lock(self, verb: str) -> Iterator[None]:
        """Hold the build for one process. Raises BuildStateError naming the process that holds it."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / ".lock").open("a+", encoding="utf-8") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                stream.seek(0)
                holder = stream.read().strip() or "another process"
                raise BuildStateError(
                    f"{self.root} is in use by {holder}; wait for it or choose another --build"
                ) from error
            stream.truncate(0)
            stream.write(f"cfbuild {verb}, process {os.getpid()}")
            stream.flush()
            yield

    def manifest(self) -> dict[str, Any]:
        """The manifest as it stands; a fresh one where there is none. Raises DataError if it is not a manifest."""
        path = self.path(MANIFEST)
        if not path.exists():
            return {"cfbuild": __version__, "verbs": {}}
        manifest = parse_json(path.read_text(encoding="utf-8"), str(path))
        if not isinstance(manifest, dict) or not isinstance(manifest.get("verbs"), dict):
            raise DataError(f"{path}: is not a cfbuild manifest; expected an object with `verbs`")
        return manifest

    def begin(self, verb: str, config: Mapping[str, Any], *, restart: bool = False) -> bool:
        """Start or resume `verb`; return False if its finished output stands, made with this very `config`.

        Raises BuildStateError if finished or unfinished work was made with another config and `restart` is not set.
        """
        if restart:
            shutil.rmtree(self.root / "progress" / verb, ignore_errors=True)
            self._forget(verb)
        done = self.manifest()["verbs"].get(verb)
        if done is not None:
            self._refuse_difference(verb, "finished", done["config"], config)
            if all(self._stands(name, entry) for name, entry in done["files"].items()):
                return False
        note = self.progress(verb) / "config.json"
        if note.exists():
            started = parse_json(note.read_text(encoding="utf-8"), str(note))
            self._refuse_difference(verb, "unfinished", started, config)
        else:
            write_json(note, dict(config))
        return True

    def finish(self, verb: str, config: Mapping[str, Any], files: Mapping[str, int], facts: Mapping[str, Any]) -> None:
        """Enter `verb` into the manifest: its config, its files (name -> rows) with digests, and what it counted."""
        manifest = self.manifest()
        manifest["cfbuild"] = __version__
        manifest["verbs"][verb] = {
            "config": dict(config),
            "files": {
                name: {"rows": rows, "sha256": sha256_file(self.path(name))} for name, rows in sorted(files.items())
            },
            **facts,
        }
        write_json(self.path(MANIFEST), manifest)

    def digests(self, names: Sequence[str]) -> dict[str, str]:
        """sha256 of input files by name, for a config that must notice when they change."""
        return {name: sha256_file(self.require(name)) for name in names}

    def _forget(self, verb: str) -> None:
        manifest = self.manifest()
        if manifest["verbs"].pop(verb, None) is not None:
            write_json(self.path(MANIFEST), manifest)

    def _stands(self, name: str, entry: Mapping[str, Any]) -> bool:
        path = self.path(name)
        return path.is_file() and sha256_file(path) == entry["sha256"]

    def _refuse_difference(self, verb: str, state: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        keys = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
        if keys:
            shown = "; ".join(f"{key}: {old.get(key)!r} then, {new.get(key)!r} now" for key in keys)
            raise BuildStateError(
                f"{self.root} holds {state} work of `cfbuild {verb}` made with other settings ({shown}). "
                "Use the same settings, another --build, or --restart to start this verb over"
            )
