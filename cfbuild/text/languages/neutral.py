"""Rules of wording for languages without a file: they hold in every language and script.

They know no articles, endings, letter case or brackets: "grenzt an" does not end in an article, "Frankfurt (Oder)" is
the name of a town, and Georgian sentences begin with what Unicode calls a small letter.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
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


def always(words: str) -> bool:
    """Return True: a bracket with these `words` may be a part of a name, as in Frankfurt (Oder)."""
    return True


def without_bracket(name: str) -> tuple[str, str] | None:
    """Return a name without the bracket at its end, and the words in the bracket; None if there is none."""
    match = BRACKET.match(name) if name.endswith((")", "\uff09")) else None
    return (match[1], match[2].strip()) if match else None


def no_article(name: str) -> None:
    """Return None: the indefinite article of `name` is not known."""


def no_article_of_name(label: str, aliases: Sequence[str], classes: Sequence[str]) -> str:
    """Return no article: that of `label` is not known, whatever its `aliases` and `classes`."""
    return ""


def never(*texts: object) -> bool:
    """Return False: nothing is known of the `texts`."""
    return False


def no_clash(prompt: str, name: str) -> None:
    """Return None: the articles at the end of a `prompt` are not known."""


def no_template_fault(text: str, slot: str) -> None:
    """Return None: the grammar of `text` is not known."""


def nothing_between(text: str, slot: str) -> str | None:
    """Return words for the fault of a prompt that ends in its subject, or None."""
    return "nothing between the subject and the object" if text.endswith(slot) else None


def no_derived_word(text: str, name: str) -> None:
    """Return None: the endings that make words from `name` are not known."""


def no_description(template: str) -> None:
    """Return None: the words of a description are not known."""


def takes_description(template: str) -> bool:
    """Return True: words after which a description is wrong are not known."""
    return True


def unchanged(text: str) -> str:
    """Return `text` unchanged: its form inside a sentence is not known."""
    return text


def no_past(template: str, year: int) -> None:
    """Return None: the form of a `template` about a past `year` is not known."""


def no_sentence_fault(text: str) -> None:
    """Return None: the form of a sentence is not known."""
