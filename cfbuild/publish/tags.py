"""Wikimedia's language codes as a dataset card has them: ISO 639 codes, and BCP 47 tags where these say more."""

from __future__ import annotations

import re
from collections.abc import Iterable

OWN = {
    "als": "gsw",
    "bat-smg": "sgs",
    "be-x-old": "be-tarask",
    "bh": "bho",
    "cbk-zam": "cbk",
    "eml": "egl",
    "fiu-vro": "vro",
    "map-bms": "jv-x-bms",
    "mo": "ro-cyrl-md",
    "nrm": "nrf",
    "roa-rup": "rup",
    "roa-tara": "nap-x-tara",
    "simple": "en-simple",
    "sr-ec": "sr-cyrl",
    "sr-el": "sr-latn",
    "zh-classical": "lzh",
    "zh-min-nan": "nan",
    "zh-yue": "yue",
}
"""BCP 47 tags of the codes that Wikimedia made up, or uses for another language than ISO 639."""
ISO_639 = re.compile(r"[a-z]{2,3}")
SEVERAL = {"mul": "multilingual"}
"""Wikidata's code for names of every language, and the Hub's."""
UNDETERMINED = "und"
"""ISO 639's code for a language that it has no code for."""


def iso_codes(codes: Iterable[str]) -> list[str]:
    """Return the ISO 639 codes of Wikimedia's language codes, sorted and each once."""
    first = (_tag(code).partition("-")[0] for code in codes)
    return sorted({SEVERAL.get(code, code) if ISO_639.fullmatch(code) else UNDETERMINED for code in first})


def bcp47_tags(codes: Iterable[str]) -> list[str]:
    """Return the BCP 47 tags of those language codes that say more than a language, sorted: pt-BR, zh-Hans."""
    tags = {_tag(code) for code in codes}
    return sorted(_cased(tag) for tag in tags if not ISO_639.fullmatch(tag))


def _tag(code: str) -> str:
    return OWN.get(code.lower(), code.lower())


def _cased(tag: str) -> str:
    """Return a tag in the usual case: `zh-Hans`, `pt-BR`."""
    first, *rest = tag.split("-")
    private = rest.index("x") if "x" in rest else len(rest)
    known = (part.title() if len(part) == 4 else part.upper() if len(part) == 2 else part for part in rest[:private])
    return "-".join([first, *known, *rest[private:]])
