"""The schemas of a build's files, and everything that is wrong with a file of records, each thing with its place."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from cfbuild.errors import ConfigError, DataError
from cfbuild.store.jsonl import Row, Value, dump_row
from cfbuild.store.schema.accept import Accept, compile_accept
from cfbuild.store.schema.faults import Fault, Located, Violation, show
from cfbuild.store.schema.located import read_located
from cfbuild.store.schema.semantics import faults as semantic_faults

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import ValidationError

__all__ = ["NAMES", "Tally", "Violation", "conforming", "load_schema", "read_valid", "row_faults", "violations"]

EXPORTS = ("export-counterfact", "export-easyedit", "export-knowedit", "export-zsre", "export-mquake")
NAMES = ("record", "facts", "entities", "templates", "references", "rejected", "cases", "manifest", *EXPORTS)
"""The schemas there are; `record` is that of CounterFact files and of records.jsonl."""

_PACKAGE = Path(__file__).resolve().parents[2]


@dataclass
class RowTally:
    """How many rows `violations` has looked at, and how many of them were at fault."""

    rows: int = 0
    faulty: int = 0


@cache
def load_schema(name: str) -> Mapping[str, Any]:
    """The schema `name` as published. Raises ConfigError for a name that is not in NAMES."""
    if name not in NAMES:
        raise ConfigError(f"there is no schema {name!r}; expected one of {', '.join(NAMES)}")
    # A wheel holds the schemas inside the package, a checkout at its top.
    folders = (_PACKAGE / "schemas", _PACKAGE.parent / "schemas")
    file = next(path for folder in folders if (path := folder / f"{name}.schema.json").is_file())
    schema: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return schema


def violations(path: Path, tally: RowTally | None = None) -> Iterator[Violation]:
    """Everything wrong with a CounterFact file (a JSON array or JSON lines, of cfbuild's making or not).

    Rows are read one by one and in order. `tally`, if given, counts them. A file without rows is a violation too.
    Raises DataError if the file cannot be read.
    """
    tally = RowTally() if tally is None else tally
    for located, case_id, found in _examine(path):
        tally.rows += 1
        tally.faulty += bool(found)
        for fault in found:
            yield Violation(path, located.line, case_id, fault.path, fault.rule, fault.got, fault.expected)
    if not tally.rows:
        yield Violation(path, 1, None, "", "empty", "a file without rows", "at least one record")


def read_valid(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a CounterFact file with which nothing is wrong. Raises DataError if the file cannot be read."""
    return (located.row for located, _, found in _examine(path) if not found)


def _examine(path: Path) -> Iterator[tuple[Located, int | None, list[Fault]]]:
    """Each row of a file with its case id and everything wrong with it."""
    first_line: dict[int, int] = {}
    for located in read_located(path):
        case_id = _case_id(located.row)
        yield located, case_id, [*_faults(located), *_duplicate_id(case_id, located.line, first_line)]


def row_faults(row: Any, name: str = "record") -> list[Fault]:
    """What the schema `name` finds wrong with one row, and for a record what the semantic rules find."""
    schema_finds = [] if _accept(name)(row) else _explain(row, name)
    semantics_find = semantic_faults(row) if name == "record" and isinstance(row, dict) else ()
    return [*schema_finds, *semantics_find, *_writable(row)]


def conforming(name: str, decode: Callable[[Row], Value]) -> Callable[[Row], Value]:
    """`decode`, for rows that the schema `name` allows; for any other it raises DataError with the first fault."""
    accept = _accept(name)

    def checked(row: Row) -> Value:
        for fault in () if accept(row) else _explain(row, name):
            raise DataError(f"{fault.path or '/'}: got {fault.got}; expected {fault.expected}")
        return decode(row)

    return checked


def _faults(located: Located) -> list[Fault]:
    return row_faults(located.row) if located.fault is None else [located.fault]


def _case_id(row: Any) -> int | None:
    case_id = row.get("case_id") if isinstance(row, dict) else None
    return case_id if isinstance(case_id, int) and not isinstance(case_id, bool) else None


def _duplicate_id(case_id: int | None, line: int, first_line: dict[int, int]) -> Iterator[Fault]:
    if case_id is None:
        return
    if case_id in first_line:
        got = f"{case_id}, which the row on line {first_line[case_id]} has too"
        yield Fault("/case_id", "duplicate-case-id", got, "an id that no other row has")
    first_line.setdefault(case_id, line)


def _writable(row: Any) -> Iterator[Fault]:
    """What was read can be written again: a number that became infinite or half a character cannot."""
    try:
        dump_row(row).encode()
    except UnicodeEncodeError as error:
        near = error.object[max(0, error.start - 20) : error.start].lstrip('"')
        yield Fault("", "encoding", f"a lone surrogate or a byte that is not UTF-8 after {show(near)}", "UTF-8 text")
    except (ValueError, RecursionError) as error:
        yield Fault("", "json", str(error), "finite numbers, and nesting of a reasonable depth")


@cache
def _accept(name: str) -> Accept:
    return compile_accept(_without_references(load_schema(name)))


@cache
def _validator(name: str) -> Draft202012Validator:
    from jsonschema import Draft202012Validator  # heavy, and needed only to explain what is wrong

    return Draft202012Validator(_without_references(load_schema(name)))


def _without_references(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with each `$ref` replaced by what it names, under the description given beside it."""
    definitions = schema.get("$defs", {})

    def resolve(part: Any) -> Any:
        if isinstance(part, list):
            return [resolve(one) for one in part]
        if not isinstance(part, dict):
            return part
        named = resolve(definitions[part["$ref"].removeprefix("#/$defs/")]) if "$ref" in part else {}
        return {**named, **{key: resolve(value) for key, value in part.items() if key not in ("$ref", "$defs")}}

    resolved: dict[str, Any] = resolve(dict(schema))
    return resolved


def _explain(row: Any, name: str) -> list[Fault]:
    errors = sorted(_validator(name).iter_errors(row), key=lambda error: [str(part) for part in error.absolute_path])
    return list(dict.fromkeys(fault for error in errors for fault in _to_faults(error)))


def _to_faults(error: ValidationError) -> Iterator[Fault]:
    path = "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in error.absolute_path)
    rule, value, schema = str(error.validator), cast(Any, error.validator_value), cast(Any, error.schema)
    instance = cast(Any, error.instance)
    if rule == "required":
        for key in value:
            if key not in instance:
                yield Fault(f"{path}/{key}", rule, "nothing", _described(schema["properties"][key], "a value"))
    elif rule == "additionalProperties" and value is False:
        for key in instance:
            if key not in schema["properties"]:
                yield Fault(f"{path}/{key}", rule, show(instance[key]), "no such key")
    else:
        yield Fault(path, rule, show(instance), _described(schema, _expected(rule, value)))


def _expected(rule: str, value: Any) -> str:
    if rule == "type":
        return " or ".join([value] if isinstance(value, str) else value)
    if rule == "pattern":
        return f"text that matches {value}"
    return f"{rule} {show(value)}"


def _described(schema: Any, expected: str) -> str:
    description = schema.get("description") if isinstance(schema, Mapping) else None
    return f"{expected} ({description})" if description else expected
