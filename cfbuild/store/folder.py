"""The build folder: where files lie, what made them, and whether a verb starts, resumes, or has nothing left to do.

Every verb calls `begin` with everything that affects its bytes (options, seed, digests of input files), works into
`progress/VERB/`, puts its output files in place, and calls `finish`. What `begin` was given is kept, so a run with
other settings on unfinished or finished work is refused with the difference instead of mixing two builds.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cfbuild.errors import BuildStateError, DataError
from cfbuild.store.files import sha256_file
from cfbuild.store.jsonl import read_json, write_json
from cfbuild.store.manifest import MadeFile, Manifest, VerbEntry

MANIFEST = "manifest.json"
LOCK = ".lock"
FOLDERS = ("progress", "publish", "export", "runs")
"""Folders of a build, in which files are written and deleted."""
MAKER = {"facts.jsonl": "fetch", "entities.jsonl": "fetch", "templates.jsonl": "fetch", "records.jsonl": "generate"}

_log = logging.getLogger(__name__)


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
        if path.is_symlink():
            raise _foreign(path)
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
        """Hold the build for one process. Raises BuildStateError naming the process that holds it and since when, or
        something in the folder that is neither a file nor a folder."""
        self.root.mkdir(parents=True, exist_ok=True)
        self.refuse_links()
        handle = os.open(self.root / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        with os.fdopen(handle, "r+", encoding="utf-8", errors="replace") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                holder = stream.read(200).strip() or "another process"
                raise BuildStateError(
                    f"{self.root} is in use by {holder}; wait for it or choose another --build"
                ) from error
            stream.truncate(0)
            since = datetime.now(timezone.utc).isoformat(timespec="seconds")
            stream.write(f"cfbuild {verb}, process {os.getpid()}, since {since}")
            stream.flush()
            yield

    def refuse_links(self) -> None:
        """Raise BuildStateError for a symbolic link, a pipe or a device in the folder: cfbuild would write, delete or
        publish what lies elsewhere."""
        folders = (self.root, *(self.root / name for name in FOLDERS))
        for path in (*self.root.glob("*"), *(path for folder in folders[1:] for path in folder.rglob("*"))):
            mode = path.lstat().st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                raise _foreign(path)

    def manifest(self) -> Manifest:
        """Return the manifest as it stands, an empty one where there is none.

        Raises DataError if it is not as cfbuild wrote it.
        """
        path = self.path(MANIFEST)
        return Manifest.of_dict(read_json(path), path) if path.exists() else Manifest()

    def begin(self, verb: str, config: Mapping[str, Any], *, restart: bool = False) -> bool:
        """Start or resume `verb`; return False if its finished output stands, made with this very `config`.

        Raises BuildStateError if finished or unfinished work was made with another config and `restart` is not set.
        """
        if restart:
            self._forget(verb)
            shutil.rmtree(self.root / "progress" / verb, ignore_errors=True)
        done = self.manifest().verbs.get(verb)
        if done is not None:
            self._refuse_difference(verb, "finished", done.config, config)
            self.refuse_changed([name for name in done.files if self.path(name).exists()])
            if all(self.path(name).is_file() for name in done.files):
                return False
        note = self.root / "progress" / verb / "config.json"
        if note.exists():
            started = read_json(note)
            if not isinstance(started, dict):
                raise DataError(f"{note}: is not what cfbuild keeps there; use --restart to start this verb over")
            self._refuse_difference(verb, "unfinished", started, config)
        else:
            # What lies there without its settings is what a killed --restart had not deleted yet.
            shutil.rmtree(note.parent, ignore_errors=True)
            write_json(self.progress(verb) / note.name, dict(config))
        return True

    def discard(self, verb: str) -> None:
        """Remove what `verb` needed to resume, now that it is finished."""
        shutil.rmtree(self.root / "progress" / verb, ignore_errors=True)

    def finish(
        self, verb: str, config: Mapping[str, Any], files: Mapping[str, int], counted: Mapping[str, Any]
    ) -> None:
        """Enter `verb` into the manifest: its config, its files (name -> rows) with digests, and what it counted."""
        made = {name: MadeFile(rows, sha256_file(self.path(name))) for name, rows in files.items()}
        self._write(self.manifest().with_entry(verb, VerbEntry(config, made, counted)))

    def digests(self, names: Sequence[str]) -> dict[str, str]:
        """sha256 of input files by name, for a config that must notice when they change. Tells of one that is no longer
        as the verb that made it left it: that may be meant."""
        for verb, name in self.changed(names):
            _log.warning("%s was changed since `%s` wrote it; it is used as it is", self.path(name), _command(verb))
        return {name: sha256_file(self.require(name)) for name in names}

    def changed(self, names: Sequence[str] | None = None) -> list[tuple[str, str]]:
        """(verb, name) of each file there is, of `names` or of all, that is not as the manifest says."""
        return [
            (verb, name)
            for verb, entry in self.manifest().verbs.items()
            for name, file in entry.files.items()
            if (names is None or name in names)
            and self.path(name).is_file()
            and sha256_file(self.path(name)) != file.sha256
        ]

    def refuse_changed(self, names: Sequence[str] | None = None) -> None:
        """Raise BuildStateError naming every file, of `names` or of all, that is not as the manifest says."""
        found = self.changed(names)
        if found:
            command = _command(found[0][0])
            raise BuildStateError(
                f"{', '.join(str(self.path(name)) for _, name in found)} changed since `{command}` wrote "
                f"it. Restore it, move it away to have it made again, or run `{command} --restart`"
            )

    def _write(self, manifest: Manifest) -> None:
        write_json(self.path(MANIFEST), manifest.as_dict())

    def _forget(self, verb: str) -> None:
        manifest = self.manifest()
        if verb in manifest.verbs:
            self._write(manifest.without(verb))

    def _refuse_difference(self, verb: str, state: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        keys = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
        if keys:
            shown = "; ".join(f"{key}: {old.get(key)!r} then, {new.get(key)!r} now" for key in keys)
            raise BuildStateError(
                f"{self.root} holds {state} work of `{_command(verb)}` made with other settings ({shown}). "
                f"Use the same settings, another {'--run or --build' if '/' in verb else '--build'}, or --restart to "
                "start this verb over"
            )


def _command(verb: str) -> str:
    """Return the command of a manifest entry; one such as `validate-and-score/rome` is a run of its verb."""
    name, slash, run = verb.partition("/")
    return f"cfbuild {name} --run {run}" if slash else f"cfbuild {name}"


def _foreign(path: Path) -> BuildStateError:
    kind = "a symbolic link" if path.is_symlink() else "neither a file nor a folder"
    return BuildStateError(
        f"{path} is {kind}, which cfbuild does not follow inside a build folder; put a copy there or remove it"
    )
