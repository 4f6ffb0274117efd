"""The columns of the published tables, read from the schemas: Arrow types that every reader of parquet knows.

The files carry no types of the library `datasets`, because a version of it refuses types of newer versions. An object
whose keys are data, such as names of models, is a column of JSON text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from cfbuild.records.kinds import KINDS
from cfbuild.store.jsonl import Row, dump_row
from cfbuild.store.schema import load_schema, without_references

Properties = dict[str, Any]
"""The properties of an object in a JSON schema."""


@dataclass(frozen=True)
class Columns:
    """The columns of a table as the properties of its rows' schema."""

    properties: Properties

    @property
    def json_texts(self) -> tuple[str, ...]:
        """Return the columns that hold JSON text, one inside another as `outer.inner`."""
        return tuple(".".join(path) for path in self._texts)

    @cached_property
    def _texts(self) -> tuple[tuple[str, ...], ...]:
        return tuple(_open_objects(self.properties))

    @cached_property
    def arrow(self) -> Any:
        """Return the columns as an Arrow schema."""
        import pyarrow

        return pyarrow.schema([(name, _arrow_type(part)) for name, part in self.properties.items()])

    def table(self, rows: Iterable[Row]) -> Any:
        """Return the rows as an Arrow table, without the keys that are no columns, such as a record's groups."""
        import pyarrow

        return pyarrow.Table.from_pylist(list(map(self._cells, rows)), schema=self.arrow)

    def _cells(self, row: Row) -> Row:
        for path in self._texts:
            row = _with_text(row, path)
        return row


@cache
def columns(name: str) -> Columns:
    """Return the columns of the table `name`.

    It is that of a schema, a key of OWN, `records_` and a language's code, or `pre_edit-` and a run's name.
    """
    table = "records" if name.startswith("records_") else name.partition("-")[0]
    return Columns(OWN[table]() if table in OWN else _properties(table))


def _properties(schema: str) -> Properties:
    return dict(without_references(load_schema(schema))["properties"])


def _records() -> Properties:
    """Return a record's properties without its groups, which are tables of their own."""
    found = _properties("record")
    meta = {name: part for name, part in found["meta"]["properties"].items() if name != "groups"}
    return {**found, "meta": {**found["meta"], "properties": meta}}


def _group() -> Properties:
    found = _properties("record")
    prompts = found["meta"]["properties"]["groups"]["properties"]
    prompt = prompts[next(iter(KINDS))]["items"]["properties"]
    return {"case_id": found["case_id"], "requested_rewrite": found["requested_rewrite"], **prompt}


def _scores() -> Properties:
    found = _properties("cases")
    return {"case_id": found["case_id"], "run": {"type": "string"}, **found}


OWN: Mapping[str, Callable[[], Properties]] = {"records": _records, "scores": _scores, **dict.fromkeys(KINDS, _group)}
"""The tables whose columns are not those of the schema of their name."""


def type_of(schema: Mapping[str, Any]) -> str:
    """Return the type of a schema's values other than null, such as string."""
    types = schema["type"]
    return str(types if isinstance(types, str) else next(name for name in types if name != "null"))


def _arrow_type(schema: Mapping[str, Any]) -> Any:
    import pyarrow

    kind = type_of(schema)
    if kind == "array":
        return pyarrow.list_(_arrow_type(schema["items"]))
    if kind == "object" and "properties" in schema:
        return pyarrow.struct([(name, _arrow_type(part)) for name, part in schema["properties"].items()])
    plain = {"integer": pyarrow.int64, "number": pyarrow.float64, "boolean": pyarrow.bool_}
    return plain.get(kind, pyarrow.string)()


def _open_objects(properties: Properties) -> Iterator[tuple[str, ...]]:
    """Yield the path of each object whose keys are data; lists hold none."""
    for name, part in properties.items():
        if type_of(part) == "object":
            inner = _open_objects(part["properties"]) if "properties" in part else ((),)
            yield from ((name, *path) for path in inner)


def _with_text(row: Row, path: tuple[str, ...]) -> Row:
    """Return the row with the object at `path`, if it has one, as JSON text."""
    name, rest = path[0], path[1:]
    value = row.get(name)
    if value is None:
        return row
    return {**row, name: _with_text(value, rest) if rest else dump_row(value)}
