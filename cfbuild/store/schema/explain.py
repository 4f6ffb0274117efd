"""The faults that jsonschema finds in a row, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache, reduce
from typing import TYPE_CHECKING, Any, cast

from cfbuild.store.schema.faults import Fault, pointer, show
from cfbuild.store.schema.published import load_schema, without_references

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import ValidationError


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
