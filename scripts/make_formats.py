"""Write docs/formats.md from the schemas: `python scripts/make_formats.py`. A test says when it is out of date."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cfbuild.store.schema import NAMES, load_schema

PAGE = Path(__file__).resolve().parents[1] / "docs" / "formats.md"


def page() -> str:
    """Return the whole page."""
    parts = [
        "# Formats\n\nEvery key of every file that cfbuild writes or reads, a section for each format. The JSON "
        "schemas in `schemas/` are the contract; `scripts/make_formats.py` makes this page of them."
    ]
    for name in NAMES:
        schema = load_schema(name)
        rows = "\n".join(_rows(schema, schema, ""))
        table = f"| key | type | what |\n|---|---|---|\n{rows}"
        parts.append(f"## {schema['title']} (`{name}`)\n\n{schema['description']}\n\n{table}")
    return "\n\n".join(parts) + "\n"


def _rows(schema: Mapping[str, Any], root: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for key, given in schema.get("properties", {}).items():
        resolved = _resolved(given, root)
        name = f"{prefix}{key}"
        about = (
            str(given.get("description") or resolved.get("description", "")).replace("|", "\\|").replace("{}", "`{}`")
        )
        yield f"| `{name}` | {_type(resolved)} | {about} |"
        yield from _rows(resolved, root, f"{name}.")
        yield from _rows(_resolved(resolved.get("items", {}), root), root, f"{name}[].")


def _resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = schema.get("$ref")
    return root["$defs"][reference.rsplit("/", 1)[1]] if reference else schema


def _type(schema: Mapping[str, Any]) -> str:
    found = schema.get("type", "any")
    return " or ".join(found) if isinstance(found, list) else str(found)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}: {len(NAMES)} schemas")
