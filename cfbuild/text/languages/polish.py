"""Rules of Polish wording: after a preposition a name is declined."""

from __future__ import annotations

import re

from cfbuild.text.languages.words import WORD, Formation, last_word, listed, table

PREPOSITIONS = listed(
    "bez, dla, do, ku, nad, na, o, od, po, pod, poza, przed, przez, przeciw, przy, u, w, we, wewnątrz, wokół",
    "wśród, z, za, ze, koło, obok, około, oprócz, podczas, między, naprzeciw, według",
)
UNCHANGED = re.compile(r".*(?:[oóéuy]|[^aeiouyąęió]i|ee|oe)\Z", re.IGNORECASE)
"""Ends of foreign names that are not declined: Oslo, Tokio, Baku."""
NATIVE = re.compile(r".*(?:owo|ewo|zno|sko|cko|ło)\Z|.*(?:chy|ce|cy|ki|ny|ty|ry|dy|ły|ży)\Z", re.IGNORECASE)
"""Ends that Polish names may have, which are declined: Gniezno, Włochy, Niemcy."""
INDECLINABLE = listed(
    "Oslo, Tokio, Kioto, Toronto, Monako, Kongo, Togo, Peru, Baku, Chile, Chicago, Bordeaux, Sydney, Los, Angeles",
    "Santiago",
) | {"Los Angeles", "San Francisco", "San Marino", "Rio de Janeiro", "Buenos Aires", "Palermo", "Torino", "Monte Carlo"}

GOVERNING = PREPOSITIONS

MADE = Formation(
    re.compile(r"(?:ia|ja|y|a|o|e|i)\Z"),
    re.compile(
        r"(?:i|y|j)?(?:an|ań|on|oń|en)?(?:sk|ck|zk)(?:i|a|ie|iego|iej|im|ą|ich|o)|(?:j|i)?(?:an|ań|czyk|k)(?:in|ka|a|em|ie|ki)?"
        r"|[aeiouyąę]|i?em|i?ach|om|ami|owi|ie|iej|ów|u|ią|ii|ji"
    ),
    table(
        "niemcy: niemiec niemc; wlochy: wlosk włosk wloch włoch; włochy: włosk włoch; wegry: wegier wegr",
        "stany zjednoczone: amerykan; wielka brytania: brytyj; francja: francus; rosja: rosyj",
        "grecja: grec grek; turcja: ture turk; czechy: czesk czech",
    ),
)


def article_clash(prompt: str, name: str) -> str | None:
    """Return the last word of `prompt` if `name` is declined after it (w + Warszawa), or None."""
    word = last_word(prompt)
    return word if word in PREPOSITIONS and is_declined(name) else None


def is_declined(name: str) -> bool:
    """Return True if the last word of `name` has certainly another form in other cases."""
    words = WORD.findall(name)
    if not words or name in INDECLINABLE or words[-1] in INDECLINABLE or words[-1].isupper():
        return False
    return NATIVE.match(words[-1]) is not None or UNCHANGED.match(words[-1]) is None
