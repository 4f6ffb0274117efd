"""The build folder: its files, the verbs that made them, and the decision whether a verb starts, resumes or is done.

Every verb calls `begin` with everything that affects its bytes (options, seed, digests of input files), works in
`progress/VERB/`, puts its output files in place, and calls `finish`. The settings given to `begin` are kept. A run
with other settings on finished or unfinished work is refused with the difference, so that two builds never mix.
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
FOLDERS = ("progress", "publish", "export", "runs", "editors", "traces", "sweeps", "study", "base")
"""The folders of a build in which cfbuild writes and deletes files."""
MAKER = {"facts.jsonl": "fetch", "entities.jsonl": "fetch", "templates.jsonl": "fetch", "records.jsonl": "generate"}

_log = logging.getLogger(__name__)


class BuildFolder:
    """A build on the disk. Methods raise BuildStateError where its state does not allow what they do."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, name: str) -> Path:
        """Return the path of the build's file `name`."""
        return self.root / name

    def require(self, name: str) -> Path:
        """Return the path of an input file.

        Raises BuildStateError if it is a symbolic link, or, naming the verb that makes it, if it is not there.
        """
        path = self.path(name)
        if path.is_symlink():
            raise _foreign(path)
        if not path.is_file():
            raise BuildStateError(
                f"{path} does not exist; run `cfbuild {MAKER.get(name, 'fetch')} --build {self.root}` first"
            )
        return path

    def progress(self, verb: str) -> Path:
        """Return the folder where `verb` keeps what it needs to resume; it is made if it is not there."""
        path = self.root / "progress" / verb
        path.mkdir(parents=True, exist_ok=True)
        return path

    @contextmanager
    def lock(self, verb: str) -> Iterator[None]:
        """Hold the build for this process as long as the context is open; make the folder if it is not there.

        Raises BuildStateError, naming the process that holds the build and since when, or naming something in the
        folder that is neither a file nor a folder.
        """
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
        """Raise BuildStateError if the build holds a symbolic link, a pipe or a device.

        Through a link cfbuild would write, delete or publish files elsewhere.
        """
        folders = (self.root, *(self.root / name for name in FOLDERS))
        for path in (*self.root.glob("*"), *(path for folder in folders[1:] for path in folder.rglob("*"))):
            mode = path.lstat().st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                raise _foreign(path)

    def manifest(self) -> Manifest:
        """Return the build's manifest, an empty one if there is no file.

        Raises DataError if it is not as cfbuild wrote it.
        """
        path = self.path(MANIFEST)
        return Manifest.of_dict(read_json(path), path) if path.exists() else Manifest()

    def begin(self, verb: str, config: Mapping[str, Any], *, restart: bool = False) -> bool:
        """Return True after preparing to start or resume `verb`; False if its output is there, made with this `config`.

        `restart` gives up finished and unfinished work. Raises BuildStateError if, without it, such work was made with
        another config or an output file was changed since; DataError if the note of the settings is broken.
        """
        if restart:
            self._forget(verb)
            shutil.rmtree(self.root / "progress" / verb, ignore_errors=True)
        if self.is_done(verb, config):
            return False
        note = self._note(verb)
        if not note.exists():
            # Work without its settings is what a killed --restart had not deleted yet.
            shutil.rmtree(note.parent, ignore_errors=True)
            write_json(self.progress(verb) / note.name, dict(config))
        return True

    def is_done(self, verb: str, config: Mapping[str, Any]) -> bool:
        """Return True if the output of `verb` is there, made with this `config`; nothing is changed.

        Raises as `begin` does.
        """
        done = self.manifest().verbs.get(verb)
        if done is not None:
            self._refuse_difference(verb, "finished", done.config, config)
            self.refuse_changed([name for name in done.files if self.path(name).exists()])
            if all(self.path(name).is_file() for name in done.files):
                return True
        note = self._note(verb)
        if note.exists():
            started = read_json(note)
            if not isinstance(started, dict):
                raise DataError(f"{note}: is not what cfbuild keeps there; use --restart to start this verb over")
            self._refuse_difference(verb, "unfinished", started, config)
        return False

    def _note(self, verb: str) -> Path:
        return self.root / "progress" / verb / "config.json"

    def discard(self, verb: str) -> None:
        """Remove what `verb` needed to resume, now that it is finished."""
        shutil.rmtree(self.root / "progress" / verb, ignore_errors=True)

    def finish(
        self, verb: str, config: Mapping[str, Any], files: Mapping[str, int], counted: Mapping[str, Any]
    ) -> None:
        """Enter `verb` into the manifest: its config, its files (name -> rows) with digests, and its counts."""
        made = {name: MadeFile(rows, sha256_file(self.path(name))) for name, rows in files.items()}
        self._write(self.manifest().with_entry(verb, VerbEntry(config, made, counted)))

    def digests(self, names: Sequence[str]) -> dict[str, str]:
        """Return the sha256 of input files by name, for a config that must notice when they change.

        A file that was changed since a verb wrote it is logged, not refused: that may be intended. Raises
        BuildStateError for a file that is not there.
        """
        for verb, name in self.changed(names):
            _log.warning("%s was changed since `%s` wrote it; it is used as it is", self.path(name), _command(verb))
        return {name: sha256_file(self.require(name)) for name in names}

    def changed(self, names: Sequence[str] | None = None) -> list[tuple[str, str]]:
        """Return (verb, name) of each existing file, of `names` or of all, that differs from the manifest's digest."""
        return [
            (verb, name)
            for verb, entry in self.manifest().verbs.items()
            for name, file in entry.files.items()
            if (names is None or name in names)
            and self.path(name).is_file()
            and sha256_file(self.path(name)) != file.sha256
        ]

    def refuse_changed(self, names: Sequence[str] | None = None) -> None:
        """Raise BuildStateError naming every existing file, of `names` or of all, that differs from the manifest's."""
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
    """Return the command of a manifest entry; an entry such as `validate-and-score/rome` is a run of its verb."""
    name, slash, run = verb.partition("/")
    return f"cfbuild {name} --run {run}" if slash else f"cfbuild {name}"


def _foreign(path: Path) -> BuildStateError:
    kind = "a symbolic link" if path.is_symlink() else "neither a file nor a folder"
    return BuildStateError(
        f"{path} is {kind}, which cfbuild does not follow inside a build folder; put a copy there or remove it"
    )
