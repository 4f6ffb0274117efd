"""The small graph of every language as one graph with names in several, and what may be missing in it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from small_world import write_build
from test_other_languages import COMPANIES, name_of, small_graph

from cfbuild.data import Entity
from cfbuild.pipeline.generate import GenerateOptions
from cfbuild.records.factset import FactSet
from cfbuild.store.folder import BuildFolder
from cfbuild.templates import builtin

CODES = ("en", "fr", "de", "ja")
ENGLISH = (
    "Paris Rome Oslo Lima",
    "France Italy Norway Peru",
    "French Italian Norwegian Spanish",
    "actor painter poet chemist",
)
Unnamed = Mapping[str, Collection[str]]
"""The ids of items that have no name in a language, by language."""
SUBJECT, OBJECT = 2000, 1000
"""The first subject, and the first of the cities."""


def aligned_graph(unnamed: Unnamed | None = None) -> FactSet:
    """Return the graph with English, French, German and Japanese names, but the names that are `unnamed`."""
    graphs = {code: small_graph(code) for code in CODES[1:]}
    names = {code: {one.id: one.labels[code] for one in graph.entities} for code, graph in graphs.items()}
    names["en"] = _english()
    known = graphs["fr"]
    entities = tuple(_named(one, names, unnamed or {}) for one in known.entities)
    templates = tuple(one for relation in known.relations for one in builtin.templates(relation))
    return replace(known, language="en", entities=entities, templates=templates)


def _english() -> dict[str, str]:
    objects = [name for names in (*ENGLISH, COMPANIES) for name in names.split()]
    found = {f"Q{OBJECT + 10 * (number // 4) + number % 4}": name for number, name in enumerate(objects)}
    return found | {f"Q{SUBJECT + number}": name_of("en", number) for number in range(48)}


def _named(entity: Entity, names: Mapping[str, Mapping[str, str]], unnamed: Unnamed) -> Entity:
    labels = {code: names[code][entity.id] for code in CODES if entity.id not in unnamed.get(code, ())}
    return replace(entity, labels=labels)


def write_aligned(root: Path, unnamed: Unnamed | None = None) -> BuildFolder:
    """Write the graph as a build folder of a fetch in English; return it."""
    graph = aligned_graph(unnamed)
    folder = BuildFolder(write_build(root, graph.facts, graph.entities, graph.templates))
    folder.finish("fetch", {"language": "en", "templates": ["builtin"]}, {}, {"facts": {}})
    return folder


def aligned_options(**given: object) -> GenerateOptions:
    return GenerateOptions(**{"languages": CODES, "per_relation": 3, "groups": ("specificity_plus",)} | given)  # type: ignore[arg-type]
