"""Ends of labels that only tell namesakes apart, as far as the facts tell: brackets, and places behind a comma."""

from __future__ import annotations

from collections.abc import Iterator

from cfbuild.facts.graph import FactGraph
from cfbuild.facts.relations import INSTANCE_OF
from cfbuild.text.languages.neutral import without_bracket
from cfbuild.text.names import find_name


def needless_bracket(item: str, graph: FactGraph) -> str | None:
    """Return the bracket at the end of the item's label if it only tells namesakes apart, or None.

    It does if its last word is one of a class of the item ("(Bad Religion album)"). Where brackets are no part of names
    in the graph's language, it also does if the label without it is an alias or, but for a bracket, another item's
    label; or if it names a value of the item ("(IRT Pelham Line)").
    """
    label = graph.label(item) or ""
    parts = without_bracket(label)
    if parts is None:
        return None
    base, inside = parts
    if _last_word(inside) in _class_words(item, graph):
        return f"({inside})"
    if graph.wording.may_own_bracket(inside):
        return None
    aliases = {name.casefold() for name in graph.names(item)[1:]}
    # The item itself is one of the namesakes of its label's base.
    needless = base.casefold() in aliases or graph.namesakes(base) > 1 or _names_value(inside, item, graph)
    return f"({inside})" if needless else None


def place_suffix(item: str, graph: FactGraph) -> str | None:
    """Return what follows the last comma of the item's label if it is a name of what contains the item, or None."""
    label = graph.label(item) or ""
    base, comma, rest = label.rpartition(", ")
    if not comma or not base.strip():
        return None
    names = {name.casefold() for outer in graph.containers(item) for name in graph.names(outer)}
    return f", {rest}" if rest.casefold() in names else None


def _class_words(item: str, graph: FactGraph) -> frozenset[str]:
    """Return the last words of the names of the item's classes: series, for a television series."""
    classes = graph.attributes(item, INSTANCE_OF)
    return frozenset(word for one in classes for name in graph.names(one) if (word := _last_word(name)))


def _last_word(name: str) -> str:
    return name.rsplit(maxsplit=1)[-1].casefold() if name.split() else ""


def _names_value(text: str, item: str, graph: FactGraph) -> bool:
    return any(find_name(text, names) is not None for names in _value_names(item, graph))


def _value_names(item: str, graph: FactGraph) -> Iterator[tuple[str, ...]]:
    return (graph.names(value) for value in sorted(graph.known_values(item)))
