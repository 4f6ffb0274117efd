"""Checks of rows against their schema: quick for valid rows, with every fault for the others."""

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
"""The most levels of a row; CounterFact's have three."""


def schema_faults(row: Any, name: str) -> list[Fault]:
    """Return every fault that the schema `name` finds in a row."""
    return [] if accepts(name)(row) else explain(row, name)


def writing_faults(row: Any) -> Iterator[Fault]:
    """Yield faults that keep a row from being written again: half a character, an infinite number, deep nesting."""
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
    """Return True if a row has no such faults, as the JSON text that it was read from shows without writing it."""
    is_shallow = text.count("{") + text.count("[") <= DEEPEST or _depth(row) <= DEEPEST
    return is_shallow and SURROGATE.search(text) is None


def _depth(value: Any) -> int:
    """Return how deep objects and lists are nested in a value, counted up to one more than DEEPEST."""
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
    """Return `decode` with a check by the schema `name`: a row at fault raises DataError with the first fault."""
    accept = accepts(name)

    def checked(row: Row) -> Value:
        for fault in () if accept(row) else explain(row, name):
            raise DataError(f"{fault.path or '/'}: got {fault.got}; expected {fault.expected}")
        return decode(row)

    return checked


@cache
def accepts(name: str) -> Accept:
    """Return the quick check of rows of the schema `name`; see `compile_accept`."""
    return compile_accept(without_references(load_schema(name)))
