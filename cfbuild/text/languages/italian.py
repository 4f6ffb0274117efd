"""Rules of Italian wording: the forms of articles by the next sound, and countries with an article."""

from __future__ import annotations

import re

from cfbuild.text.languages import neutral
from cfbuild.text.languages.words import Formation, last_word, listed, plain, table

VOWEL = re.compile(r"[aeou]|i(?![aeou])")
"""Beginnings with a vowel; for i before another vowel (Iolanda, iodio) usage differs."""
HARD = re.compile(r"s[bcdfghlmnpqrtv]|z|gn|ps|pn|x")
"""Beginnings that need lo, gli and uno: lo Zambia, gli Stati Uniti."""
PLAIN = re.compile(r"[bcdfglmnpqrtv](?<!g(?=n))|s[aeiou]")
"""Beginnings that need il, i and un."""
PREPOSITIONS = ("", "de", "a", "ne", "da", "su")
"""The prepositions that are joined to an article, as they begin then: del, nello, dalla; empty for none."""


def _forms(*articles: str) -> frozenset[str]:
    """Return articles by themselves and joined to prepositions: il, del, al, ..."""
    joined = {"il": "l", "lo": "llo", "la": "lla", "i": "i", "gli": "gli", "le": "lle"}
    return frozenset(f"{before}{joined[word]}" if before else word for before in PREPOSITIONS for word in articles)


BEFORE_PLAIN = _forms("il", "i")
BEFORE_HARD = _forms("lo", "gli")
ELIDED = _forms("lo", "la") | {"una"}
"""Forms that lose their vowel before another vowel: l'Italia, dell'Austria."""
MASCULINE_FORMS = _forms("il", "lo") | {"un", "uno"}
FEMININE_FORMS = _forms("la") | {"una"}
PLURAL_FORMS = _forms("i", "gli", "le")
OWN_ARTICLE = re.compile(r"(?:Il|Lo|La|I|Gli|Le) |L['’]")

MASCULINE = listed(
    "Afghanistan, Bangladesh, Belgio, Bhutan, Botswana, Brasile, Burkina Faso, Burundi, Canada, Ciad, Cile, Congo",
    "Ecuador, Egitto, Gabon, Galles, Ghana, Giappone, Guatemala, Honduras, Iran, Iraq, Kazakistan, Kenya, Kosovo",
    "Kuwait, Laos, Lesotho, Libano, Liechtenstein, Lussemburgo, Malawi, Mali, Marocco, Messico, Montenegro",
    "Mozambico, Myanmar, Nepal, Nicaragua, Niger, Pakistan, Paraguay, Perù, Portogallo, Qatar, Regno Unito",
    "Ruanda, Senegal, Sudan, Suriname, Togo, Turkmenistan, Uruguay, Uzbekistan, Venezuela, Vietnam, Yemen, Zimbabwe",
)
FEMININE = listed(
    "Albania, Algeria, Arabia Saudita, Argentina, Armenia, Australia, Austria, Bielorussia, Birmania, Bolivia",
    "Bulgaria, Cambogia, Cina, Colombia, Corea del Nord, Corea del Sud, Costa d'Avorio, Croazia, Danimarca",
    "Estonia, Etiopia, Finlandia, Francia, Georgia, Germania, Giamaica, Giordania, Grecia, Guinea, India",
    "Indonesia, Inghilterra, Irlanda, Islanda, Italia, Lettonia, Libia, Lituania, Macedonia del Nord, Malaysia",
    "Mauritania, Moldavia, Mongolia, Namibia, Nigeria, Norvegia, Nuova Zelanda, Polonia, Repubblica Ceca",
    "Repubblica Dominicana, Romania, Russia, Scozia, Serbia, Siria, Slovacchia, Slovenia, Somalia, Spagna, Svezia",
    "Svizzera, Tanzania, Thailandia, Tunisia, Turchia, Ucraina, Ungheria, Unione Sovietica, Zambia",
)
PLURAL = listed(
    "Bahamas, Comore, Emirati Arabi Uniti, Filippine, Maldive, Paesi Bassi, Seychelles, Stati Uniti d'America",
    "Stati Uniti",
)
JOINED = frozenset(["di", "a", "da", "su"])
"""Prepositions that are joined to the article of a masculine country: del Giappone."""
WITH_ARTICLE = frozenset(["in", "di", "a", "da", "su", "con", "per", "tra", "fra"])
"""Prepositions after which a plural country has its article: con i Paesi Bassi."""

GOVERNING = MASCULINE_FORMS | FEMININE_FORMS | PLURAL_FORMS | WITH_ARTICLE

MADE = Formation(
    re.compile(r"(?:ia|a|o|e|i)\Z"),
    re.compile(r"(?:i?an|in|ens|es)[oaie]|(?:ic|ist|ism)(?:[oaie]|hi|he)|[oaie]"),
    table(
        "danimarca: danes; francia: frances; germania: tedesc german; grecia: grec; inghilterra: ingles",
        "irlanda: irlandes; norvegia: norveges; paesi bassi: olandes neerlandes; polonia: polacc",
        "portogallo: portoghes; regno unito: britannic; scozia: scozzes; spagna: spagnol",
        "stati uniti d'america: american statunitens; svezia: svedes; svizzera: svizzer; turchia: turc",
        "ungheria: ungheres",
    ),
)


def article_clash(prompt: str, name: str) -> str | None:
    """Return the last word of `prompt` if `name` cannot follow it (lo + Francia), or None."""
    word = last_word(prompt)
    if word in MASCULINE_FORMS | FEMININE_FORMS | PLURAL_FORMS:
        return word if OWN_ARTICLE.match(name) or _sounds_wrong(word, plain(name)) or _disagrees(word, name) else None
    if word in WITH_ARTICLE and name in PLURAL:
        return word
    if (word in JOINED and name in MASCULINE) or (word == "in" and name == "Regno Unito"):
        return word
    return word if word in JOINED and name.startswith(("Il ", "I ", "Gli ")) else None


def _sounds_wrong(word: str, sound: str) -> bool:
    """Return True if a name with this beginning needs another form of the article than `word`."""
    if VOWEL.match(sound):
        return word in ELIDED | BEFORE_PLAIN
    if HARD.match(sound):
        return word in BEFORE_PLAIN | {"un"}
    return word in BEFORE_HARD | {"uno"} and PLAIN.match(sound) is not None


def _disagrees(word: str, name: str) -> bool:
    """Return True if the article `word` has not the gender or number of a country."""
    forms = ((MASCULINE, MASCULINE_FORMS), (FEMININE, FEMININE_FORMS), (PLURAL, PLURAL_FORMS))
    return any(name in names and word not in fitting for names, fitting in forms)


def template_fault(text: str, slot: str) -> str | None:
    """Return a part of a prompt that is wrong before a space and an object's name ("l'"), or None."""
    if text.endswith(("'", "’")):
        return text.rsplit(" ", 1)[-1]
    return neutral.nothing_between(text, slot)
