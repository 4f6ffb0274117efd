"""Rules of wording for languages without a file: they hold in every language and script.

They know no articles, endings, letter case or brackets: "grenzt an" does not end in an article, "Frankfurt (Oder)" is
the name of a town, and Georgian sentences begin with what Unicode calls a small letter.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

MARKUP = re.compile(r"</?[A-Za-z][^>]*>|&[a-z]+;|\[\[|\]\]|\{|\}|'''|\[[XY]\]")
"""HTML, wiki text, slots of templates, and those of ParaRel."""
ALLOWED_CONTROLS = frozenset("\u200c\u200d")
"""Joiners that Persian and Indian scripts need."""
HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode's controls, formats, surrogates, private and unassigned characters, line and paragraph separators."""
BRACKET = re.compile(r"(.*\S)(?:\s+\(|\s*\uff08)([^()\uff08\uff09]+)[)\uff09]\Z")
"""A name with a bracket at its end, also one of Chinese and Japanese, which is as wide as a letter."""


@lru_cache(maxsize=100_000)
def noise(label: str) -> str | None:
    """Return a control character, markup or superfluous white space in a name, or None."""
    markup = MARKUP.search(label)
    return control(label) or (markup[0].strip() if markup else stray_space(label))


def noise_with_small_bracket(label: str) -> str | None:
    """Return what `noise` finds, or a bracket with a small first letter at the end of a name, or None.

    In languages that write common nouns small, such a bracket distinguishes items of the same name by their kind.
    """
    parts = without_bracket(label)
    return noise(label) or (f"({parts[1]})" if parts is not None and parts[1][:1].islower() else None)


def control(label: str) -> str | None:
    """Return the code point of the first character of `label` that is not printed, such as `U+00AD`, or None."""
    for character in label:
        if unicodedata.category(character) in HIDDEN_CATEGORIES and character not in ALLOWED_CONTROLS:
            return f"U+{ord(character):04X}"
    return None


def stray_space(label: str) -> str | None:
    """Return words for superfluous white space in `label`, or None."""
    return "white space at an end, or twice" if label != " ".join(label.split()) else None


def without_bracket(name: str) -> tuple[str, str] | None:
    """Return a name without the bracket at its end, and the words in the bracket; None if there is none."""
    match = BRACKET.match(name) if name.endswith((")", "\uff09")) else None
    return (match[1], match[2].strip()) if match else None


def nothing(*texts: object) -> None:
    """Return None: of the `texts` nothing is known."""


def empty(*texts: object) -> str:
    """Return an empty text: of the `texts` nothing is known."""
    return ""


def never(*texts: object) -> bool:
    """Return False: of the `texts` nothing is known."""
    return False


def always(*texts: object) -> bool:
    """Return True: no rule forbids it of the `texts`; a bracket may be a part of a name, as in Frankfurt (Oder)."""
    return True


def unchanged(text: str) -> str:
    """Return `text` unchanged: its form inside a sentence is not known."""
    return text


def nothing_between(text: str, slot: str) -> str | None:
    """Return words for the fault of a prompt that ends in its subject, or None."""
    return "nothing between the subject and the object" if text.endswith(slot) else None
