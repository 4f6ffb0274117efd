"""Rules of Dutch wording: names with an article and without."""

from __future__ import annotations

import re

from cfbuild.text.languages.words import Formation, last_word, listed, table

PREPOSITIONS = listed(
    "aan, achter, bij, binnen, boven, buiten, door, in, met, na, naar, naast, onder, op, over, per, sinds, tegen",
    "tot, tussen, uit, van, vanuit, voor, zonder, is, en",
)
COMMON = listed(
    "Antillen, Bahama's, Balkan, Bondsrepubliek Duitsland, Centraal-Afrikaanse Republiek, Comoren",
    "Democratische Republiek Congo, Dominicaanse Republiek, Europese Unie, Filipijnen, Krim, Malediven, Provence",
    "Seychellen, Sovjet-Unie, Verenigde Arabische Emiraten, Verenigde Naties, Verenigde Staten",
    "Verenigde Staten van Amerika, Volksrepubliek China, Duitse Democratische Republiek",
)
"""Names with "de"."""
NEUTER = listed(
    "Verenigd Koninkrijk, Koninkrijk der Nederlanden, Koninkrijk Italië, Koninkrijk Pruisen, Duitse Rijk",
    "Heilige Roomse Rijk, Ottomaanse Rijk, Romeinse Rijk, Vaticaan, Russische Rijk",
)
"""Names with "het"."""
BARE = listed(
    "Afghanistan, Albanië, Algerije, Angola, Argentinië, Armenië, Australië, België, Bolivia, Brazilië, Bulgarije",
    "Canada, Chili, China, Colombia, Cuba, Cyprus, Denemarken, Duitsland, Ecuador, Egypte, Engeland, Estland",
    "Ethiopië, Finland, Frankrijk, Georgië, Ghana, Griekenland, Hongarije, Ierland, IJsland, India, Indonesië",
    "Irak, Iran, Israël, Italië, Jamaica, Japan, Jordanië, Kenia, Kroatië, Letland, Libanon, Libië, Litouwen",
    "Luxemburg, Maleisië, Malta, Marokko, Mexico, Mongolië, Namibië, Nederland, Nepal, Nieuw-Zeeland, Nigeria",
    "Noord-Korea, Noorwegen, Oekraïne, Oostenrijk, Pakistan, Paraguay, Peru, Polen, Portugal, Roemenië, Rusland",
    "Schotland, Servië, Singapore, Slovenië, Slowakije, Spanje, Sri Lanka, Suriname, Syrië, Taiwan, Tanzania",
    "Thailand, Tsjechië, Tunesië, Turkije, Uruguay, Venezuela, Vietnam, Wales, Zuid-Afrika, Zuid-Korea, Zweden",
    "Zwitserland, Amsterdam, Londen, Parijs, Rome, Berlijn",
)
"""Countries and cities without an article; that of Den Haag is a part of the name."""
COMMON_WORDS, NEUTER_WORDS = frozenset({"de"}), frozenset({"het"})

GOVERNING = PREPOSITIONS | {"de", "het", "een"}

MADE = Formation(
    re.compile(r"(?:land|rijk|ije|ie|e|en|a)\Z"),
    re.compile(r"(?:i?aan|ees|iaan|land|isch|sch|s|er|erij)?(?:se?|e|en|er|ers|se|sche|ans|ansen|anen|zen|ezen)?"),
    table(
        "belgie: belg; denemarken: deen; duitsland: duits; frankrijk: frans; griekenland: grieks griek",
        "polen: pools pool; rusland: russisch rus; spanje: spaans spanjaard; turkije: turks",
        "verenigd koninkrijk: brit; verenigde staten van amerika: amerikaan",
    ),
)


def article_clash(prompt: str, name: str) -> str | None:
    """Return the last word of `prompt` if `name` cannot follow it (in + Verenigde Staten), or None."""
    word = last_word(prompt)
    if word in PREPOSITIONS:
        return word if name in COMMON | NEUTER else None
    if word in COMMON_WORDS:
        return word if name in BARE | NEUTER else None
    if word in NEUTER_WORDS:
        return word if name in BARE | COMMON else None
    return word if word == "een" and name in BARE | COMMON | NEUTER else None
