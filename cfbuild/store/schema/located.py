"""Rows of a JSON array or of JSON lines, each with the line where it starts; a broken row becomes a fault."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from json import JSONDecodeError
from pathlib import Path
from typing import IO, Any, BinaryIO, TextIO

from cfbuild.errors import DataError
from cfbuild.store.files import DigestedFile
from cfbuild.store.jsonl import BOM, DECODER, LONGEST_LINE, split_lines
from cfbuild.store.schema.faults import Fault, Located, show

BLOCK = 1 << 20
"""Characters read from an array at a time."""

WHITE_SPACE = " \t\r\n"


def read_located(path: Path) -> Iterator[Located]:
    """Yield the rows of `path`: a JSON array if its first character is `[`, otherwise one JSON value a line.

    A broken line of JSON lines becomes a fault, and the next line is read. After a broken row of an array no further
    row can be recognised, so its fault is the last.

    Raises DataError if the file cannot be read.
    """
    with LocatedRows(path) as rows:
        yield from rows


class LocatedRows:
    """The rows of a file, read once, as `read_located` yields them; afterwards `sha256` is the digest of its bytes.

    Raises DataError if the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._readable():
            self._file = DigestedFile(path)

    def __enter__(self) -> LocatedRows:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[Located]:
        with self._readable(), io.BufferedReader(self._file, BLOCK) as stream:
            array = stream.peek(BLOCK).removeprefix(BOM).lstrip()[:1] == b"["
            yield from _array(stream) if array else _lines(stream)
            # Bytes after a broken array belong to the file, and so to its digest.
            while stream.read(BLOCK):
                pass

    @property
    def sha256(self) -> str:
        """The hex digest of the file's bytes, once all rows were read."""
        return self._file.sha256()

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DataError(f"{self._path}: cannot be read ({error.strerror}); give a CounterFact file") from error


def _lines(stream: BinaryIO) -> Iterator[Located]:
    for number, raw in split_lines(stream):
        if raw is None:
            got = f"a line of more than {LONGEST_LINE} bytes"
            yield Located(number, fault=Fault("", "json", got, "one JSON object a line, or one JSON array"))
        elif raw.strip():
            yield _line(number, raw)


def _line(number: int, raw: bytes) -> Located:
    try:
        return Located(number, DECODER.decode(raw.decode().strip(WHITE_SPACE)))
    except UnicodeDecodeError as error:
        return Located(number, fault=Fault("", "encoding", show(str(error)), "UTF-8 text"))
    except (ValueError, RecursionError) as error:
        return Located(number, fault=_broken(error, "one JSON object a line, or one JSON array"))


def _array(stream: IO[bytes]) -> Iterator[Located]:
    # A byte that is not UTF-8 becomes a lone surrogate, which validation reports with its row.
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape")
    scanner = _Scanner(text)
    scanner.take()
    if scanner.peek() == "]":
        scanner.take()
    else:
        yield from _elements(scanner)
    if scanner.peek():
        yield Located(scanner.line, fault=Fault("", "json", show(scanner.rest()), "nothing after the array"))
    text.detach()


def _elements(scanner: _Scanner) -> Iterator[Located]:
    while True:
        scanner.peek()
        line = scanner.line
        try:
            yield Located(line, scanner.value())
        except (ValueError, RecursionError) as error:
            yield Located(line, fault=_broken(error, "a JSON object; the rest of the array was not read"))
            scanner.skip_all()
            return
        mark = scanner.peek()
        if mark not in (",", "]"):
            expected = "a comma or the array's ]; the rest of the array was not read"
            yield Located(scanner.line, fault=Fault("", "json", show(scanner.rest()), expected))
            scanner.skip_all()
            return
        scanner.take()
        if mark == "]":
            return


def _broken(error: Exception, expected: str) -> Fault:
    if isinstance(error, JSONDecodeError):
        near = error.doc[max(0, error.pos - 20) : error.pos + 20]
        return Fault("", "json", f"{error.msg} near {show(near)}", expected)
    return Fault("", "json", str(error), expected)


class _Scanner:
    """A window over a text that moves through a JSON array value by value and counts lines."""

    def __init__(self, stream: TextIO) -> None:
        self.line = 1
        self._stream = stream
        self._text = ""
        self._at = 0

    def peek(self) -> str:
        """Return the next character that is no white space, without stepping over it; an empty text at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in WHITE_SPACE:
                    return self._text[self._at]
                self._advance(self._at + 1)
            if not self._more():
                return ""

    def take(self) -> None:
        """Step over the next character that is no white space."""
        if self.peek():
            self._advance(self._at + 1)

    def value(self) -> Any:
        """Return the next JSON value. Raises ValueError or RecursionError if there is none."""
        while True:
            try:
                row, end = DECODER.raw_decode(self._text, self._at)
            except JSONDecodeError:
                # Broken, or cut off by the window's end: more text decides.
                if len(self._text) - self._at > LONGEST_LINE or not self._more():
                    raise
                continue
            if end == len(self._text) and self._more():
                continue
            self._advance(end)
            return row

    def rest(self) -> str:
        """Return the next 40 characters of the window, for a message."""
        return self._text[self._at : self._at + 40]

    def skip_all(self) -> None:
        """Go to the end of the text."""
        self._text, self._at = "", 0
        while self._stream.read(BLOCK):
            pass

    def _advance(self, end: int) -> None:
        self.line += self._text.count("\n", self._at, end)
        self._at = end

    def _more(self) -> bool:
        # Twice as much as is left, so that a long row is not parsed again for each block.
        block = self._stream.read(max(BLOCK, 2 * (len(self._text) - self._at)))
        self._text, self._at = self._text[self._at :] + block, 0
        return bool(block)
