"""Files as people keep them: compressed ones are unpacked, and those that hold no rows are refused by their kind."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from shutil import copyfileobj
from tempfile import TemporaryDirectory
from typing import IO, Any

from cfbuild.errors import DataError

UNPACKERS: Mapping[bytes, Callable[[IO[bytes]], Any]] = {
    b"\x1f\x8b": lambda stream: gzip.GzipFile(fileobj=stream),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}
"""The function that unpacks a compressed file, by the file's first bytes."""
PARQUET = b"PAR1"
"""The first bytes of a parquet file."""
WITHOUT_ROWS: Mapping[bytes, str] = {
    b"version https://git-lfs": "a git LFS pointer, which only stands for the file; "
    "run `git lfs pull` in its repository, or download the file itself",
    b"PK\x03\x04": "a ZIP archive; unpack it and give a file that was in it",
    b"\x28\xb5\x2f\xfd": "compressed by zstd; unpack it with `unzstd`",
    b"\xff\xfe": "UTF-16 text; save it as UTF-8",
    b"\xfe\xff": "UTF-16 text; save it as UTF-8",
    b"ARROW1": "an Arrow file; load it with `datasets` and save it by `to_json` or `to_parquet`",
    **dict.fromkeys(
        (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"),
        "a pickle, which could run anything when it is read; save its rows as JSON",
    ),
    **dict.fromkeys(
        (b"<!doctype html", b"<html"),
        "a web page; download the file itself (on GitHub and the Hub by its raw link)",
    ),
}
"""The kind of a file that holds no rows, and what to do, by the file's first bytes in any letter case."""
NESTED = frozenset({"meta", "scores", "groups", "requested_rewrite", "locality", "portability"})
"""Keys whose value is an object or a list; if a column holds it as text, that text is JSON."""
BATCH = 1024
"""Rows of a parquet file that are in memory as Python's values at a time: a few MB of CounterFact's."""


def refuse_without_rows(head: bytes, path: Path) -> None:
    """Raise DataError if a file that begins with the bytes `head` is of a known kind without rows."""
    start = head.lstrip()[:32]
    for sign, kind in WITHOUT_ROWS.items():
        if start.startswith(sign) or start.lower().startswith(sign):
            raise DataError(f"{path}: is {kind}")


def refuse_packed(head: bytes, path: Path) -> None:
    """Raise DataError if a file of a build, which begins with `head`, is of a known kind that is no plain text."""
    refuse_without_rows(head, path)
    if head.startswith((PARQUET, *UNPACKERS)):
        raise DataError(f"{path}: is compressed or a parquet file; a build has plain JSON there, so unpack it")


def unpacked(head: bytes, stream: IO[bytes]) -> IO[bytes]:
    """Return the unpacked stream, or `stream` itself if its first bytes, `head`, are not those of a packed one."""
    for sign, unpack in UNPACKERS.items():
        if head.startswith(sign):
            content: IO[bytes] = unpack(stream)
            return content
    return stream


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn errors of reading and unpacking `path`, as long as the context is open, into a DataError that names it."""
    try:
        yield
    except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: is compressed but breaks off or is damaged ({error}); get it again") from error
    except OSError as error:
        if error.errno is None:  # so says bz2
            raise DataError(f"{path}: is damaged ({error}); get it again") from error
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); give a CounterFact file") from error


@contextmanager
def rereadable(path: Path) -> Iterator[Path | None]:
    """Yield a copy of the pipe `path`, which can be read only once; None if `path` is no pipe.

    Raises DataError if the pipe cannot be read.
    """
    if path.is_fifo() or path.is_char_device():
        with TemporaryDirectory() as folder:
            copy = Path(folder, "copy")
            with readable(path), path.open("rb") as stream, copy.open("wb") as target:
                copyfileobj(stream, target)
            yield copy
    else:
        yield None


def parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a parquet file. Raises DataError if it is damaged."""
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            for batch in file.iter_batches(BATCH):
                yield from ({key: _parsed(key, value) for key, value in row.items()} for row in batch.to_pylist())
    except ArrowException as error:
        raise DataError(f"{path}: is a damaged parquet file ({str(error).splitlines()[0]}); get it again") from error


def _parsed(key: str, value: Any) -> Any:
    """Return the value of the column `key`; a text under a key of NESTED is read as JSON."""
    if isinstance(value, dict):
        return {name: _parsed(name, part) for name, part in value.items()}
    if key in NESTED and isinstance(value, str):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value
