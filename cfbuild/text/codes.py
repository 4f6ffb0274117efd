"""Language codes: the languages whose names are used if an item has none, and the scripts of languages.

`fallbacks.txt` has a line for each language, followed by the languages that replace it, the best first; it is from
MediaWiki's API (`meta=languageinfo`, `liprop=fallbacks`), and Wikidata chooses names by it. `codes.txt` has the codes
of ISO 639-1 and Wikidata's longer codes without such a line.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping
from functools import cache
from importlib import resources

from cfbuild.text.languages.words import table

MANY_LANGUAGES = "mul"
"""Wikidata's code for names that are valid in every language."""

SCRIPTS: Mapping[str, str] = table(
    "CYRILLIC: ab av ba be bg ce cv kk kv ky mk mn os ru rue sah sr sr tg tt udm uk kbd lbe lez mhr mrj myv xal",
    "ARABIC: ar arz ary arq azb ckb fa glk ks lrc mzn pnb ps sd ug ur skr bcc bqi khw",
    "DEVANAGARI: anp awa bh bho dty gom hi mai mr ne new sa; HEBREW: he yi lad; GREEK: el grc pnt",
    "CJK: zh ja yue wuu gan lzh nan hak cdo; HIRAGANA: ja; KATAKANA: ja; HANGUL: ko; BENGALI: as bn bpy",
    "ARMENIAN: hy hyw; GEORGIAN: ka xmf; ETHIOPIC: am ti; GUJARATI: gu; GURMUKHI: pa; KANNADA: kn tcy",
    "MALAYALAM: ml; ORIYA: or; SINHALA: si; TAMIL: ta; TELUGU: te; THAI: th; LAO: lo; KHMER: km",
    "MYANMAR: my mnw shn; TIBETAN: bo dz; THAANA: dv; OL CHIKI: sat; MEETEI MAYEK: mni; NKO: nqo; CHEROKEE: chr",
    "GOTHIC: got; SYRIAC: arc; TIFINAGH: zgh; CANADIAN SYLLABICS: ike cr",
)
"""The languages written in each script, by the first words of the Unicode names of its letters."""

SUBTAGS: Mapping[str, str] = table(
    "latn: LATIN; el: LATIN; cyrl: CYRILLIC; ec: CYRILLIC; arab: ARABIC; deva: DEVANAGARI; cans: CANADIAN SYLLABICS",
    "bali: BALINESE",
)
"""The script that the last part of a code names: `sr-el`, `kk-latn`."""
SEVERAL_SCRIPTS = frozenset({"crh", "hif", "iu", "kaa", "ku", "ruq", "sh", "shi"})
"""Languages with several scripts, of which the code alone names none."""


@cache
def chain(code: str) -> tuple[str, ...]:
    """Return the languages whose names may be used in the language `code`, the best first: de-at, de, mul.

    First come the language itself and its other forms, then MANY_LANGUAGES, then the other languages of MediaWiki's
    fallbacks. English, which Wikidata adds at the end, is left out: an English name is no name in another language.
    """
    languages = [code, *_fallbacks().get(code, ())]
    while (last := languages[-1]) not in _fallbacks() and "-" in last:
        languages.append(last.rpartition("-")[0])
    own = [language for language in languages if language.partition("-")[0] == code.partition("-")[0]]
    return tuple(dict.fromkeys((*own, MANY_LANGUAGES, *languages)))


def name_in(names: Mapping[str, str], code: str) -> str | None:
    """Return the first usable of an item's `names` (by language), in the order of `chain(code)`, or None.

    A name is not usable if it is a language's code, or of another language and in a script that `code` does not use.
    """
    for language in chain(code):
        name = names.get(language)
        if name and not is_code(name, language) and (language == code or fits_script(name, code)):
            return name
    return None


def is_code(name: str, tag: str) -> bool:
    """Return True if a name in the language `tag` is only a language's code, such as "en", by mistake.

    Codes of three letters may be words ("war"), so they count only if `tag` is MANY_LANGUAGES or the name itself.
    """
    if not name.islower() or not name.isascii() or name not in _codes():
        return False
    return len(name) == 2 or "-" in name or tag in (MANY_LANGUAGES, name)


def fits_script(text: str, code: str) -> bool:
    """Return True if most letters of `text`, if any, are of a script of `code`, or `code` has several scripts."""
    scripts = _scripts(code)
    counts = Counter(_script(character) for character in text if character.isalpha())
    return not counts or not scripts or max(counts, key=lambda script: counts[script]) in scripts


def _scripts(code: str) -> frozenset[str]:
    """Return the scripts of a language; none if its code does not tell."""
    base, _, rest = code.partition("-")
    named = SUBTAGS.get(rest.rpartition("-")[2])
    if named:
        return frozenset({named})
    if base in SEVERAL_SCRIPTS:
        return frozenset()
    return frozenset(script for script, languages in SCRIPTS.items() if base in languages.split()) or frozenset(
        {"LATIN"}
    )


@cache
def _script(letter: str) -> str:
    """Return the script of a letter, of those named above; else its Unicode name, or itself if it has none."""
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
