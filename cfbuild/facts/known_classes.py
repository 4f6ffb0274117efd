"""The names of well-known classes by id, from which kinds are told in every language.

A line of the table `known_classes.tsv` holds a class; they are ordered by number. Ids and names are Wikidata's (CC0);
the choice of classes is our own: those that most items are instances of, and those above the others. A class without a
line has the name of the nearest class above it (P279) that has one; where that name is wrong, add a line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType

from cfbuild.data import id_number
from cfbuild.facts.bundled import bundled_classes

TABLE = "known_classes.tsv"
LEVELS = 12
"""The most steps up from a class to a known one; a fetch follows containers as far (`sources/collect.py`)."""


@cache
def known_classes() -> Mapping[str, str]:
    """Return the English name of each class of the table and of the bundled objects, by id."""
    text = resources.files("cfbuild.facts").joinpath(TABLE).read_text(encoding="utf-8")
    lines = ((line.partition("\t")[0], line.partition("\t")[2]) for line in text.splitlines()[1:])
    return MappingProxyType({**{one.id: one.name for one in bundled_classes().values()}, **dict(lines)})


def known_above(class_id: str, above: Callable[[str], Iterable[str]]) -> str:
    """Return the English name of the nearest known class above the class `class_id`, or "" if there is none.

    above: returns the superclasses of a class. Of several classes at the same distance, the lowest number is taken.
    """
    seen, step = {class_id}, {*above(class_id)}
    for _ in range(LEVELS):
        step -= seen
        if not step:
            return ""
        found = [outer for outer in step if outer in known_classes()]
        if found:
            return known_classes()[min(found, key=id_number)]
        seen |= step
        step = {outer for inner in step for outer in above(inner)}
    return ""
