"""Checks of rows by their schema: quick for valid rows, with all faults for others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from cfbuild.errors import DataError
from cfbuild.store.jsonl import SURROGATE, Row, Value, dump_row
from cfbuild.store.schema.accept import Accept, compile_accept
from cfbuild.store.schema.explain import explain
from cfbuild.store.schema.faults import Fault, show
from cfbuild.store.schema.published import load_schema, without_references

DEEPEST = 100
"""The most levels of objects and lists in a row; CounterFact's have three."""


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
