"""Files that are written whole or not at all, and the digests of files."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from cfbuild.progress import no_progress


def write_atomic(path: Path, chunks: Iterable[str]) -> None:
    """Write the texts `chunks`, one behind the other, to a file that is replaced whole (`atomic`)."""
    with atomic(path) as stream:
        stream.writelines(chunks)


@contextmanager
def atomic(path: Path) -> Iterator[TextIO]:
    """Yield a text stream to a file beside `path`, which is renamed to `path` once everything is on the disk.

    So readers see the old file or the new one, never a part.
    """
    _remove_unfinished(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("x", encoding="utf-8", newline="\n") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _remove_unfinished(path: Path) -> None:
    """Remove the unfinished files of `path` that killed processes left there."""
    for part in path.parent.glob(".*.part"):
        name, _, process = part.name[1:].removesuffix(".part").rpartition(".")
        if name == path.name and process.isdecimal() and not _is_running(int(process)):
            part.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    """Return True if another process with the number `process` is running."""
    try:
        os.kill(process, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return process != os.getpid()


def sha256_file(path: Path, done: Callable[[int], None] = no_progress) -> str:
    """Return the hex sha256 of a file; `done` gets the number of bytes that are read so far, after each block."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
            done(stream.tell())
    return digest.hexdigest()


class DigestedFile(io.RawIOBase):
    """A stream of a file's bytes that computes their sha256 as they are read."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self._digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        count = self._file.readinto(buffer)
        if count:
            self._digest.update(memoryview(buffer)[:count])
        return count

    def close(self) -> None:
        self._file.close()
        super().close()

    def sha256(self) -> str:
        """Return the hex sha256 of the bytes that are read so far."""
        return self._digest.hexdigest()


def sha256_text(text: str) -> str:
    """Return the hex sha256 of a text in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()
