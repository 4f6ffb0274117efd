"""A check of which services can be reached from this machine, by one small request to each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cfbuild.sources.endpoints import ENDPOINTS
from cfbuild.sources.http import user_agent

SERVICES: Mapping[str, str] = {
    **{f"SPARQL, {name}": f"{url}?query=ASK%7B%7D&format=json" for name, url in ENDPOINTS.items()},
    "Wikipedia": "https://en.wikipedia.org/w/api.php?action=query&meta=siteinfo&format=json",
    "Hugging Face Hub": "https://huggingface.co/api/models?limit=1",
}
"""The address of the request to each service, by the service's name."""


@dataclass(frozen=True, slots=True)
class ServiceCheck:
    """The outcome of a request to a service; `detail` is its status, or the name of the network's error."""

    service: str
    url: str
    answered: bool
    detail: str


def reach(service: str, url: str, contact: str | None, timeout_s: float) -> ServiceCheck:
    """Return the outcome of a request to `url`, the address of a service, within `timeout_s` seconds.

    contact: an e-mail address or URL for the User-Agent, or None.
    """
    import requests

    try:
        with requests.get(
            url, headers={"User-Agent": user_agent(contact)}, timeout=timeout_s, stream=True, allow_redirects=False
        ) as response:
            return ServiceCheck(service, url, response.ok, f"HTTP {response.status_code}")
    except requests.RequestException as error:
        return ServiceCheck(service, url, False, type(error).__name__)
