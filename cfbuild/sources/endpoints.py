"""The table of public SPARQL endpoints that hold Wikidata's graph, by the name that `--endpoint` takes."""

from __future__ import annotations

DEFAULT = "wikidata"
ENDPOINTS = {DEFAULT: "https://query.wikidata.org/sparql", "qlever": "https://qlever.dev/api/wikidata"}
CHECKED = "2026-11-26"
"""The day on which somebody last checked these addresses; services move."""
HELP = ", ".join(f"{name} ({url}, checked {CHECKED})" for name, url in ENDPOINTS.items())
"""The presets as the help of an option lists them."""


def endpoint_url(name: str | None) -> str:
    """Return the address of an endpoint: `name` is a preset's name, a URL, or None for Wikidata's own."""
    return ENDPOINTS.get(name or DEFAULT) or str(name)


def note(url: str) -> str:
    """Return a note on the preset whose address `url` is and on its last check; empty for any other address."""
    names = (name for name, address in ENDPOINTS.items() if address == url)
    return next((f"the preset {name} was last checked on {CHECKED}" for name in names), "")
