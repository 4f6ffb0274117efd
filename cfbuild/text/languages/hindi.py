"""Rules of Hindi words made from a name: "भारतीय" and "जापानी" from "भारत" and "जापान"."""

from __future__ import annotations

import re

WORD = re.compile(r"[\u0900-\u0963\u0971-\u097f\u200c\u200d]+")
"""A word of Devanagari; its vowel signs are not in `\\w`."""
ENDINGS = re.compile(r"(?:ीय|ी|ियाई|ियों|ियन|वासी|वासियों|ाई)\Z")
DROPPED = re.compile(r"(?:\u093f?या|ा|ी)\Z")
STEM = 3
"""The fewest letters of a stem; a vowel sign is no letter of its own."""


def derived(text: str, name: str) -> str | None:
    """Return a word of `text` that is made from the single word `name`, or None: जापानी from जापान."""
    if not WORD.fullmatch(name):
        return None
    stems = [one for one in dict.fromkeys((name, DROPPED.sub("", name))) if len(one) >= STEM]
    for word in WORD.findall(text):
        if word != name and any(word.startswith(stem) and ENDINGS.match(word[len(stem) :]) for stem in stems):
            return str(word)
    return None
