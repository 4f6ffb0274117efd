"""Services that answer from here: one small request to each, no data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cfbuild.sources.endpoints import ENDPOINTS
from cfbuild.sources.http import user_agent

SERVICES: Mapping[str, str] = {
    **{f"SPARQL, {name}": f"{one.url}?query=ASK%7B%7D&format=json" for name, one in ENDPOINTS.items()},
    "Wikipedia": "https://en.wikipedia.org/w/api.php?action=query&meta=siteinfo&format=json",
    "Hugging Face Hub": "https://huggingface.co/api/models?limit=1",
}
"""The addresses that are asked, by the service's name."""


@dataclass(frozen=True, slots=True)
class Reached:
    """A service's answer: whether it said yes, and its status or the fault in words."""

    service: str
    url: str
    answered: bool
    said: str


def reach(service: str, url: str, contact: str | None, timeout_s: float) -> Reached:
    """Return whether a service answers a request with success within `timeout_s` seconds."""
    import requests

    try:
        with requests.get(
            url, headers={"User-Agent": user_agent(contact)}, timeout=timeout_s, stream=True, allow_redirects=False
        ) as response:
            return Reached(service, url, response.ok, f"HTTP {response.status_code}")
    except requests.RequestException as error:
        return Reached(service, url, False, type(error).__name__)
