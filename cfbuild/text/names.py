"""Find an entity's name, or an item id that stands for one, in a text, as whole words."""

from __future__ import annotations

import re
from collections.abc import Iterable

from cfbuild.text import scripts
from cfbuild.text.languages import Language

SHORT_NAME = 3
"""Names up to this many characters are matched with their letter case: the longest country and language codes."""

ID_WORD = re.compile(r"(?<![\w.-])Q[1-9][0-9]{0,18}(?!\w|[.-]\w)")
"""An item id as a word; not the beginning of Q104.3."""
SHORT_ID = 4
"""Most characters of an id that may also belong to a name: Audi Q7, Infiniti Q50, Q2 Stadium, Dash 8 Q400."""
FUNCTION_WORDS = frozenset(
    (  # noqa: SIM905 - a sentence is read, a list of fifty is not
        "a about after an and are as at before behind by during for from in inside into is it near of off on or "
        "outside over since that the this through to toward towards under until was were what where which who with "
        "within without"
    ).split()
)
"""English words that belong to no name where they stand alone before it."""


def find_id(text: str) -> str | None:
    """Return the first item id that stands in `text` as a word where a name should stand, or None.

    A short id belongs to a name where a word with a capital or a number stands beside it ("Audi Q7").
    """
    if "Q" not in text:
        return None
    for match in ID_WORD.finditer(text):
        before, after = text[: match.start()].split(" ")[-2:], text[match.end() :].split(" ")[:2]
        if len(match[0]) > SHORT_ID or not (_is_part(before, -2) or _is_part(after, 1)):
            return match[0]
    return None


def _is_part(words: list[str], place: int) -> bool:
    """Return True if the word next to an id, across one space, may belong to the same name."""
    word = words[place] if len(words) == 2 else ""
    beside = not words[0 if place == 1 else -1]
    is_name = word[:1].isalnum() and not word[0].islower() and word.lower() not in FUNCTION_WORDS
    return beside and is_name


def find_name(text: str, names: Iterable[str]) -> str | None:
    """Return the first of `names` that `text` holds as whole words, or None; letter case is ignored.

    Names of up to three letters must agree in case too, and are ignored where they are all lower case: those are codes
    ("de" for German), which would be found in half of all texts. A whole word has no letter or digit beside it; in
    scripts without spaces, where nothing tells, a name of two characters or more is found anywhere (`scripts.joined`).
    """
    folded = text.casefold()
    # Nothing is asked as often: most names are not even in the text.
    for name in names:
        if name.casefold() in folded and _place(text, folded, name) is not None:
            return name
    return None


def name_place(text: str, names: Iterable[str]) -> tuple[int, int] | None:
    """Return where the first of `names` to occur stands in `text`, as `find_name` finds it, or None.

    That is its first character in the casefolded text, and minus its length: of two names that begin at one place, the
    longer one has the lower value.
    """
    folded = text.casefold()
    found = ((_place(text, folded, name), -len(name.casefold())) for name in names)
    return min(((place, length) for place, length in found if place is not None), default=None)


def _place(text: str, folded: str, name: str) -> int | None:
    """Return the place in `folded`, the casefolded text, where a name first stands as a whole word, or None."""
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
    """Return the part of `text` that gives away the item with this `label`, which is one of its `names`, or None.

    That is a name (`find_name`), the label itself however short ("art school" and art), or a word that is made from it
    by the rules of `wording`.
    """
    found = find_name(text, names)
    if found:
        return found
    if label and _word_place(text.casefold(), label.casefold()) is not None:
        return label
    return wording.derived(text, label)


def _word_place(text: str, word: str) -> int | None:
    start = text.find(word)
    while start >= 0:
        end = start + len(word)
        if not (_joined(word, text[start - 1 : start], after=False) or _joined(word, text[end : end + 1], after=True)):
            return start
        start = text.find(word, start + 1)
    return None


def _joined(word: str, neighbour: str, *, after: bool) -> bool:
    """Return True if the character before or `after` a word in a text belongs to the same word."""
    # A single character of a script without spaces is a part of half of all words.
    if len(word) == 1 or (neighbour.isascii() and word.isascii()):
        return neighbour.isalnum()
    return scripts.joined(word[-1 if after else 0], neighbour, after=after)
