"""Names of items in texts, as whole words, and item ids in place of names."""

from __future__ import annotations

import re
from collections.abc import Iterable

from cfbuild.text import scripts
from cfbuild.text.languages import Language

SHORT_NAME = 3
"""The most characters of a name whose letter case must agree: country and language codes have up to three."""

ID_WORD = re.compile(r"(?<![\w.-])Q[1-9][0-9]{0,18}(?!\w|[.-]\w)")
"""An item id as a word, which the beginning of Q104.3 is not."""
SHORT_ID = 4
"""The most characters of an id that may be a part of a name: Audi Q7, Infiniti Q50, Q2 Stadium, Dash 8 Q400."""
FUNCTION_WORDS = frozenset(
    (  # noqa: SIM905 - a sentence is read, a list of fifty is not
        "a about after an and are as at before behind by during for from in inside into is it near of off on or "
        "outside over since that the this through to toward towards under until was were what where which who with "
        "within without"
    ).split()
)
"""English words before a name that are no part of it."""


def find_id(text: str) -> str | None:
    """Return the first item id in `text` that is a word in place of a name, or None.

    A short id next to a word with a capital or a number is a part of a name ("Audi Q7").
    """
    if "Q" not in text:
        return None
    for match in ID_WORD.finditer(text):
        before, after = text[: match.start()].split(" ")[-2:], text[match.end() :].split(" ")[:2]
        if len(match[0]) > SHORT_ID or not (_is_part(before, -2) or _is_part(after, 1)):
            return match[0]
    return None


def _is_part(words: list[str], place: int) -> bool:
    """Return True if the word before (`place` -2) or after (1) an id may be a part of the same name.

    words: the last two words before the id or the first two after it, of which the one next to the id is empty.
    """
    word = words[place] if len(words) == 2 else ""
    is_next = not words[0 if place == 1 else -1]
    is_name = word[:1].isalnum() and not word[0].islower() and word.lower() not in FUNCTION_WORDS
    return is_next and is_name


def find_name(text: str, names: Iterable[str]) -> str | None:
    """Return the first of `names` that `text` holds as whole words, or None; letter case is ignored.

    Names of up to three characters must agree in letter case too; those in small letters are ignored, because codes
    ("de" for German) would be found in half of all texts. Whole words have no letter or digit next to them; in scripts
    without spaces a name of two characters or more is found anywhere (`scripts.joined`).
    """
    folded = text.casefold()
    # The most frequent question of all, and most names are not even a part of the text.
    for name in names:
        if name.casefold() in folded and _place(text, folded, name) is not None:
            return name
    return None


def name_place(text: str, names: Iterable[str]) -> tuple[int, int] | None:
    """Return the place of the first name in `text` and minus its length, or None if `find_name` finds none of `names`.

    Both are in characters of the casefolded text. Of two names at one place, the longer has the lower value.
    """
    folded = text.casefold()
    found = ((_place(text, folded, name), -len(name.casefold())) for name in names)
    return min(((place, length) for place, length in found if place is not None), default=None)


def _place(text: str, folded: str, name: str) -> int | None:
    """Return the place of a name as whole words in `folded`, the casefolded text, or None."""
    if name.casefold() not in folded:
        return None
    short = len(name) <= SHORT_NAME
    if not name.strip() or (short and name.isascii() and name.islower()):
        return None
    place = _word_place(text, name) if short else _word_place(folded, name.casefold())
    if place is None or not short:
        return place
    return len(text[:place].casefold())


def gives_away(text: str, label: str, names: Iterable[str], wording: Language) -> str | None:
    """Return the part of `text` that reveals the item with this `label` and these `names`, or None.

    It is a name (`find_name`), the label itself however short ("art" in "art school"), or a word that is made from the
    label by the rules of `wording`.
    """
    found = find_name(text, names)
    if found:
        return found
    if label and _word_place(text.casefold(), label.casefold()) is not None:
        return label
    return wording.derived(text, label)


def _word_place(text: str, word: str) -> int | None:
    """Return the place of `word` as a whole word in `text`, or None."""
    start = text.find(word)
    while start >= 0:
        end = start + len(word)
        if not (_joined(word, text[start - 1 : start], after=False) or _joined(word, text[end : end + 1], after=True)):
            return start
        start = text.find(word, start + 1)
    return None


def _joined(word: str, neighbour: str, *, after: bool) -> bool:
    """Return True if `neighbour`, the character before or `after` a word in a text, belongs to the same word."""
    # A single character of a script without spaces is a part of many words.
    if len(word) == 1 or (neighbour.isascii() and word.isascii()):
        return neighbour.isalnum()
    return scripts.joined(word[-1 if after else 0], neighbour, after=after)
