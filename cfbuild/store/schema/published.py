"""The published schemas, a JSON file each."""

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
BUILT = (
    "facts",
    "entities",
    "templates",
    "references",
    "rejected",
    "changes",
    "cases",
    "prompts",
    "pre_edit",
    "multi",
    "traces",
    "manifest",
)
NAMES = ("record", *BUILT, *EXPORTS)
"""The names of all schemas; `record` is that of CounterFact files and of records.jsonl."""

_PACKAGE = Path(__file__).resolve().parents[2]


@cache
def load_schema(name: str) -> Mapping[str, Any]:
    """Return the published schema `name`.

    Raises ConfigError for a name that is not in NAMES.
    """
    if name not in NAMES:
        raise ConfigError(f"there is no schema {name!r}; expected one of {', '.join(NAMES)}")
    # A wheel has the schemas inside the package, a checkout at its top.
    folders = (_PACKAGE / "schemas", _PACKAGE.parent / "schemas")
    file = next(path for folder in folders if (path := folder / f"{name}.schema.json").is_file())
    schema: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return schema


def without_references(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema with each `$ref` replaced by its definition; keys beside the `$ref` take precedence."""
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
