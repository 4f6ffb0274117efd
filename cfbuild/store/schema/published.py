"""The schemas in the folder `schemas`, and how they are read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from cfbuild.errors import ConfigError

EXPORTS = (
    *("export-counterfact", "export-easyedit", "export-knowedit", "export-zsre", "export-mquake", "export-bmike"),
    *("export-wikibigedit", "export-rippleedits", "export-uniedit", "export-question", "export-tracing"),
    *("export-pairs", "export-chat"),
)
"""The schemas of exported files."""
BUILT = (
    *("facts", "entities", "templates", "references", "rejected", "changes", "cases", "prompts", "pre_edit", "multi"),
    *("traces", "manifest"),
)
"""The schemas of a build's files beside `record`."""
NAMES = ("record", *BUILT, *EXPORTS)
"""All schemas; `record` is that of records.jsonl and CounterFact files."""

_PACKAGE = Path(__file__).resolve().parents[2]


@cache
def load_schema(name: str) -> Mapping[str, Any]:
    """Return the schema `name`. Raises ConfigError for a name that is not in NAMES."""
    if name not in NAMES:
        raise ConfigError(f"there is no schema {name!r}; expected one of {', '.join(NAMES)}")
    # A wheel has the schemas inside the package, a checkout of the repository has them beside it.
    folders = (_PACKAGE / "schemas", _PACKAGE.parent / "schemas")
    file = next(path for folder in folders if (path := folder / f"{name}.schema.json").is_file())
    schema: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
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
