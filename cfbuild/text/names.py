"""Find an entity's name in a text, as whole words."""

from __future__ import annotations

from collections.abc import Iterable

from cfbuild.text.languages import Language

SHORT_NAME = 3
"""Names up to this many characters are matched with their letter case: the longest country and language codes."""


def find_name(text: str, names: Iterable[str]) -> str | None:
    """Return the first of `names` that `text` holds as whole words, or None; letter case is ignored.

    Names of up to three letters must agree in case too, and are ignored where they are all lower case: those are codes
    ("de" for German), which would be found in half of all texts. A whole word has no letter or digit beside it, so in
    scripts without spaces only a name by itself is found.
    """
    folded = text.casefold()
    for name in names:
        if name.casefold() not in folded:
            continue
        short = len(name) <= SHORT_NAME
        if not name.strip() or (short and name.isascii() and name.islower()):
            continue
        if _holds_word(text, name) if short else _holds_word(folded, name.casefold()):
            return name
    return None


def gives_away(text: str, label: str, names: Iterable[str], wording: Language) -> str | None:
    """Return the part of `text` that gives away the item with this `label`, which is one of its `names`, or None.

    That is a name (`find_name`), the label itself however short ("art school" and art), or a word that is made from it
    by the rules of `wording`.
    """
    whole = label if label and _holds_word(text.casefold(), label.casefold()) else None
    return find_name(text, names) or whole or wording.derived(text, label)


def _holds_word(text: str, word: str) -> bool:
    start = text.find(word)
    while start >= 0:
        end = start + len(word)
        if not text[start - 1 : start].isalnum() and not text[end : end + 1].isalnum():
            return True
        start = text.find(word, start + 1)
    return False
