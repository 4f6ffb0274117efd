"""Helpers of the languages' rules: the last word of a prompt, letters without marks, and words made from a name."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

WORD = re.compile(r"[^\W\d_]+")
LAST = re.compile(r"(?:\A|(?<=[\s(]))[^\W\d_]+\Z")
"""A whole word at the end of a prompt: not the part of one behind an apostrophe or a hyphen."""
ACCENTS = (202, 230)
"""Unicode's classes of marks below and above; the vowel signs of Indian scripts are in others."""
STEM = 4
"""Fewest letters of a stem for a word that begins with it to be made from it, as in English."""


def last_word(prompt: str) -> str:
    """Return the word that `prompt` ends in, in small letters; empty if it ends in another mark, such as a colon."""
    match = LAST.search(prompt.rstrip())
    return match[0].lower() if match else ""


def plain(text: str) -> str:
    """Return `text` without letter case and without accents: Équateur as equateur; the Cyrillic short i stays."""
    return "".join(map(_base, text.casefold()))


@lru_cache(maxsize=1 << 12)
def _base(letter: str) -> str:
    """Return a letter without accents; empty for an accent by itself."""
    if letter == "й":
        return letter
    return "".join(one for one in unicodedata.normalize("NFD", letter) if unicodedata.combining(one) not in ACCENTS)


def listed(*lines: str) -> frozenset[str]:
    """Return the names in lines of names with a comma and a space between them."""
    return frozenset(name.strip() for line in lines for name in line.split(", ") if name.strip())


@dataclass(frozen=True)
class Formation:
    """The way in which a language makes words from a name: `Italien` gives `Italiener` and `italienisch`.

    dropped: the ends of a name that its words lack. endings: what is put in their place. others: stems of the words of
    names that go their own way, by the name; both are compared as `plain` gives them.
    """

    dropped: re.Pattern[str]
    endings: re.Pattern[str]
    others: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        others = {plain(name): tuple(map(plain, stems)) for name, stems in self.others.items()}
        object.__setattr__(self, "others", others)

    def found(self, text: str, name: str) -> str | None:
        """Return the first word of `text` that is made from `name`, or None."""
        folded = plain(name)
        own = self.others.get(folded, ())
        stems = tuple(self._stems(folded))
        for word in WORD.findall(text) if stems or own else ():
            made = plain(word)
            if made == folded:
                continue
            own_way = bool(own) and made.startswith(own)
            if own_way or any(made.startswith(one) and self.endings.fullmatch(made[len(one) :]) for one in stems):
                return str(word)
        return None

    def _stems(self, folded: str) -> Iterable[str]:
        if not folded.isalpha():
            return
        for stem in dict.fromkeys((folded, self.dropped.sub("", folded))):
            if len(stem) >= STEM:
                yield stem
