"""Ends of labels that only tell namesakes apart: brackets, and places after a comma."""

from __future__ import annotations

from cfbuild.facts.graph import FactGraph
from cfbuild.facts.relations import INSTANCE_OF
from cfbuild.text.languages.neutral import without_bracket
from cfbuild.text.names import find_name


def needless_bracket(item: str, graph: FactGraph) -> str | None:
    """Return the bracket at the end of the label of `item` (an id) if it only tells namesakes apart, or None.

    It does so if its last word ends the name of a class of the item: "(Bad Religion album)". If brackets are no part of
    names in the graph's language, it also does so if the label without it is an alias or another item's label, itself
    without its bracket, or if the bracket names a value of the item: "(IRT Pelham Line)".
    """
    label = graph.label(item) or ""
    parts = without_bracket(label)
    if parts is None:
        return None
    base, inside = parts
    class_names = (name for class_id in graph.attributes(item, INSTANCE_OF) for name in graph.names(class_id))
    if (last := _last_word(inside)) and last in map(_last_word, class_names):
        return f"({inside})"
    if graph.wording.may_own_bracket(inside):
        return None
    aliases = {name.casefold() for name in graph.names(item)[1:]}
    # The item itself is one of the namesakes of its label's base.
    needless = (
        base.casefold() in aliases
        or graph.namesakes(base) > 1
        or any(find_name(inside, graph.names(value)) is not None for value in graph.known_values(item))
    )
    return f"({inside})" if needless else None


def place_suffix(item: str, graph: FactGraph) -> str | None:
    """Return what follows the last comma of the label of `item` (an id) if it names a container of it, or None."""
    label = graph.label(item) or ""
    base, comma, rest = label.rpartition(", ")
    if not comma or not base.strip():
        return None
    names = {name.casefold() for outer in graph.containers(item) for name in graph.names(outer)}
    return f", {rest}" if rest.casefold() in names else None


def _last_word(name: str) -> str:
    return name.rsplit(maxsplit=1)[-1].casefold() if name.split() else ""
