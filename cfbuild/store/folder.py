"""The build folder: its files, the verbs that made them, and whether a verb starts, goes on or is finished.

A verb calls `begin` with its config: everything that affects its bytes (options, seed, digests of input files). It
works in `progress/VERB/`, puts its files in place, and calls `finish`. A verb that finds finished or unfinished work of
another config is refused and shown the difference, so that results of two configs never mix.
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
MADE_BY = {"facts.jsonl": "fetch", "entities.jsonl": "fetch", "templates.jsonl": "fetch", "records.jsonl": "generate"}
"""The verb that makes each file with which other verbs begin."""
KEPT = frozenset({"fetch"})
"""The verbs whose work is kept when it is done: from a fetch's answers its files can be written again."""

_log = logging.getLogger(__name__)


class BuildFolder:
    """A build folder. Methods raise BuildStateError if the state of the build does not allow what they do.

    `verb` is a verb's name, or that of a run such as `validate-and-score/rome`; `config` is all that affects its bytes.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, name: str) -> Path:
        """Return the path of the file `name`, whether it is there or not."""
        return self.root / name

    def require(self, name: str) -> Path:
        """Return the path of the file `name`, which a verb reads.

        Raises BuildStateError if it is a symbolic link or not there; the message names the verb that makes it.
        """
        path = self.path(name)
        if path.is_symlink():
            raise _not_followed(path)
        if not path.is_file():
            raise BuildStateError(
                f"{path} does not exist; run `cfbuild {MADE_BY.get(name, 'fetch')} --build {self.root}` first"
            )
        return path

    def progress(self, verb: str) -> Path:
        """Return the folder of the unfinished work of `verb`; it is made if it is not there."""
        path = self.root / "progress" / verb
        path.mkdir(parents=True, exist_ok=True)
        return path

    @contextmanager
    def lock(self, verb: str) -> Iterator[None]:
        """Lock the build for this process as long as the context is open; make the folder if it is not there.

        Raises BuildStateError if another process has locked it, and as `refuse_links` does.
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
        for path in (*self.root.glob("*"), *(path for name in FOLDERS for path in (self.root / name).rglob("*"))):
            mode = path.lstat().st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                raise _not_followed(path)

    def manifest(self) -> Manifest:
        """Return the manifest, an empty one if there is no file. Raises DataError if it is not as cfbuild wrote it."""
        path = self.path(MANIFEST)
        return Manifest.of_dict(read_json(path), path) if path.exists() else Manifest()

    def begin(self, verb: str, config: Mapping[str, Any], *, restart: bool = False) -> bool:
        """Return True if `verb` has work to do, which is then prepared; False if its files are there, of this `config`.

        restart: throw away finished and unfinished work before. Otherwise raises as `is_done` does.
        """
        if restart:
            manifest = self.manifest()
            if verb in manifest.verbs:
                others = {name: entry for name, entry in manifest.verbs.items() if name != verb}
                self._write(Manifest(manifest.version, others))
            self.discard(verb)
        if self.is_done(verb, config):
            self._tidy(verb)  # it may have been killed between its last two steps
            return False
        note = self._note(verb)
        if not note.exists():
            # Work without a config is what a killed --restart had not deleted yet.
            self.discard(verb)
            write_json(self.progress(verb) / note.name, dict(config))
        return True

    def is_done(self, verb: str, config: Mapping[str, Any]) -> bool:
        """Return True if the files of `verb` are there, made with this `config`; nothing is changed.

        Raises BuildStateError if finished or unfinished work is of another config, or one of its files was changed
        since; DataError if the config of unfinished work is broken.
        """
        finished = self.manifest().verbs.get(verb)
        if finished is not None:
            self._refuse_difference(verb, "finished", finished.config, config)
            self.refuse_changed([name for name in finished.files if self.path(name).exists()])
            if all(self.path(name).is_file() for name in finished.files):
                return True
        note = self._note(verb)
        if note.exists():
            started_config = read_json(note)
            if not isinstance(started_config, dict):
                raise DataError(f"{note}: is not the config that cfbuild wrote; use --restart to start this verb over")
            self._refuse_difference(verb, "unfinished", started_config, config)
        return False

    def _note(self, verb: str) -> Path:
        return self.root / "progress" / verb / "config.json"

    def discard(self, verb: str) -> None:
        """Remove the unfinished work of `verb`."""
        shutil.rmtree(self.root / "progress" / verb, ignore_errors=True)

    def finish(
        self, verb: str, config: Mapping[str, Any], files: Mapping[str, int], counted: Mapping[str, Any]
    ) -> None:
        """Enter `verb` into the manifest, with its config and its files; remove its work, unless it is KEPT.

        files: the number of rows of each file, by name. counted: the counts of the work, by name.
        """
        made = {name: MadeFile(rows, sha256_file(self.path(name))) for name, rows in files.items()}
        self._write(Manifest(verbs={**self.manifest().verbs, verb: VerbEntry(config, made, counted)}))
        self._tidy(verb)

    def _tidy(self, verb: str) -> None:
        if verb not in KEPT:
            self.discard(verb)

    def digests(self, names: Sequence[str]) -> dict[str, str]:
        """Return the sha256 of the files `names` by name, for the config of a verb that reads them.

        A file that was changed since a verb wrote it is logged and not refused: that may be intended. Raises as
        `require` does.
        """
        for verb, name in self.changed(names):
            _log.warning("%s was changed since `%s` wrote it; it is used as it is", self.path(name), _command(verb))
        return {name: sha256_file(self.require(name)) for name in names}

    def changed(self, names: Sequence[str] | None = None) -> list[tuple[str, str]]:
        """Return (verb, name) of each file, of `names` or of all (None), that was changed since that verb wrote it."""
        return [
            (verb, name)
            for verb, entry in self.manifest().verbs.items()
            for name, file in entry.files.items()
            if (names is None or name in names)
            and self.path(name).is_file()
            and sha256_file(self.path(name)) != file.sha256
        ]

    def refuse_changed(self, names: Sequence[str] | None = None) -> None:
        """Raise BuildStateError if `changed` finds files; the message names all of them."""
        changed = self.changed(names)
        if changed:
            command = _command(changed[0][0])
            raise BuildStateError(
                f"{', '.join(str(self.path(name)) for _, name in changed)} changed since `{command}` wrote "
                f"it. Restore it, move it away to have it made again, or run `{command} --restart`"
            )

    def _write(self, manifest: Manifest) -> None:
        write_json(self.path(MANIFEST), manifest.as_dict())

    def _refuse_difference(self, verb: str, state: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        keys = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
        if keys:
            shown = "; ".join(f"{key}: {old.get(key)!r} then, {new.get(key)!r} now" for key in keys)
            name, slash, _ = verb.partition("/")
            other_run = f"another run (`{_command(f'{name}/NAME')}`), " if slash else ""
            raise BuildStateError(
                f"{self.root} holds {state} work of `{_command(verb)}` made with other settings ({shown}). "
                f"Use the same settings, {other_run}another --build, or --restart to start this verb over"
            )


def _command(verb: str) -> str:
    """Return the command of a verb or run: `cfbuild validate-and-score --run rome` of `validate-and-score/rome`."""
    name, slash, run = verb.partition("/")
    return f"cfbuild {name} --run {run}" if slash else f"cfbuild {name}"


def _not_followed(path: Path) -> BuildStateError:
    kind = "a symbolic link" if path.is_symlink() else "neither a file nor a folder"
    return BuildStateError(
        f"{path} is {kind}, which cfbuild does not follow inside a build folder; put a copy there or remove it"
    )
