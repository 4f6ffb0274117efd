"""The kinds of a subject, which templates name: a law or a currency, a film or a food.

A template of P1001 that fits laws is wrong for currencies. Kinds are told by the classes that an item is an instance
of: by the noun in the name that `FactGraph.class_name` gives a class, in every language. A template file names them
(`[rewrite: law, office]`); add a line for a new kind.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from types import MappingProxyType

from cfbuild.data import SLOT, Template
from cfbuild.text.class_names import class_noun
from cfbuild.text.languages import Language
from cfbuild.text.languages.words import last_word

SUBJECTS: Mapping[str, re.Pattern[str]] = MappingProxyType(
    {
        kind: re.compile(rf"\b(?:{nouns})\Z", re.IGNORECASE)
        for kind, nouns in {
            "person": "human|person|deity|saint|prophet|character|biblical figure|human who may be fictional",
            "people": "ethnic group|people|ethnic minority|tribe",
            "state": (
                "state|country|kingdom|empire|republic|sultanate|caliphate|khanate|dynasty|realm|colony|principality|"
                "duchy"
            ),
            "office": "position|office|title|minister",
            "assembly": "legislature|senate|parliament|house|representatives|council|assembly|landtag",
            "former": "(?:historical|former|ancient) [a-z ]+",
            "law": "law|act|legislation|statute|constitution|constitutional document",
            "currency": "currency|currencies|coin|banknote",
            "flag": "flag",
            "organization": (
                "organi[sz]ation|party|society|association|federation|agency|institute|ministry|government|authority|"
                "governing body|police|army|union|court|executive branch"
            ),
            "company": (
                "business|company|enterprise|manufacturer|airline|bank|publisher|brand|marque|label|developer|studio|"
                "chain|corporation|(?:financial|credit) institution|imprint"
            ),
            "team": "club|team",
            "school": "university|school|college|conservatory|seminary|educational institution",
            "band": (
                "(?:musical|girl|boy|vocal|sibling) group|band|ensemble|orchestra|(?:musical|vocal) (?:duo|trio)|choir"
            ),
            "song": "song|single|composition|musical work|aria|anthem|nursery rhyme",
            "album": "album|extended play",
            "film": "film|movie",
            "series": (
                "(?:television|tv|anime|animated|web) (?:series|program|show)|television drama|sitcom|miniseries|"
                "newscast|game show|talk show|soap opera|telenovela"
            ),
            "book": (
                "written work|literary work|book|novel|play|poem|manga|comics?|text|short story|short story collection|"
                "encyclopedia|dictionary|(?:book|novel|manga) series|bible"
            ),
            "periodical": "magazine|newspaper|journal|periodical",
            "event": (
                "battle|war|festival|tournament|sports season|games|attack|protest|event|massacre|murder|rebellion|"
                "conflict|offensive|operation|parade|(?:festival|tournament) edition|competition|olympiad|revolution|"
                "siege|championship"
            ),
            "treaty": "treaty|agreement",
            "food": "food|dish|drink|meals?|cuisine|beverage|cheese|bread",
        }.items()
    }
)
"""Kinds of subject by the nouns that their classes' names consist of or end in."""

PLURAL = "plural"
"""The kind of a subject whose name is plural, which the language's rules tell; templates name it as they do others."""


@cache
def kinds_of_class(name: str) -> frozenset[str]:
    """Return the kinds that the name of a class tells of its instances."""
    noun = class_noun(name)
    return frozenset(kind for kind, nouns in SUBJECTS.items() if nouns.search(noun))


def misfits(label: str, wording: Language) -> frozenset[str]:
    """Return the kinds of a subject whose name cannot stand behind some words as it is: "after de" for Italie."""
    return frozenset(_after(word) for word in wording.governing if wording.article_clash(word, label) is not None)


def with_number(template: Template, wording: Language) -> Template:
    """Return `template`, marked as not about the subjects that its own words do not fit, by the rules of `wording`.

    They are those with a plural name if a verb of it agrees with a singular one, and those whose name cannot follow the
    word before the slot (`misfits`).
    """
    apart = PLURAL in (*template.fits, *template.misfits) or not wording.is_singular(template.text)
    before = last_word(template.text.partition(SLOT)[0])
    found = (*(() if apart else (PLURAL,)), *((_after(before),) if before in wording.governing else ()))
    return replace(template, misfits=(*template.misfits, *found)) if found else template


def _after(word: str) -> str:
    return f"after {word}"
