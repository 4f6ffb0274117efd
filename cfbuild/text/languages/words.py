"""Functions for the rules of several languages: the last word, letters without accents, words made from a name."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

WORD = re.compile(r"[^\W\d_]+")
"""A word: letters only."""
LAST = re.compile(r"(?:\A|(?<=[\s(]))[^\W\d_]+\Z")
"""A whole word at the end of a prompt, not the part after an apostrophe or a hyphen."""
ACCENTS = (202, 230)
"""Unicode's combining classes of marks below and above a letter; vowel signs of Indian scripts have others."""
STEM = 4
"""The fewest letters of a stem: words with a shorter beginning in common are too often not related."""


def last_word(prompt: str) -> str:
    """Return the last word of `prompt` in small letters; an empty text if `prompt` does not end in a word."""
    match = LAST.search(prompt.rstrip())
    return match[0].lower() if match else ""


def plain(text: str) -> str:
    """Return `text` in small letters without accents: "equateur" of "Équateur"; the Cyrillic short i stays."""
    return "".join(map(_base, text.casefold()))


@lru_cache(maxsize=1 << 12)
def _base(letter: str) -> str:
    """Return a letter without accents; empty for an accent by itself."""
    if letter == "й":
        return letter
    return "".join(one for one in unicodedata.normalize("NFD", letter) if unicodedata.combining(one) not in ACCENTS)


def listed(*lines: str) -> frozenset[str]:
    """Return the names in `lines`, which have a comma and a space between names."""
    return frozenset(name.strip() for line in lines for name in line.split(", ") if name.strip())


def table(*lines: str) -> dict[str, str]:
    """Return the values in `lines` by name: "is: was; are: were" has two."""
    return dict(entry.split(": ") for line in lines for entry in line.split("; "))


@dataclass(frozen=True)
class Formation:
    """The rules by which a language makes words from a name: `Italiener` and `italienisch` from `Italien`.

    dropped: the ends of names that their words lack. endings: the ends of the words. irregular: the beginnings of the
    words of irregular names, separated by spaces, by name. All are compared as `plain` returns them.
    """

    dropped: re.Pattern[str]
    endings: re.Pattern[str]
    irregular: Mapping[str, str]

    @cached_property
    def _beginnings(self) -> dict[str, tuple[str, ...]]:
        return {plain(name): tuple(map(plain, stems.split())) for name, stems in self.irregular.items()}

    def found(self, text: str, name: str) -> str | None:
        """Return the first word of `text` that is made from `name`, or None."""
        folded = plain(name)
        beginnings = self._beginnings.get(folded, ())
        stems = [stem for stem in {folded, self.dropped.sub("", folded)} if len(stem) >= STEM and folded.isalpha()]
        for word in WORD.findall(text) if stems or beginnings else ():
            made = plain(word)
            if made != folded and (
                made.startswith(beginnings)
                or any(made.startswith(stem) and self.endings.fullmatch(made[len(stem) :]) for stem in stems)
            ):
                return str(word)
        return None
