"""Language codes: those that are no names, those that stand in for a language without a name, and scripts.

`fallbacks.txt` holds a language a line with those that stand in for it, the first preferred: what MediaWiki's API tells
of its languages (`meta=languageinfo`, `liprop=fallbacks`), by which Wikidata shows a name in another language.
`codes.txt` holds ISO 639-1's codes and the longer ones of Wikidata's names that have no such line.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping
from functools import cache
from importlib import resources

MANY_LANGUAGES = "mul"
"""Wikidata's code for names that are valid in every language, used where a language has no name."""

SCRIPTS: Mapping[str, str] = {
    "CYRILLIC": "ab av ba be bg ce cv kk kv ky mk mn os ru rue sah sr sr tg tt udm uk kbd lbe lez mhr mrj myv xal",
    "ARABIC": "ar arz ary arq azb ckb fa glk ks lrc mzn pnb ps sd ug ur skr bcc bqi khw",
    "DEVANAGARI": "anp awa bh bho dty gom hi mai mr ne new sa",
    "HEBREW": "he yi lad",
    "GREEK": "el grc pnt",
    "CJK": "zh ja yue wuu gan lzh nan hak cdo",
    "HIRAGANA": "ja",
    "KATAKANA": "ja",
    "HANGUL": "ko",
    "BENGALI": "as bn bpy",
    "ARMENIAN": "hy hyw",
    "GEORGIAN": "ka xmf",
    "ETHIOPIC": "am ti",
    "GUJARATI": "gu",
    "GURMUKHI": "pa",
    "KANNADA": "kn tcy",
    "MALAYALAM": "ml",
    "ORIYA": "or",
    "SINHALA": "si",
    "TAMIL": "ta",
    "TELUGU": "te",
    "THAI": "th",
    "LAO": "lo",
    "KHMER": "km",
    "MYANMAR": "my mnw shn",
    "TIBETAN": "bo dz",
    "THAANA": "dv",
    "OL CHIKI": "sat",
    "MEETEI MAYEK": "mni",
    "NKO": "nqo",
    "CHEROKEE": "chr",
    "GOTHIC": "got",
    "SYRIAC": "arc",
    "TIFINAGH": "zgh",
    "CANADIAN SYLLABICS": "ike cr",
}
"""The languages that are usually written in a script, by the script's name in Unicode's names of letters."""

SUBTAGS: Mapping[str, str] = {
    "latn": "LATIN",
    "el": "LATIN",
    "cyrl": "CYRILLIC",
    "ec": "CYRILLIC",
    "arab": "ARABIC",
    "deva": "DEVANAGARI",
    "cans": "CANADIAN SYLLABICS",
    "bali": "BALINESE",
}
"""Scripts by the last part of a code that names one: `sr-el`, `kk-latn`."""
UNTOLD = frozenset({"crh", "hif", "iu", "kaa", "ku", "ruq", "sh", "shi"})
"""Languages with several scripts in use, whose code alone does not tell which."""


@cache
def chain(code: str) -> tuple[str, ...]:
    """Return the languages whose names may be taken for the language `code`, the first preferred.

    They are itself and the other forms of the same language, then MANY_LANGUAGES, whose names are meant for it too,
    then the other languages that MediaWiki lets stand in. Wikidata shows English at the very end; an English name is no
    name in another language, so it is not in it.
    """
    found = [code, *_fallbacks().get(code, ())]
    while (last := found[-1]) not in _fallbacks() and "-" in last:
        found.append(last.rpartition("-")[0])
    own = [one for one in found if one.partition("-")[0] == code.partition("-")[0]]
    return tuple(dict.fromkeys((*own, MANY_LANGUAGES, *found)))


def name_in(names: Mapping[str, str], code: str) -> str | None:
    """Return the name in the first language of the chain of `code` that has a usable one, or None.

    names: by language. A name of another language is not usable if it is a language's code, or in a script that `code`
    is not written in.
    """
    for language in chain(code):
        name = names.get(language)
        if name and not is_code(name, language) and (language == code or fits_script(name, code)):
            return name
    return None


def is_code(name: str, tag: str) -> bool:
    """Return True if a name in the language `tag` is only a language's code, such as "en": somebody's mistake.

    Longer codes may be words ("war"), so they count only where the name is valid in every language or is its own tag.
    """
    if not name.islower() or not name.isascii() or name not in _codes():
        return False
    return len(name) == 2 or "-" in name or tag in (MANY_LANGUAGES, name)


def fits_script(text: str, code: str) -> bool:
    """Return True if most letters of `text` are of a script that the language `code` is written in, or there is none.

    True too for a language with several scripts.
    """
    wanted = _scripts(code)
    counts = Counter(_script(character) for character in text if character.isalpha())
    return not counts or not wanted or max(counts, key=lambda script: counts[script]) in wanted


def _scripts(code: str) -> frozenset[str]:
    """Return the scripts of a language; none where its code does not tell."""
    base, _, rest = code.partition("-")
    named = SUBTAGS.get(rest.rpartition("-")[2])
    if named:
        return frozenset({named})
    if base in UNTOLD:
        return frozenset()
    return frozenset(script for script, languages in SCRIPTS.items() if base in languages.split()) or frozenset(
        {"LATIN"}
    )


@cache
def _script(letter: str) -> str:
    """Return the script of a letter, as its Unicode name begins; the letter itself where it has no name."""
    name = unicodedata.name(letter, letter)
    return next((script for script in ("LATIN", *SCRIPTS, *SUBTAGS.values()) if name.startswith(script)), name)


@cache
def _fallbacks() -> Mapping[str, tuple[str, ...]]:
    return {code: tuple(others) for code, *others in map(str.split, _text("fallbacks.txt").splitlines())}


@cache
def _codes() -> frozenset[str]:
    listed = (code for line in _fallbacks().items() for code in (line[0], *line[1]))
    return frozenset({*_text("codes.txt").split(), *listed})


def _text(name: str) -> str:
    return resources.files("cfbuild.text").joinpath(name).read_text(encoding="utf-8")
