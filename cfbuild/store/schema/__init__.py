"""The schemas in the folder `schemas`, and checks of rows by them: quick for valid rows, with all faults for others."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from cfbuild.errors import ConfigError, DataError
from cfbuild.store.jsonl import SURROGATE, Row, Value, dump_row
from cfbuild.store.schema.accept import Accept, compile_accept
from cfbuild.store.schema.faults import Fault, pointer, show

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import ValidationError

DEEPEST = 100
"""The most levels of objects and lists in a row; CounterFact's have three."""
BUILT = (
    *("facts", "entities", "templates", "references", "rejected", "changes", "cases", "prompts", "pre_edit", "multi"),
    *("traces", "manifest"),
)
"""The schemas of a build's files beside `record`."""
_PACKAGE = Path(__file__).resolve().parents[2]
# A wheel has the schemas inside the package, a checkout of the repository has them beside it.
_FOLDER = next(path for path in (_PACKAGE / "schemas", _PACKAGE.parent / "schemas") if path.is_dir())
_ENDING = ".schema.json"
EXPORTS = tuple(sorted(path.name.removesuffix(_ENDING) for path in _FOLDER.glob(f"export-*{_ENDING}")))
"""The schemas of exported files: every file with this beginning."""
NAMES = ("record", *BUILT, *EXPORTS)
"""All schemas; `record` is that of records.jsonl and CounterFact files."""


@cache
def load_schema(name: str) -> Mapping[str, Any]:
    """Return the schema `name`. Raises ConfigError for a name that is not in NAMES."""
    if name not in NAMES:
        raise ConfigError(f"there is no schema {name!r} in {_FOLDER}; expected one of {', '.join(NAMES)}")
    schema: Mapping[str, Any] = json.loads((_FOLDER / f"{name}{_ENDING}").read_text(encoding="utf-8"))
    return schema


def without_references(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return `schema` with its definitions in place of each `$ref`; keys beside a `$ref` take precedence."""
    definitions = schema.get("$defs", {})

    def resolve(part: Any) -> Any:
        if isinstance(part, list):
            return [resolve(inner) for inner in part]
        if not isinstance(part, dict):
            return part
        named = resolve(definitions[part["$ref"].removeprefix("#/$defs/")]) if "$ref" in part else {}
        return {**named, **{key: resolve(value) for key, value in part.items() if key not in ("$ref", "$defs")}}

    resolved: dict[str, Any] = resolve(dict(schema))
    return resolved


def schema_faults(row: Any, name: str) -> list[Fault]:
    """Return all faults that the schema `name` finds in a row."""
    return [] if accepts(name)(row) else explain(row, name)


def writing_faults(row: Any) -> Iterator[Fault]:
    """Yield the fault that keeps a row from being written: half a character, an infinite number, too deep nesting."""
    try:
        text = dump_row(row)
        text.encode()
        if text.count("{") + text.count("[") > DEEPEST and _depth(row) > DEEPEST:
            raise ValueError(f"nested more than {DEEPEST} deep")
    except UnicodeEncodeError as error:
        near = error.object[max(0, error.start - 20) : error.start].lstrip('"')
        yield Fault("", "encoding", f"a lone surrogate or a byte that is not UTF-8 after {show(near)}", "UTF-8 text")
    except (TypeError, ValueError, RecursionError) as error:
        yield Fault("", "json", str(error), "finite numbers, and nesting of a reasonable depth")


def writes_again(row: Any, text: str) -> bool:
    """Return True if the JSON `text` of a row shows that it has none of the faults of `writing_faults`.

    That is quicker than writing the row.
    """
    is_shallow = text.count("{") + text.count("[") <= DEEPEST or _depth(row) <= DEEPEST
    return is_shallow and SURROGATE.search(text) is None


def _depth(value: Any) -> int:
    """Return the number of levels of objects and lists in a value; at most DEEPEST + 1."""
    depth, level = 0, [value]
    while level and depth <= DEEPEST:
        level = [
            part
            for outer in level
            if isinstance(outer, dict | list)
            for part in (outer.values() if isinstance(outer, dict) else outer)
        ]
        depth += 1
    return depth


def conforming(name: str, decode: Callable[[Row], Value]) -> Callable[[Row], Value]:
    """Return a function that decodes a row by `decode` after a check by the schema `name`.

    It raises DataError with the first fault of a row.
    """
    accept = accepts(name)

    def checked(row: Row) -> Value:
        for fault in () if accept(row) else explain(row, name):
            raise DataError(f"{fault.path or '/'}: got {fault.got}; expected {fault.expected}")
        return decode(row)

    return checked


@cache
def accepts(name: str) -> Accept:
    """Return the quick check of the schema `name`."""
    return compile_accept(without_references(load_schema(name)))


@cache
def validator(name: str) -> Draft202012Validator:
    """Return jsonschema's validator of the schema `name`."""
    from jsonschema import Draft202012Validator  # slow to import, and needed only for rows with faults

    return Draft202012Validator(without_references(load_schema(name)))


def explain(row: Any, name: str) -> list[Fault]:
    """Return all faults that the schema `name` finds in a row, sorted by place."""
    errors = sorted(validator(name).iter_errors(row), key=lambda error: [str(part) for part in error.absolute_path])
    return list(dict.fromkeys(fault for error in errors for fault in _to_faults(error)))


def _to_faults(error: ValidationError) -> Iterator[Fault]:
    path = reduce(pointer, map(str, error.absolute_path), "")
    rule, value, schema = str(error.validator), cast(Any, error.validator_value), cast(Any, error.schema)
    instance = cast(Any, error.instance)
    if rule == "required":
        for key in value:
            if key not in instance:
                yield Fault(pointer(path, key), rule, "nothing", _described(schema["properties"][key], "a value"))
    elif rule == "additionalProperties" and value is False:
        for key in instance:
            if key not in schema["properties"]:
                yield Fault(pointer(path, key), rule, show(instance[key]), "no such key")
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
