"""Rules of Arabic words made from a name: the article, a conjunction or preposition in front, and the nisba behind."""

from __future__ import annotations

import re

WORD = re.compile(r"[^\W\d_]+")
FRONT = re.compile(r"\A(?:[وف]?[بكل]?(?:ال|لل)?)")
"""The prefixes written onto a word: and, then, in, like, for, the."""
MARKS = re.compile("[\u0640\u064b-\u0652]")
"""The lengthening stroke and the marks of short vowels."""
NISBA = re.compile(r"(?:يا?|ية|يون|يين|يات)?\Z")
DROPPED = re.compile(r"(?:يا|ا|ة|ية)\Z")
STEM = 3
"""Fewest letters of a stem: short vowels are not written, so Arabic words are shorter."""


def derived(text: str, name: str) -> str | None:
    """Return a word of `text` that is the single word `name` with something written onto it, or made from it, or None.

    Examples are "والقاهرة" (and Cairo) and "إيطالي" (Italian).
    """
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
    """Return True if `rest` is an ending; a stem that lost letters of the name needs more than none."""
    return NISBA.match(rest) is not None and (whole or bool(rest))
