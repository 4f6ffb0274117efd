"""Rules for `meta`, which cfbuild adds to CounterFact's rows: it must fit the prompts. Their faults are violations.

An entry of a wrong type is skipped: JSON Schema reports it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cfbuild.audit.row import ABOUT_OTHERS, RecordParts, wikidata_id
from cfbuild.store.schema.faults import Fault, show

PROMPTS_OF = {
    "paraphrases": "paraphrase_prompts",
    "neighborhood": "neighborhood_prompts",
    "attribute": "attribute_prompts",
}
"""The list of prompts for which each list of `meta` has entries, one a prompt."""


def meta_length(parts: RecordParts) -> Iterator[Fault]:
    """Yield a fault for each list of `meta` with another number of entries than there are prompts."""
    for name, key in PROMPTS_OF.items():
        entries, prompts = _meta(parts).get(name), parts.row.get(key)
        if isinstance(entries, list) and isinstance(prompts, list) and len(entries) != len(prompts):
            expected = f"{len(prompts)}, one for each of {key}"
            yield Fault(f"/meta/{name}", "meta-length", f"{len(entries)} entries", expected)


def meta_paraphrase(parts: RecordParts) -> Iterator[Fault]:
    """Yield a fault for each paraphrase that is not its prefix, one space and its clean form."""
    prompts = {prompt.path: prompt.text for prompt in parts.group("paraphrase")}
    for place, entry in enumerate(_entries(parts, "paraphrases")):
        prefix, clean, prompt = entry.get("prefix"), entry.get("clean"), prompts.get(f"/paraphrase_prompts/{place}")
        if isinstance(prefix, str) and isinstance(clean, str) and prompt is not None:
            whole = f"{prefix} {clean}" if prefix else clean
            if whole != prompt:
                expected = f"what paraphrase_prompts has: {show(prompt)}"
                yield Fault(f"/meta/paraphrases/{place}", "meta-paraphrase", show(whole), expected)


def own_entity(parts: RecordParts) -> Iterator[Fault]:
    """Yield a fault for each neighbor or attribute entity that is the subject."""
    for name in ABOUT_OTHERS:
        for place, entity in _entities(parts, name):
            if entity == parts.subject_id:
                path = f"/meta/{name}/{place}/entity"
                yield Fault(path, "own-entity", show(entity), "another entity than the subject")


def shared_entity(parts: RecordParts) -> Iterator[Fault]:
    """Yield a fault for each attribute entity that is a neighbor too: it would have both objects."""
    neighbors = {entity for _, entity in _entities(parts, "neighborhood")}
    for place, entity in _entities(parts, "attribute"):
        if entity in neighbors:
            path = f"/meta/attribute/{place}/entity"
            yield Fault(path, "shared-entity", show(entity), "an entity that is not among the neighbors")


def _meta(parts: RecordParts) -> Mapping[str, Any]:
    return _mapping(parts.row.get("meta")) if parts.is_counterfact else {}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _entries(parts: RecordParts, name: str) -> list[Mapping[str, Any]]:
    entries = _meta(parts).get(name)
    return [_mapping(entry) for entry in entries] if isinstance(entries, list) else []


def _entities(parts: RecordParts, name: str) -> Iterator[tuple[int, str]]:
    """Yield (number, id) of the entries that have a Wikidata id."""
    for place, entry in enumerate(_entries(parts, name)):
        entity = entry.get("entity")
        if isinstance(entity, str) and wikidata_id(entity):
            yield place, wikidata_id(entity)
