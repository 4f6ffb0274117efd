"""Rules of Arabic words made from a name: with the article, a conjunction or a preposition, or a nisba ending."""

from __future__ import annotations

import re

WORD = re.compile(r"[^\W\d_]+")
FRONT = re.compile(r"\A(?:[وف]?[بكل]?(?:ال|لل)?)")
"""The words that are written together with the next: and, then, in, like, for, the."""
MARKS = re.compile("[\u0640\u064b-\u0652]")
"""The lengthening stroke and the marks of short vowels."""
NISBA = re.compile(r"(?:يا?|ية|يون|يين|يات)?\Z")
"""The endings of adjectives and inhabitants."""
DROPPED = re.compile(r"(?:يا|ا|ة|ية)\Z")
"""The ends of names that their words lack."""
STEM = 3
"""The fewest letters of a stem; Arabic words are short, because short vowels are not written."""


def derived(text: str, name: str) -> str | None:
    """Return a word of `text` that holds or is made from the word `name`, such as "إيطالي" (Italian), or None."""
    folded = MARKS.sub("", name)
    own = folded.removeprefix("ال")
    stems = tuple(one for one in dict.fromkeys((own, DROPPED.sub("", own))) if len(one) >= STEM and one.isalpha())
    for word in WORD.findall(MARKS.sub("", text)) if stems else ():
        if word == folded:
            continue
        for bare in {word, FRONT.sub("", word)}:
            if any(bare.startswith(stem) and _ends_made(bare[len(stem) :], stem == own) for stem in stems):
                return str(word)
    return None


def _ends_made(rest: str, whole: bool) -> bool:
    """Return True if `rest` is an ending; it may be empty only after the `whole` name, not after a shortened stem."""
    return NISBA.match(rest) is not None and (whole or bool(rest))
