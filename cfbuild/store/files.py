"""Files that are written whole or not at all, and the digests that identify them."""

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
    """Write text to a file, as `atomic` does."""
    with atomic(path) as stream:
        stream.writelines(chunks)


@contextmanager
def atomic(path: Path) -> Iterator[TextIO]:
    """Yield a stream of text to a file beside `path`, which is flushed to the disk and renamed at the end.

    Readers see the old file or the new.
    """
    _sweep(path)
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


def _sweep(path: Path) -> None:
    """Remove the unfinished files that killed processes left beside `path`."""
    for part in path.parent.glob(".*.part"):
        name, _, process = part.name[1:].removesuffix(".part").rpartition(".")
        if name == path.name and process.isdecimal() and not _runs(int(process)):
            part.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    """Return True if another process of this number runs."""
    try:
        os.kill(process, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return process != os.getpid()


def sha256_file(path: Path, done: Callable[[int], None] = no_progress) -> str:
    """Return the hex sha256 of a file's bytes; `done` gets the number of those read, block by block."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
            done(stream.tell())
    return digest.hexdigest()


class DigestedFile(io.RawIOBase):
    """A stream of a file's bytes that digests them as they are read, so that the file need not be read twice."""

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
        """Return the hex sha256 of the bytes read so far: the file's, once it was read to its end."""
        return self._digest.hexdigest()


def sha256_text(text: str) -> str:
    """Return the hex sha256 of a text's UTF-8 bytes."""
    return hashlib.sha256(text.encode()).hexdigest()
