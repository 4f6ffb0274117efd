"""Rules of German wording: names with an article, and the cases after prepositions.

A country without an article can follow a preposition (in Italien), "Schweiz" cannot (in der Schweiz), and "Vereinigte
Staaten" is declined after prepositions and articles. Of names in no table nothing is known.
"""

from __future__ import annotations

import re
from types import MappingProxyType

from cfbuild.text.languages.words import Formation, last_word, listed, table

PREPOSITIONS = listed(
    "ab, an, auf, aus, außer, bei, bis, durch, für, gegen, gegenüber, hinter, in, jenseits, mit, nach, neben",
    "ohne, seit, über, um, unter, von, vor, wegen, zu, zwischen, ist, sind, war, und",
)
"""Words after which a name with an article has it."""
FEMININE = listed(
    "Antarktis, Arktis, Bretagne, Bundesrepublik Deutschland, Elfenbeinküste, Karibik, Krim, Lombardei, Mongolei",
    "NATO, Normandie, Pfalz, Schweiz, Slowakei, Sowjetunion, Steiermark, Toskana, Tschechoslowakei, Türkei",
    "Ukraine, Republik China, Republik Irland, Republik Kongo, Republik Moldau, Volksrepublik China, Vatikanstadt",
    "DDR",
)
MASCULINE = listed("Balkan, Libanon, Südsudan, Tschad, Vatikan, Kongo")
"""Masculine names with an article; for Iran, Irak, Jemen, Niger, Oman, Senegal and Sudan usage differs."""
NEUTER = listed("Baltikum, Elsass, Saarland, Burgenland, Tessin, Wallis")
PLURAL = listed("Bahamas, Komoren, Malediven, Niederlande, Philippinen, Seychellen, USA")
DECLINED = re.compile(
    r"(?:Vereinigte|Vereinte|Demokratische|Deutsche|Europäische|Osmanische|Römische|Russische|Österreichische|"
    r"Dominikanische|Zentralafrikanische|Arabische|Islamische|Heilige|Britische|Spanische|Französische|Polnische)"
    r"[rs]? \w"
)
"""Names that begin with an adjective, which changes after an article or a preposition: die Vereinigten Staaten."""
RULED = re.compile(r"(?:Königreich|Republik|Volksrepublik|Großherzogtum|Herzogtum|Fürstentum|Kaiserreich|Provinz) \w")
"""Names that begin with a noun that has an article."""
BARE = listed(
    "Afghanistan, Ägypten, Albanien, Algerien, Angola, Argentinien, Armenien, Aserbaidschan, Äthiopien",
    "Australien, Bangladesch, Belarus, Belgien, Bolivien, Bosnien und Herzegowina, Brasilien, Bulgarien, Chile",
    "China, Costa Rica, Dänemark, Deutschland, Ecuador, England, Estland, Finnland, Frankreich, Georgien, Ghana",
    "Griechenland, Großbritannien, Guatemala, Honduras, Indien, Indonesien, Irland, Island, Israel, Italien",
    "Jamaika, Japan, Jordanien, Kambodscha, Kamerun, Kanada, Kasachstan, Katar, Kenia, Kolumbien, Kroatien, Kuba",
    "Kuwait, Laos, Lettland, Libyen, Liechtenstein, Litauen, Luxemburg, Malaysia, Mali, Malta, Marokko, Mexiko",
    "Monaco, Montenegro, Mosambik, Myanmar, Namibia, Nepal, Neuseeland, Nicaragua, Nigeria, Nordkorea",
    "Nordmazedonien, Norwegen, Österreich, Pakistan, Panama, Paraguay, Peru, Polen, Portugal, Ruanda, Rumänien",
    "Russland, Sambia, Saudi-Arabien, Schottland, Schweden, Serbien, Simbabwe, Singapur, Slowenien, Somalia",
    "Spanien, Sri Lanka, Südafrika, Südkorea, Syrien, Taiwan, Tansania, Thailand, Tschechien, Tunesien",
    "Turkmenistan, Uganda, Ungarn, Uruguay, Usbekistan, Venezuela, Vietnam, Wales, Zypern",
)
"""Countries without an article."""
FITS = MappingProxyType(
    {
        "der": FEMININE | MASCULINE | PLURAL,
        "die": FEMININE | PLURAL,
        "das": NEUTER,
        "den": MASCULINE | PLURAL,
        "zur": FEMININE,
        **dict.fromkeys(("dem", "im", "am", "vom", "zum", "beim"), MASCULINE | NEUTER),
        **dict.fromkeys(("ins", "ans"), NEUTER),
    }
)
"""The names with an article that may follow each form of the article."""
KNOWN = FEMININE | MASCULINE | NEUTER | PLURAL

GOVERNING = frozenset(PREPOSITIONS | FITS.keys())

MADE = Formation(
    re.compile(r"(?:land|reich|ien|en|e|a|n)\Z"),
    re.compile(r"(?:(?:ian|an|ien|i)?isch(?:e[rsnm]?)?|(?:ian|an|ien|land)?er(?:s|n|in|innen)?|e[nsr]?|s)"),
    table(
        "danemark: danisch dane; deutschland: deutsch; england: englisch englander; frankreich: franzos",
        "niederlande: niederland holland; osterreich: osterreich; polen: polnisch pole",
        "schottland: schottisch schotte; spanien: spanisch spanier; turkei: turkisch turke",
        "ungarn: ungarisch ungar; vereinigte staaten: amerikan us-amerikan",
        "vereinigtes konigreich: britisch brite",
    ),
)


def article_clash(prompt: str, name: str) -> str | None:
    """Return the last word of `prompt` if `name` cannot follow it (in + Schweiz, im + Italien), or None."""
    word = last_word(prompt)
    declined = DECLINED.match(name) is not None
    if word in PREPOSITIONS:
        return word if declined or name in KNOWN or RULED.match(name) else None
    if word in FITS:
        wrong = declined or name in BARE or name in KNOWN - FITS[word]
        return word if wrong else None
    return None
