"""The rows of a JSON or parquet file, each with the line where it starts; a broken row becomes a fault."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import starmap
from json import JSONDecodeError
from pathlib import Path
from typing import IO, Any, Literal, TextIO, cast

from cfbuild.store.files import DigestedFile
from cfbuild.store.jsonl import BOM, DECODER, LONGEST_LINE, split_lines
from cfbuild.store.schema import writes_again
from cfbuild.store.schema.faults import Fault, Located, show
from cfbuild.store.unpack import PARQUET, parquet_rows, readable, refuse_without_rows, unpacked

BLOCK = 1 << 20
"""Bytes or characters that are read at a time."""
WHITE_SPACE = " \t\r\n"
"""The white space of JSON."""

FileForm = Literal["array", "object", "values", "lines", "parquet"]
"""The form of a file: an array, an object of rows by name, values over several lines, JSON lines, or parquet."""
ROW_KEYS = frozenset({"requested_rewrite", "prompt", "subject", "src", "questions", "case_id"})
"""Keys by which an object is a row and not an object of rows."""
FIRST_MEMBER = re.compile(r'\{\s*"((?:[^"\\]|\\.)*)"\s*:[ \t]*')
"""The beginning of an object, up to the value of its first key."""


def read_located(path: Path) -> Iterator[Located]:
    """Yield the rows of `path`, as `LocatedRows` does.

    After a broken line of JSON lines the next line is read. After a broken row of an array or an object no further row
    can be recognised, so its fault comes last.

    Raises DataError if the file cannot be read, or is of a known kind without rows.
    """
    with LocatedRows(path) as rows:
        yield from rows


@dataclass(frozen=True, slots=True)
class RawLine:
    """A line of JSON lines before it is parsed; `raw` is None if it is too long."""

    number: int
    raw: bytes | None

    def __len__(self) -> int:
        return len(self.raw or b"")

    def located(self) -> Located:
        """Return the row in the line."""
        if self.raw is None:
            got = f"a line of more than {LONGEST_LINE} bytes"
            return Located(self.number, fault=Fault("", "json", got, "one JSON object a line, or one JSON array"))
        try:
            text = self.raw.decode().strip(WHITE_SPACE)
            row = DECODER.decode(text)
            return Located(self.number, row, is_plain=writes_again(row, text))
        except UnicodeDecodeError as error:
            return Located(self.number, fault=Fault("", "encoding", show(str(error)), "UTF-8 text"))
        except (ValueError, RecursionError) as error:
            return Located(self.number, fault=_broken(error, "one JSON object a line, or one JSON array"))


Piece = RawLine | Located
"""A row, or its line."""


def located_of(piece: Piece) -> Located:
    """Return the row of a piece."""
    return piece.located() if isinstance(piece, RawLine) else piece


class LocatedRows:
    """The rows of a file, which is read once.

    A file is a JSON array, an object of rows by name, or JSON values one after the other (one on each line, or over
    several lines); it may be compressed by gzip, bzip2 or xz. Or it is a parquet file, whose rows count as lines. Once
    it is read, `sha256` is the digest of the stored bytes, and `form` the form of the file.

    copy: a file with the same bytes, which is read instead of `path`; messages name `path`.
    Raises DataError if the file cannot be read, or is of a known kind without rows.
    """

    def __init__(self, path: Path, copy: Path | None = None) -> None:
        self.form: FileForm = "lines"
        self._path = path
        self._stored = copy or path
        with readable(path):
            self._file = DigestedFile(self._stored)

    def __enter__(self) -> LocatedRows:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[Located]:
        return map(located_of, self.pieces())

    def pieces(self) -> Iterator[Piece]:
        """Yield each row; those of JSON lines as lines, so that another process may parse them."""
        with readable(self._path), io.BufferedReader(self._file, BLOCK) as stored:
            head = stored.peek(BLOCK)
            refuse_without_rows(head, self._path)
            if head.startswith(PARQUET):
                self.form = "parquet"
                yield from starmap(Located, enumerate(parquet_rows(self._stored), 1))
            else:
                yield from self._json(unpacked(head, stored))
            # The digest is of the whole file, also after a broken array.
            while stored.read(BLOCK):
                pass

    def _json(self, content: IO[bytes]) -> Iterator[Piece]:
        stream = io.BufferedReader(cast("io.RawIOBase", content), BLOCK)
        head = stream.peek(BLOCK)
        refuse_without_rows(head, self._path)
        self.form = _form(head)
        lines = (RawLine(number, raw) for number, raw in split_lines(stream) if raw is None or raw.strip())
        yield from lines if self.form == "lines" else _values(stream, self.form)
        stream.detach()

    @property
    def sha256(self) -> str:
        """Return the hex sha256 of the file, once all rows are read."""
        return self._file.sha256()


def _form(head: bytes) -> FileForm:
    """Return the form of a file that begins with `head`."""
    text = head.removeprefix(BOM).decode("utf-8", "ignore").lstrip(WHITE_SPACE)
    if text.startswith("["):
        return "array"
    if not text.startswith("{"):
        return "lines"
    value, end = _first_value(text, 0)
    if value is None:
        member = FIRST_MEMBER.match(text)
        first = _first_value(text, member.end())[0] if member and member[1] not in ROW_KEYS else None
        return "object" if _is_row(first) else "lines"
    if isinstance(value, dict) and not _is_row(value) and value and all(map(_is_row, value.values())):
        return "object"
    return "values" if "\n" in text[:end] else "lines"


def _first_value(text: str, at: int) -> tuple[Any, int]:
    """Return the JSON value at the place `at` of a text and its end; None if it is broken or cut off."""
    try:
        return DECODER.raw_decode(text, at)
    except (ValueError, RecursionError):
        return None, at


def _is_row(value: Any) -> bool:
    return isinstance(value, dict) and not ROW_KEYS.isdisjoint(value)


def _values(stream: IO[bytes], form: FileForm) -> Iterator[Located]:
    # A byte that is not UTF-8 becomes a lone surrogate, which validation reports with its row.
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape")
    scanner = _Scanner(text)
    yield from _plain_values(scanner) if form == "values" else _elements(scanner, form)
    text.detach()


def _plain_values(scanner: _Scanner) -> Iterator[Located]:
    while scanner.peek():
        line = scanner.line
        try:
            yield Located(line, scanner.value())
        except (ValueError, RecursionError) as error:
            yield Located(line, fault=_broken(error, "a JSON object; the rest of the file was not read"))
            scanner.skip_all()


def _elements(scanner: _Scanner, form: FileForm) -> Iterator[Located]:
    """Yield the rows of an array, or of an object of rows by name."""
    closing = "]" if form == "array" else "}"
    names: set[str] = set()
    scanner.take()
    mark = scanner.peek()
    if mark == closing:
        scanner.take()
    while mark != closing:
        scanner.peek()
        line = scanner.line
        try:
            name = scanner.name(names) if form == "object" else None
            yield _named(Located(line, scanner.value(), key=name))
        except (ValueError, RecursionError) as error:
            yield Located(line, fault=_broken(error, f"a JSON object; the rest of the {form} was not read"))
            scanner.skip_all()
            return
        mark = scanner.peek()
        if mark not in (",", closing):
            expected = f"a comma or the {form}'s {closing}; the rest of the {form} was not read"
            yield Located(scanner.line, fault=Fault("", "json", show(scanner.rest()), expected))
            scanner.skip_all()
            return
        scanner.take()
    if scanner.peek():
        yield Located(scanner.line, fault=Fault("", "json", show(scanner.rest()), f"nothing after the {form}"))


def _named(located: Located) -> Located:
    """Return a row with its name as its case id, if the name is a number and the row has no case id."""
    name, row = located.key, located.row
    if name is None or not (name.isascii() and name.isdecimal()) or not isinstance(row, dict) or "case_id" in row:
        return located
    return replace(located, row={"case_id": int(name), **row})


def _broken(error: Exception, expected: str) -> Fault:
    if isinstance(error, JSONDecodeError):
        near = error.doc[max(0, error.pos - 20) : error.pos + 20]
        return Fault("", "json", f"{error.msg} near {show(near)}", expected)
    return Fault("", "json", str(error), expected)


class _Scanner:
    """A window that moves over a JSON text, value by value, and counts lines."""

    def __init__(self, stream: TextIO) -> None:
        self.line = 1
        self._stream = stream
        self._text = ""
        self._at = 0

    def peek(self) -> str:
        """Return the next character that is no white space, without a step over it; an empty text at the end."""
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
                # Either broken or cut off by the end of the window: more text will tell.
                if len(self._text) - self._at > LONGEST_LINE or not self._more():
                    raise
                continue
            if end == len(self._text) and self._more():
                continue
            self._advance(end)
            return row

    def name(self, earlier: set[str]) -> str:
        """Return the name before the next value of an object, and add it to the `earlier` names.

        Raises ValueError if there is none, or if it is one of `earlier`.
        """
        name = self.value()
        if not isinstance(name, str) or self.peek() != ":":
            raise ValueError(f"{show(name)} is not the name of a row")
        if name in earlier:
            raise ValueError(f"the key {name!r} comes twice")
        earlier.add(name)
        self.take()
        self.peek()
        return name

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
        # At least twice the rest of the window: a long row is parsed again a few times, not once for each block.
        block = self._stream.read(max(BLOCK, 2 * (len(self._text) - self._at)))
        self._text, self._at = self._text[self._at :] + block, 0
        return bool(block)
