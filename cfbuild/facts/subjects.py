"""The kinds of a subject, which template files name (`[rewrite: law, office]`): law, currency, film and others.

A template of P1001 that fits laws is wrong for currencies. The kinds follow from the noun in the English names of the
classes that an item is an instance of (`FactGraph.class_name`). To add a kind, add a line to SUBJECTS.
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
"""Kinds of subject by the nouns that the names of their classes end in."""

PLURAL = "plural"
"""The kind of a subject with a plural name, by the rules of the language; template files name it like the others."""


@cache
def kinds_of_class(name: str) -> frozenset[str]:
    """Return the kinds of the instances of a class with this English name."""
    noun = class_noun(name)
    return frozenset(kind for kind, nouns in SUBJECTS.items() if nouns.search(noun))


def misfits(label: str, wording: Language) -> frozenset[str]:
    """Return the words after which a name cannot stand as it is, as kinds of subject: "after de" for Italie."""
    return frozenset(_after(word) for word in wording.governing if wording.article_clash(word, label) is not None)


def with_number(template: Template, wording: Language) -> Template:
    """Return `template` with more `misfits`: the kinds of subject that do not fit its wording, by the language's rules.

    They are PLURAL if a verb of the template is singular, and the word before the slot if some names cannot follow it.
    """
    found: tuple[str, ...] = ()
    if PLURAL not in (*template.fits, *template.misfits) and wording.is_singular(template.text):
        found = (PLURAL,)
    before = last_word(template.text.partition(SLOT)[0])
    if before in wording.governing:
        found = (*found, _after(before))
    return replace(template, misfits=(*template.misfits, *found)) if found else template


def _after(word: str) -> str:
    return f"after {word}"
