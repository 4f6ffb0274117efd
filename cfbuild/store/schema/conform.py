"""Rows held against their schema: quickly where nothing is wrong, with every fault where something is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from cfbuild.errors import DataError
from cfbuild.store.jsonl import Row, Value, dump_row
from cfbuild.store.schema.accept import Accept, compile_accept
from cfbuild.store.schema.explain import explain
from cfbuild.store.schema.faults import Fault, show
from cfbuild.store.schema.published import load_schema, without_references


def schema_faults(row: Any, name: str) -> list[Fault]:
    """Return every fault that the schema `name` finds in a row."""
    return [] if accepts(name)(row) else explain(row, name)


def writing_faults(row: Any) -> Iterator[Fault]:
    """Yield why a row that was read cannot be written again: a number that became infinite, or half a character."""
    try:
        dump_row(row).encode()
    except UnicodeEncodeError as error:
        near = error.object[max(0, error.start - 20) : error.start].lstrip('"')
        yield Fault("", "encoding", f"a lone surrogate or a byte that is not UTF-8 after {show(near)}", "UTF-8 text")
    except (ValueError, RecursionError) as error:
        yield Fault("", "json", str(error), "finite numbers, and nesting of a reasonable depth")


def conforming(name: str, decode: Callable[[Row], Value]) -> Callable[[Row], Value]:
    """Return `decode` for rows that the schema `name` allows; for others it raises DataError with the first fault."""
    accept = accepts(name)

    def checked(row: Row) -> Value:
        for fault in () if accept(row) else explain(row, name):
            raise DataError(f"{fault.path or '/'}: got {fault.got}; expected {fault.expected}")
        return decode(row)

    return checked


@cache
def accepts(name: str) -> Accept:
    """Return the quick first look at rows of the schema `name`; see `compile_accept`."""
    return compile_accept(without_references(load_schema(name)))
