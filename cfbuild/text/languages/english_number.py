"""The number of English names and templates: the Hida Mountains belong to Asia, Mount Fuji belongs to it.

The last word of a name and the classes of the item show that it is plural. If usage differs ("the Solomon Islands is"
or "are") it counts as plural: it then gets templates without a verb that agrees with it, which are right either way.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from cfbuild.text.class_names import class_noun
from cfbuild.text.languages.english_articles import NEVER

PEOPLES = re.compile(r"\b(?:ethnic group|ethnic minority|peoples?|tribe)\Z", re.I)
"""Nouns of classes whose items have plural names whatever their end: the Ainu are."""

STATE = re.compile(
    r" (?:[Ee]mpire|[Kk]ingdom|[Kk]hanate|[Cc]aliphate|[Dd]ynasty|[Cc]onfederation|[Rr]epublic|[Uu]nion)\Z"
)
"""Last words of names of states, which are singular though their class is a people: the Hephthalite Empire is."""

OF_MANY = re.compile(
    r"\b(?:archipelago|island group|islands|mountains|mountain range|mountain system|group|band|ensemble|duo|trio|"
    r"team|club|siblings|family)\Z",
    re.I,
)
"""Nouns of classes whose items have plural names if these look plural (MANY): the Beatles were, Genesis was."""

MANY = re.compile(r"[^\Wsui]s\Z|\w (?:and|&) \w")
"""Signs of plural names: an end in -s, but not like Genesis, Incubus and Kiss, or "and"."""

LAST = re.compile(
    r" (?:Islands|Isles|Mountains|Alps|Hills|Highlands|Lakes|Falls|Games|Olympics|Championships|Awards|Forces|Wars|"
    r"[Tt]erritories|[Pp]eoples?|[Ll]anguages)\Z"
)
"""Last words of plural names, except those of towns, companies and works."""

AGREEING = re.compile(
    r"(?:\A|, |\b(?:because|how|if|that|what|when|where|which|while) )\{\}"
    r"(?: (?:also|now|once|still|[a-z]+ly))? (?:is|was|has|does|[a-z]+[^\Ws]s)\b"
    r"|\{\} [a-z ]*\bits\b"
)
"""A slot with a singular verb, or to which "its" refers; not that of "The capital of {} is"."""


def is_plural(label: str, classes: Sequence[str]) -> bool:
    """Return True if the name `label` is plural; `classes` are the English names of the item's classes."""
    nouns = list(map(class_noun, classes))
    if "human" in nouns or not label[:1].isupper():
        return False
    if any(map(PEOPLES.search, nouns)):
        return STATE.search(label) is None
    if any(map(OF_MANY.search, nouns)) and MANY.search(label):
        return True
    return LAST.search(label) is not None and not any(map(NEVER.search, nouns))


def is_singular(template: str) -> bool:
    """Return True if a verb of `template` agrees with a singular name in the slot."""
    return AGREEING.search(template) is not None
