"""Scripts and what they bring: which are written without spaces, where a word ends, and which run from right to left.

Everything here is told from the characters themselves, so it holds for a name in any language.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

UNSPACED = ("CJK", "HIRAGANA", "THAI", "LAO", "KHMER", "MYANMAR")
"""Scripts whose sentences are written without spaces between words, by the beginning of their letters' Unicode names.

Katakana is not among them: a foreign name is a run of it, which other letters end ("トヨタ自動車").
"""
KATAKANA = "KATAKANA"
WIDE = ("CJK", "HIRAGANA", KATAKANA)
"""Scripts with a full stop as wide as a letter, behind which no space comes."""
FIRST_UNSPACED = "\u0e00"
"""No character before the Thai block is of a script without spaces."""
SENTENCE_END = re.compile(r"[。｡！？!?။។]+(?:[」』”’）)]+(?![\u3040-\u309f])|(?![」』”’）)!?。！？]))\s*")
"""The end of a sentence in a script without spaces, but not that of a quotation after which Japanese goes on.

Thai and Lao have no mark for it, they leave a space there.
"""

ISOLATE, POP = "\u2068", "\u2069"
"""FIRST STRONG ISOLATE and POP DIRECTIONAL ISOLATE: a text between them keeps its direction and changes no other's."""


@lru_cache(maxsize=1 << 14)
def script(letter: str) -> str:
    """Return the script of a letter, as the first word of its Unicode name: CJK, THAI, LATIN; empty without a name."""
    return unicodedata.name(letter, "").partition(" ")[0].partition("-")[0]


def is_unspaced(text: str) -> bool:
    """Return True if the first letter of `text` is of a script that is written without spaces, Katakana among them."""
    letter = next(filter(str.isalpha, text), "")
    return letter >= FIRST_UNSPACED and script(letter) in (*UNSPACED, KATAKANA)


def joined(edge: str, neighbour: str, *, after: bool) -> bool:
    """Return True if the character `neighbour` belongs to the same word as `edge`, the end of a name beside it.

    after: True if `neighbour` follows `edge`, False if it comes before. A combining mark belongs to the letter before
    it. A letter beside another is of the same word, but in a script without spaces nothing tells; in Japanese a change
    of script ends a word.
    """
    if not neighbour:
        return False
    if unicodedata.category(neighbour).startswith("M"):
        return after or script(neighbour) not in UNSPACED
    if not neighbour.isalnum():
        return False
    scripts = {script(edge), script(neighbour)}
    if scripts.isdisjoint((*UNSPACED, KATAKANA)):
        return True
    return scripts == {KATAKANA}


def space_before(continuation: str) -> str:
    """Return what stands between a prompt and the words that continue it: a space; nothing in scripts without spaces.

    The continuation's own first letter decides, so every prompt has the same one, whatever it ends in.
    """
    return "" if is_unspaced(continuation) else " "


def continued(prompt: str, continuation: str) -> str:
    """Return a prompt and the words that continue it, with what stands between them."""
    return f"{prompt}{space_before(continuation)}{continuation}"


def stated(prompt: str, continuation: str) -> str:
    """Return a prompt and the words that continue it as a sentence, which ends in a full stop of its script."""
    text = continued(prompt, continuation)
    stop = "。" if script(text[-1:] or " ") in WIDE else "."
    return f"{text}{stop}"


def holds_right_to_left(text: str) -> bool:
    """Return True if any character of `text` runs from right to left, and so may move what stands beside it."""
    return not text.isascii() and any(unicodedata.bidirectional(one) in ("R", "AL") for one in text)


def isolated(text: str) -> str:
    """Return `text` between isolates if a character of it runs from right to left; else `text` itself.

    In a line of a terminal its words then stand in their own order, and figures beside it stay in their places.
    """
    return f"{ISOLATE}{text}{POP}" if holds_right_to_left(text) else text


def sentences(text: str) -> list[str]:
    """Return the sentences of a text in a script without spaces, cut behind their ends and the quotes that follow."""
    ends = [match.end() for match in SENTENCE_END.finditer(text)]
    parts = (text[start:end].strip() for start, end in zip([0, *ends], [*ends, len(text)], strict=True))
    return [part for part in parts if part]
