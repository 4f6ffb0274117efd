"""Rules of wording for a language that has no file of its own: those that hold in every language and script.

Nothing here knows articles, endings, letter case or brackets: "grenzt an" ends in no article, "Frankfurt (Oder)" is a
town's own name, and Georgian sentences begin with what Unicode calls a small letter.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

MARKUP = re.compile(r"</?[A-Za-z][^>]*>|&[a-z]+;|\[\[|\]\]|\{|\}|'''|\[[XY]\]")
"""HTML and wiki text, slots of templates, and ParaRel's: no name in any language."""
ALLOWED_CONTROLS = frozenset("\u200c\u200d")
"""Joiners that Persian and Indian scripts need."""
HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode's controls, formats, surrogates, private and unassigned characters, line and paragraph separators."""
BRACKET = re.compile(r"(.*\S)(?:\s+\(|\s*\uff08)([^()\uff08\uff09]+)[)\uff09]\Z")
"""A name with a bracket at its end; Chinese and Japanese brackets are as wide as their letters."""


@lru_cache(maxsize=100_000)
def noise(label: str) -> str | None:
    """Return the control character, markup or stray white space in a name, or None."""
    markup = MARKUP.search(label)
    return control(label) or (markup[0].strip() if markup else stray_space(label))


def noise_with_small_bracket(label: str) -> str | None:
    """Return what `noise` finds, or a bracket at the end of a name that begins with a small letter, or None.

    In languages that write common nouns small it holds the kind of thing by which namesakes are told apart.
    """
    parts = without_bracket(label)
    return noise(label) or (f"({parts[1]})" if parts is not None and parts[1][:1].islower() else None)


def control(label: str) -> str | None:
    """Return the code point of the first character of `label` that prints nothing, such as `U+00AD`, or None."""
    for character in label:
        if unicodedata.category(character) in HIDDEN_CATEGORIES and character not in ALLOWED_CONTROLS:
            return f"U+{ord(character):04X}"
    return None


def stray_space(label: str) -> str | None:
    """Return a description of white space that no name has, or None."""
    return "white space at an end, or twice" if label != " ".join(label.split()) else None


def always(words: str) -> bool:
    """Return True: a bracket with these `words` may be part of a name, as the river is of Frankfurt (Oder)."""
    return True


def without_bracket(name: str) -> tuple[str, str] | None:
    """Return a name without the bracket at its end, and the words in the bracket; None for a name without one."""
    match = BRACKET.match(name) if name.endswith((")", "\uff09")) else None
    return (match[1], match[2].strip()) if match else None


def no_article(name: str) -> None:
    """Return None: the article that `name` needs is not known."""


def no_article_of_name(label: str, aliases: Sequence[str], classes: Sequence[str]) -> str:
    """Return the empty text: the article that belongs to `label` is not known."""
    return ""


def never(*texts: object) -> bool:
    """Return False: what is asked of the texts is not known."""
    return False


def no_clash(prompt: str, name: str) -> None:
    """Return None: the words at the end of `prompt` are not known to be articles."""


def no_template_fault(text: str, slot: str) -> None:
    """Return None: the grammar of `text` is not known."""


def nothing_between(text: str, slot: str) -> str | None:
    """Return a description of a prompt that ends in its subject, which the object would follow, or None."""
    return "nothing between the subject and the object" if text.endswith(slot) else None


def no_derived_word(text: str, name: str) -> None:
    """Return None: the endings that make words from `name` are not known."""


def no_description(template: str) -> None:
    """Return None: the words that would make `template` a description are not known."""


def takes_description(template: str) -> bool:
    """Return True: the words before the slot are not known to need a name."""
    return True


def unchanged(text: str) -> str:
    """Return `text` as it is: how it is written inside a sentence is not known."""
    return text


def no_past(template: str, year: int) -> None:
    """Return None: how `template` would ask about a year that is over is not known."""


def no_sentence_fault(text: str) -> None:
    """Return None: the form of a whole sentence is not known."""
