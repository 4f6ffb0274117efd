"""The table of public SPARQL endpoints that hold Wikidata's graph, by the name that `--endpoint` takes.

Services move, so each address comes with the day on which somebody last checked it.
"""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT = "wikidata"


@dataclass(frozen=True, slots=True)
class PublicEndpoint:
    """A public endpoint: its address, and the ISO date on which that was last checked."""

    url: str
    checked: str


ENDPOINTS = {
    DEFAULT: PublicEndpoint("https://query.wikidata.org/sparql", "2026-11-26"),
    "qlever": PublicEndpoint("https://qlever.dev/api/wikidata", "2026-11-26"),
}

HELP = ", ".join(f"{name} ({one.url}, checked {one.checked})" for name, one in ENDPOINTS.items())
"""The presets as the help of an option lists them."""


def endpoint_url(name: str | None) -> str:
    """Return the address of an endpoint: `name` is a preset's name, a URL, or None for Wikidata's own."""
    preset = ENDPOINTS.get(name or DEFAULT)
    return preset.url if preset else str(name)


def note(url: str) -> str:
    """Return a note on the preset whose address `url` is and on its last check; empty for any other address."""
    return next(
        (f"the preset {name} was last checked on {one.checked}" for name, one in ENDPOINTS.items() if one.url == url),
        "",
    )
