"""JSON lines and JSON documents in files: read strictly, written whole or not at all."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, TypeVar

from cfbuild.errors import CfbuildError, DataError
from cfbuild.store.files import write_atomic
from cfbuild.store.unpack import refuse_packed

Row = dict[str, Any]
NumberedLine = tuple[int, bytes | None]
"""A line's number in its file and its bytes; None for a line that is too long."""
Value = TypeVar("Value")

LONGEST_LINE = 1 << 24
"""The most bytes of a line or a JSON document; longer ones are refused. CounterFact's rows have about 2,000."""
LONGEST_NUMBER = 300
"""The most digits of a whole number: below the largest float, and far below the 4,300 that Python reads."""
BOM = b"\xef\xbb\xbf"
"""The byte order mark of UTF-8."""
ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
"""The escape of half a character, which may be the half of a whole one."""


def dump_row(row: Mapping[str, Any]) -> str:
    """Return a row as compact JSON without a line break. Raises ValueError for NaN and infinity."""
    return ENCODER.encode(row)


def dump_indented(value: Any) -> str:
    """Return a value as indented JSON. Raises ValueError for NaN and infinity."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=1)


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write `rows` as JSON lines to a file that is replaced whole; return their number."""
    return write_lines(path, (dump_row(row) + "\n" for row in rows))


def write_lines(path: Path, lines: Iterable[str]) -> int:
    """Write `lines`, each of which ends with a line break, to a file that is replaced whole; return their number."""
    count = 0

    def counted() -> Iterator[str]:
        nonlocal count
        for line in lines:
            count += 1
            yield line

    write_atomic(path, counted())
    return count


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON to a file that is replaced whole."""
    write_atomic(path, [dump_indented(value) + "\n"])


def read_lines(path: Path) -> Iterator[NumberedLine]:
    """Yield (number, bytes) of each line, counted from 1; None in place of more bytes than LONGEST_LINE.

    Raises DataError if the file cannot be read, or is of a known kind that is no text.
    """
    try:
        with path.open("rb") as stream:
            refuse_packed(stream.peek(), path)
            yield from split_lines(stream)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def split_lines(stream: BinaryIO) -> Iterator[NumberedLine]:
    """Yield (number, bytes) of each line of `stream`, as `read_lines` does, without a byte order mark."""
    number = 0
    while line := stream.readline(LONGEST_LINE):
        number += 1
        if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
            while (line := stream.readline(1 << 16)) and not line.endswith(b"\n"):
                pass
            yield number, None
        else:
            yield number, line.removeprefix(BOM) if number == 1 else line


def read_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Yield (line number, row) of a JSONL file. Raises DataError with the line's number if one holds no JSON object."""
    return rows_in(read_lines(path), path)


def rows_in(lines: Iterable[NumberedLine], path: Path) -> Iterator[tuple[int, Row]]:
    """Yield (line number, row) of `lines`, which `read_lines` read from `path`. Raises as `read_rows` does."""
    for number, line in lines:
        where = f"{path}:{number}"
        if line is None:
            raise DataError(f"{where}: is longer than {LONGEST_LINE} bytes; expected one JSON object a line")
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise DataError(f"{where}: is not UTF-8 text (byte {error.start} of the line)") from error
        if text.strip():
            yield number, parse_row(text, where)


def read_json(path: Path) -> Any:
    """Return the value of a file that is one JSON document.

    Raises DataError if the file cannot be read, is longer than LONGEST_LINE, or is no JSON.
    """
    try:
        with path.open("rb") as stream:
            body = stream.read(LONGEST_LINE)
        text = body.decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text (byte {error.start})") from error
    if len(body) == LONGEST_LINE:
        raise DataError(f"{path}: is longer than {LONGEST_LINE} bytes")
    return parse_json(text, str(path))


def parse_row(line: str, where: str) -> Row:
    """Return the JSON object in `line`; `where` is its place for messages, such as `records.jsonl:3`.

    Raises DataError for another type than an object, and as `parse_json` does.
    """
    row = parse_json(line, where)
    if not isinstance(row, dict):
        raise DataError(f"{where}: got a JSON {type(row).__name__}, expected an object")
    return row


def parse_json(text: str, where: str) -> Any:
    """Return the value of a JSON text; `where` is its place for messages.

    Raises DataError for what DECODER refuses, and for half characters (lone surrogates).
    """
    try:
        value = DECODER.decode(text)
        if SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{where}: holds half a character (a lone surrogate)") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: is not JSON ({error})") from error
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"the number {digits[:40]} is too large")
    return value


def _whole(digits: str) -> int:
    if len(digits) > LONGEST_NUMBER:
        raise ValueError(f"a whole number of {len(digits)} characters; expected at most {LONGEST_NUMBER}")
    return int(digits)


def _unique(pairs: list[tuple[str, Any]]) -> Row:
    row = dict(pairs)
    if len(row) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in row if names.count(name) > 1)!r} comes twice")
    return row


DECODER = json.JSONDecoder(
    parse_constant=_refuse_constant, parse_float=_finite, parse_int=_whole, object_pairs_hook=_unique
)
"""A decoder that refuses infinite numbers, NaN, numbers too long, and a key that comes twice in an object."""


def read_values(path: Path, decode: Callable[[Row], Value]) -> Iterator[Value]:
    """Yield the values that `decode` makes of a JSONL file's rows.

    Raises DataError with file and line for a row of which it makes none.
    """
    return values_in(read_lines(path), path, decode)


def values_in(lines: Iterable[NumberedLine], path: Path, decode: Callable[[Row], Value]) -> Iterator[Value]:
    """Yield the values in `lines`, which `read_lines` read from `path`, as `read_values` does."""
    for number, row in rows_in(lines, path):
        try:
            yield decode(row)
        except (KeyError, TypeError, ValueError, AttributeError, CfbuildError) as error:
            what = f"lacks {error}" if isinstance(error, KeyError) else str(error)
            raise DataError(f"{path}:{number}: {what}") from error
