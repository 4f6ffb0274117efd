"""The schemas in the folder `schemas`, and how they are read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from cfbuild.errors import ConfigError

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
