"""Public services: the SPARQL endpoints that hold Wikidata's graph, by name, and a check of which services answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cfbuild.sources.http import user_agent

DEFAULT = "wikidata"
ENDPOINTS = {DEFAULT: "https://query.wikidata.org/sparql", "qlever": "https://qlever.dev/api/wikidata"}
CHECKED = "2026-11-26"
"""The day on which somebody last checked these addresses; services move."""
HELP = ", ".join(f"{name} ({url}, checked {CHECKED})" for name, url in ENDPOINTS.items())
"""The presets as the help of an option lists them."""

SERVICES: Mapping[str, str] = {
    **{f"SPARQL, {name}": f"{url}?query=ASK%7B%7D&format=json" for name, url in ENDPOINTS.items()},
    "Wikipedia": "https://en.wikipedia.org/w/api.php?action=query&meta=siteinfo&format=json",
    "Hugging Face Hub": "https://huggingface.co/api/models?limit=1",
}
"""The address of the request to each service, by the service's name."""


def endpoint_url(name: str | None) -> str:
    """Return the address of an endpoint: `name` is a preset's name, a URL, or None for Wikidata's own."""
    return ENDPOINTS.get(name or DEFAULT) or str(name)


def note(url: str) -> str:
    """Return a note on the preset whose address `url` is and on its last check; empty for any other address."""
    names = (name for name, address in ENDPOINTS.items() if address == url)
    return next((f"the preset {name} was last checked on {CHECKED}" for name in names), "")


@dataclass(frozen=True, slots=True)
class ServiceCheck:
    """The outcome of a request to a service; `detail` is its status, or the name of the network's error."""

    service: str
    url: str
    answered: bool
    detail: str


def reach(service: str, url: str, contact: str | None, timeout_s: float) -> ServiceCheck:
    """Return the outcome of a request to a service's `url` in `timeout_s` seconds; `contact` is for the User-Agent."""
    import requests

    try:
        with requests.get(
            url, headers={"User-Agent": user_agent(contact)}, timeout=timeout_s, stream=True, allow_redirects=False
        ) as response:
            return ServiceCheck(service, url, response.ok, f"HTTP {response.status_code}")
    except requests.RequestException as error:
        return ServiceCheck(service, url, False, type(error).__name__)
