"""Properties of scripts: which are written without spaces, where a word ends, which run from right to left.

All of it depends on the characters alone, whatever the language.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

UNSPACED = ("CJK", "HIRAGANA", "THAI", "LAO", "KHMER", "MYANMAR")
"""Scripts without spaces between words, by the first word of their letters' Unicode names.

Katakana is not among them: a name in it ends where other letters begin ("トヨタ自動車").
"""
KATAKANA = "KATAKANA"
WIDE = ("CJK", "HIRAGANA", KATAKANA)
"""Scripts whose full stop is as wide as a letter and is followed by no space."""
FIRST_UNSPACED = "\u0e00"
"""The first character of the Thai block; no character before it is of a script without spaces."""
SENTENCE_END = re.compile(r"[。｡！？!?။។]+(?:[」』”’）)]+(?![\u3040-\u309f])|(?![」』”’）)!?。！？]))\s*")
"""The end of a sentence in a script without spaces, except that of a quotation after which a Japanese sentence goes on.

Thai and Lao have no mark there but a space.
"""
ISOLATE, POP = "\u2068", "\u2069"
"""Unicode's isolates (FIRST STRONG, POP DIRECTIONAL): a text between them does not change the direction around it."""


@lru_cache(maxsize=1 << 14)
def script(letter: str) -> str:
    """Return the script of a letter, the first word of its Unicode name: CJK, THAI, LATIN; empty if it has no name."""
    return unicodedata.name(letter, "").partition(" ")[0].partition("-")[0]


def is_unspaced(text: str) -> bool:
    """Return True if the first letter of `text` is of a script without spaces or of Katakana."""
    letter = next(filter(str.isalpha, text), "")
    return letter >= FIRST_UNSPACED and script(letter) in (*UNSPACED, KATAKANA)


def joined(edge: str, neighbour: str, *, after: bool) -> bool:
    """Return True if the character `neighbour` belongs to the same word as `edge`, the first or last one of a name.

    after: True if `neighbour` comes after `edge`, False if it comes before. A combining mark belongs to the letter
    before it. Two letters next to each other belong to the same word, except in scripts without spaces.
    """
    if not neighbour:
        return False
    if unicodedata.category(neighbour).startswith("M"):
        return after or script(neighbour) not in UNSPACED
    if not neighbour.isalnum():
        return False
    scripts = {script(edge), script(neighbour)}
    return scripts.isdisjoint((*UNSPACED, KATAKANA)) or scripts == {KATAKANA}


def space_before(continuation: str) -> str:
    """Return the text between a prompt and its `continuation`: a space, or nothing in a script without spaces.

    It depends on the first letter of the continuation only, so it is the same after every prompt.
    """
    return "" if is_unspaced(continuation) else " "


def continued(prompt: str, continuation: str) -> str:
    """Return `prompt` followed by its `continuation`, as `space_before` separates them."""
    return f"{prompt}{space_before(continuation)}{continuation}"


def stated(prompt: str, continuation: str) -> str:
    """Return `prompt` followed by its `continuation` as a sentence, with a full stop of its script."""
    text = continued(prompt, continuation)
    stop = "。" if script(text[-1:] or " ") in WIDE else "."
    return f"{text}{stop}"


def isolated(text: str) -> str:
    """Return `text` between isolates if it holds letters from right to left, so that the line stays in order."""
    from_right = not text.isascii() and any(unicodedata.bidirectional(one) in ("R", "AL") for one in text)
    return f"{ISOLATE}{text}{POP}" if from_right else text


def sentences(text: str) -> list[str]:
    """Return the sentences of a text in a script without spaces."""
    ends = [match.end() for match in SENTENCE_END.finditer(text)]
    parts = (text[start:end].strip() for start, end in zip([0, *ends], [*ends, len(text)], strict=True))
    return [part for part in parts if part]
