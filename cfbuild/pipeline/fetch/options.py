"""What `cfbuild fetch` may be asked for: the options, what fits together, and what of them affects the bytes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cfbuild.data import id_number, property_id
from cfbuild.errors import ConfigError, DataError
from cfbuild.sources import http, pararel, snapshot, wikidata, wikipedia
from cfbuild.sources.address import checked_url, redact
from cfbuild.sources.session import TIMEOUT_S
from cfbuild.sources.source import FactSource, Wanted, local_path
from cfbuild.templates import builtin, own

CONTACT_VARIABLE = "CFBUILD_CONTACT"

SOURCES: dict[str, Callable[[Wanted], FactSource]] = {
    "wikidata": wikidata.load,
    "pararel": pararel.load,
    "snapshot": snapshot.load,
}
"""Where facts come from."""
TEMPLATE_SETS = ("builtin", "pararel")


@dataclass(frozen=True)
class FetchOptions:
    """What to fetch and from where. `relations` None means all that have templates; `per_relation` None, all facts.

    `endpoint` is a preset's name or a URL; None means Wikidata's for the source `wikidata`, and none for `pararel`.
    `templates` are names of sets, or folders with files of one's own. `pararel` is a folder or a raw URL. `contact`
    None means the environment's CFBUILD_CONTACT. `statements` asks Wikidata for ranks, dates, redirects and revisions
    too. `references` is how many lead texts to get from Wikipedia for each relation and object (None: none),
    `wikipedia` the address of its API, None that of the language's.
    """

    source: str = "wikidata"
    endpoint: str | None = None
    relations: tuple[str, ...] | None = None
    language: str = "en"
    per_relation: int | None = None
    seed: int = 0
    templates: tuple[str, ...] = ("builtin",)
    pararel: str = pararel.PARAREL
    contact: str | None = None
    timeout_s: float = TIMEOUT_S
    attempts: int = http.ATTEMPTS
    statements: bool = False
    references: int | None = None
    wikipedia: str | None = None
    restart: bool = False


def checked(options: FetchOptions) -> FetchOptions:
    _known(options.source, SOURCES, "source")
    for name in options.templates:
        if not Path(name).is_dir():
            _known(name, TEMPLATE_SETS, "template set or folder")
    if not options.templates:
        raise ConfigError(f"no template set is named; expected some of {', '.join(TEMPLATE_SETS)}")
    if options.per_relation is not None and options.per_relation < 1:
        raise ConfigError(f"per relation {options.per_relation}: expected at least 1 fact a relation")
    if options.timeout_s <= 0 or options.attempts < 1:
        raise ConfigError("expected a timeout above 0 seconds and at least 1 attempt")
    if options.source == "snapshot" and options.endpoint is not None:
        raise ConfigError("the source snapshot asks no endpoint; leave --endpoint out, or choose --source wikidata")
    if options.statements and options.source != "wikidata":
        raise ConfigError(
            f"the source {options.source} has no statements; expected --source wikidata with --statements"
        )
    if options.references is not None:
        if options.references < 1:
            raise ConfigError(f"references per object {options.references}: expected at least 1")
        if not _asks(options):
            raise ConfigError(
                f"the source {options.source} cannot tell which articles its items have; "
                "give --endpoint with --source pararel, or choose --source wikidata"
            )
    wikidata.language_code(options.language)
    for url in _urls(options):
        http.require_contact(checked_url(url), contact_of(options))
    return options


def _known(name: str, table: Iterable[str], what: str) -> None:
    if name not in table:
        raise ConfigError(f"there is no {what} {name!r}; expected one of {', '.join(sorted(table))}")


def _urls(options: FetchOptions) -> Iterator[str]:
    """Every address that these options will ask."""
    if _asks(options):
        yield wikidata.endpoint_url(options.endpoint)
    if options.references is not None:
        yield wikipedia_url(options)
    if _uses_pararel(options) and local_path(options.pararel) is None:
        yield options.pararel


def _asks(options: FetchOptions) -> bool:
    """Whether a SPARQL endpoint is asked."""
    return options.source == "wikidata" or options.endpoint is not None


def wikipedia_url(options: FetchOptions) -> str:
    return options.wikipedia or wikipedia.api_url(wikidata.language_code(options.language))


def _uses_pararel(options: FetchOptions) -> bool:
    return options.source == "pararel" or "pararel" in options.templates


def contact_of(options: FetchOptions) -> str | None:
    return options.contact or os.environ.get(CONTACT_VARIABLE) or None


def chosen_relations(options: FetchOptions) -> tuple[str, ...]:
    """The relations asked for, each once and by number; or all that a template set knows, and the snapshot has."""
    if options.relations is None:
        asked = set(pararel.Files(options.pararel, None).relations()) if "pararel" in options.templates else set()
        if "builtin" in options.templates:
            asked |= set(builtin.relations())
        asked |= {one for name in options.templates if is_own(name) for one in own.relations(Path(name))}
        if options.source == "snapshot":
            asked &= set(snapshot.Snapshot().relations())
    else:
        asked = set(options.relations)
    try:
        relations = tuple(sorted(map(property_id, asked), key=id_number))
    except DataError as error:
        raise ConfigError(str(error)) from error
    if not relations:
        raise ConfigError("no relation is asked for; expected --relations such as P36,P103, or none for all")
    return relations


def is_own(name: str) -> bool:
    return name not in TEMPLATE_SETS


def _template_set(name: str) -> str:
    """A template set as the manifest names it: a folder without where it lies, but with its digest."""
    return f"{Path(name).resolve().name}@{own.digest(Path(name))[:16]}" if is_own(name) else name


def manifest_config(options: FetchOptions, relations: tuple[str, ...]) -> dict[str, Any]:
    """Everything that affects the bytes, free of credentials and of this machine's paths."""
    files = pararel.Files(options.pararel, None) if _uses_pararel(options) else None
    return {
        "source": options.source,
        "endpoint": redact(wikidata.endpoint_url(options.endpoint)) if _asks(options) else None,
        "relations": list(relations),
        "language": wikidata.language_code(options.language),
        "per_relation": options.per_relation,
        "seed": options.seed,
        "statements": options.statements,
        "references": options.references,
        "wikipedia": None if options.references is None else redact(wikipedia_url(options)),
        "templates": list(map(_template_set, options.templates)),
        "pararel": (files.digest() or redact(options.pararel)) if files else None,
    }
