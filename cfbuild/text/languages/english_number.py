"""The number of English names and templates: the Hida Mountains belong to Asia, and Mount Fuji belongs to it.

A name in the plural is told by its last word and by the classes of the item. Where usage differs ("the Solomon Islands
is" or "are") it counts as plural too, since a template without a verb that agrees with it is right either way.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from cfbuild.text.class_names import class_noun
from cfbuild.text.languages.english_articles import NEVER

PEOPLES = re.compile(r"\b(?:ethnic group|ethnic minority|peoples?|tribe)\Z", re.I)
"""Nouns of classes whose items' names are plural whatever they end in: the Ainu are."""

STATE = re.compile(
    r" (?:[Ee]mpire|[Kk]ingdom|[Kk]hanate|[Cc]aliphate|[Dd]ynasty|[Cc]onfederation|[Rr]epublic|[Uu]nion)\Z"
)
"""Last words of the names of a people's states, which are singular: the Hephthalites are, the Hephthalite Empire is."""

OF_MANY = re.compile(
    r"\b(?:archipelago|island group|islands|mountains|mountain range|mountain system|group|band|ensemble|duo|trio|"
    r"team|club|siblings|family)\Z",
    re.I,
)
"""Nouns of classes whose items' names are plural if they end as plurals do: the Beatles were, Genesis was."""

MANY = re.compile(r"[^\Wsui]s\Z|\w (?:and|&) \w")
"""Ends of plural names, and what joins two: not those of Genesis, Incubus and Kiss."""

LAST = re.compile(
    r" (?:Islands|Isles|Mountains|Alps|Hills|Highlands|Lakes|Falls|Games|Olympics|Championships|Awards|Forces|Wars|"
    r"[Tt]erritories|[Pp]eoples?|[Ll]anguages)\Z"
)
"""Last words of plural names, but of those whose class is that of a town, a company or a work."""

AGREEING = re.compile(
    r"(?:\A|, |\b(?:because|how|if|that|what|when|where|which|while) )\{\}"
    r"(?: (?:also|now|once|still|[a-z]+ly))? (?:is|was|has|does|[a-z]+[^\Ws]s)\b"
    r"|\{\} [a-z ]*\bits\b"
)
"""A slot that is the subject of a verb in the singular, or that "its" refers to: not that of "The capital of {} is"."""


def is_plural(label: str, classes: Sequence[str]) -> bool:
    """Return True if the name `label` is plural; `classes` are the names of the classes of the item."""
    nouns = [class_noun(one) for one in classes]
    if "human" in nouns or not label[:1].isupper():
        return False
    if any(map(PEOPLES.search, nouns)):
        return STATE.search(label) is None
    if any(map(OF_MANY.search, nouns)) and MANY.search(label):
        return True
    return LAST.search(label) is not None and not any(map(NEVER.search, nouns))


def is_singular(template: str) -> bool:
    """Return True if a verb of `template` agrees with a name in the singular in its slot."""
    return AGREEING.search(template) is not None
