"""The definite article of English names inside a sentence: the Netherlands, the Eiffel Tower, but Eiffel Street.

An alias with the article decides ("the Bronx"), then the table NAMES, then a noun in the name, and the classes of the
item. People, titles of works, settlements and companies have no article except by an alias or NAMES.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from cfbuild.text.class_names import class_noun

THE = "the"

TAKEN = re.compile(r"(?:the|an?|las?|les?|el|los|il|der|die|das|l['’]\w*|al-\w*|my|our|your|his|her|this|that)\b", re.I)
"""Beginnings before which there is no article."""

NAMES = re.compile(
    r"(?:Alhambra|Alps|Americas|Andes|Antilles|Apennines|Arctic|Ardennes|Azores|Bahamas|Balkans|Bible|Bronx|"
    r"Bundesrat|Bundestag|Caribbean|Carpathians|Caucasus|Colosseum|Comoros|Cotswolds|Danube|Dardanelles|"
    r"Dolomites|Euphrates|Far East|Gambia|Ganges|Great Barrier Reef|Great Wall of China|Golden Gate Bridge|"
    r"Hebrides|Himalayas|Holy Land|Holy See|Internet|Knesset|Kremlin|Levant|Louvre|Low Countries|Maghreb|"
    r"Maldives|Mekong|Middle East|Near East|Netherlands|Nile|Parthenon|Pentagon|Philippines|Pyrenees|Quran|"
    r"Rhine|Rhône|Riksdag|Sahara|Sahel|Seine|Seychelles|Storting|Sudetenland|Taj Mahal|Talmud|Thames|Tigris|"
    r"Torah|Urals|Vatican|Vistula|Volga|White House|Yangtze|"
    r".* (?:Symphony|Philharmonic|Chamber) Orchestra|.* Philharmonic|(?:flag|coat of arms|battle|siege) (?:of|for) .*)"
)
"""Names with the article."""

BARE = frozenset(("Argentine", "Bank of America", "Lebanon", "Sudan", "Ukraine", "Yemen"))
"""Names without the article that had it once, or look as if they had it."""

LAST = re.compile(
    r" (?:Republic|Emirates|Federation|Confederation|Commonwealth|Caliphate|Islands|Isles|Mountains|Alps|Archipelago|"
    r"Peninsula|Plateau|Basin|River|Canal|Strait|Tower|Building|Museum|Expressway|Turnpike|Organi[sz]ation|Association|"
    r"Commission|Committee|Council|Senate|Assembly|Parliament|Orchestra|Philharmonic|Institute|Foundation|Agency|Bureau|"
    r"Archdiocese|Diocese|Constitution|Treaty|Olympics|Championships?|Forces|Territories|Festival|Monument|Memorial|Railway|[Dd]ynasty|"
    r"people|(?:Orthodox|Catholic|Anglican|Lutheran|Reformed|Methodist|Presbyterian|Baptist|Episcopal|Apostolic) "
    r"Church)\Z"
)
"""Nouns at the end of a name that has the article."""

LAST_OF_KNOWN = re.compile(
    r" (?:Empire|Union|Kingdom|Ocean|Sea|Desert|Hotel|Party|Army|Navy|Society|League|Court|Act|Awards?|Prize|Games|Cup|"
    r"Conference|Congress|Convention|Agreement|Accords|Massacre|Rebellion|Uprising|[Ww]ar|[Rr]evolution|[Ff]amily)\Z"
)
"""Nouns at the end of a name that has the article if its classes are known; titles of works end in these, too."""

FIRST = re.compile(
    r"(?:[A-Z][a-z]+[ -]){0,2}(?:Republic|Kingdom|Empire|Duchy|Principality|Commonwealth|Confederation|Union|Isle|"
    r"Islands|Gulf|Bay|Strait|Sea|Province|State|District|City|Diocese|Archdiocese|University|Bank|Ministry|Department|"
    r"Parliament|Constitution|Government|President|Minister|Governor|Battle|Siege|Treaty|Museum|Church|Statue|Temple|"
    r"Palace|Tower|Order|Association|League|Federation|Academy|Institute|Court|Legislature|Assembly|Senate|Council|"
    r"Landtag|Society|Premier|Secretary|Justice|General|Flag) of |"
    r"House of (?:Commons|Lords|Representatives|Councillors)\b|United (?:States|Kingdom|Nations|Arab Emirates)\b"
)
"""Nouns at the beginning of a name that has the article: the Kingdom of Sweden, the University of Oslo."""

NEVER = re.compile(
    r"\b(?:human|character|film|album|single|song|book|novel|work|series|program|game|play|opera|painting|magazine|"
    r"newspaper|musical group|band|ensemble|station|channel|business|company|enterprise|developer|publisher|studio|"
    r"website|manufacturer|airline|label|brand|city|town|village|commune|comune|municipality|settlement|hamlet|suburb)\Z|\bfictional\b",
    re.I,
)
"""Nouns of classes whose items have no article except by an alias or NAMES."""

ALWAYS = re.compile(
    r"\b(?:river|ethnic group|mountain range|ocean|sea|desert|canal|strait|dynasty|position|public office|"
    r"elect(?:ed|ive) office|legislature|parliament|(?:lower|upper|legislative) house|supreme court)\Z",
    re.I,
)
"""Nouns of classes whose items have the article."""

PLURAL = re.compile(r"\b(?:archipelago|island group|islands|mountains|team)\Z", re.I)
"""Nouns of classes whose items have the article if their name ends in -s."""

RUNS_ALONE = re.compile(r"(?:Lake|Mount|Rio|Río|Riu) |.* (?:Creek|Brook|Run|Burn|Bay|Lake)\Z|.*\d")
"""Names of waters and ranges without the article."""


def article_of_name(label: str, aliases: Sequence[str], classes: Sequence[str]) -> str:
    """Return "the" if the name `label` has the article inside a sentence, or an empty text.

    aliases: the item's other names. classes: the English names of the classes that it is an instance of.
    """
    if not label or TAKEN.match(label) or label in BARE or "human" in classes:
        return ""
    with_article = f"{THE} {label}".casefold()
    nouns = list(map(class_noun, classes))
    barred = any(map(NEVER.search, nouns))
    # A singular name, such as Pink Floyd, has no article though an alias has it.
    in_alias = (label.endswith("s") or not barred) and any(alias.casefold() == with_article for alias in aliases)
    if NAMES.fullmatch(label) or in_alias:
        return THE
    if barred or not label[0].isupper():
        return ""
    has_noun = FIRST.match(label) or LAST.search(label) or (classes and LAST_OF_KNOWN.search(label))
    return THE if has_noun or _by_class(label, nouns) else ""


def _by_class(label: str, nouns: Sequence[str]) -> bool:
    """Return True if a name has the article because of its classes, whose nouns are `nouns`."""
    if RUNS_ALONE.match(label):
        return False
    return any(ALWAYS.search(noun) or (label.endswith("s") and PLURAL.search(noun)) for noun in nouns)
