"""Rules of French wording: elision, contraction, and the articles of countries.

If letters and tables do not decide (a mute h, a town), no fault is found.
"""

from __future__ import annotations

import re
from types import MappingProxyType

from cfbuild.text.languages import neutral
from cfbuild.text.languages.words import Formation, last_word, listed, plain, table

ELIDED = listed(
    "de, le, la, que, jusque, lorsque, puisque, quoique, ce, je, me, te, se, ne, du, au, ma, ta, sa",
)
"""Words that change before a vowel: d'Italie, l'Inde, de l'Iran, cet Italien, son amie."""
BEFORE_ARTICLE = frozenset(["de", "à", "le", "la", "les", "du", "des", "au", "aux", "un", "une"])
"""Words after which the article of a name changes: du Havre, au Mans."""
ARTICLE = re.compile(r"(?:Le|Les|La) |L['’]")
CONTRACTED = re.compile(r"Les? ")
VOWEL = re.compile(r"[aeiœæ]|o(?!u|nz)|u(?!hl|lul)")
"""Beginnings with a vowel, except `ou` (Ouagadougou, ouistiti) and `onze`; h and y may be either."""
BARE_WORDS = frozenset(["dans", "par", "pour", "avec", "contre", "vers", "sur", "est", "sont"])
"""Words after which a country with an article has it."""

MASCULINE = listed(
    "Bangladesh, Belize, Bénin, Bhoutan, Botswana, Brésil, Burkina Faso, Burundi, Cambodge, Cameroun, Canada",
    "Chili, Congo, Costa Rica, Danemark, Gabon, Ghana, Groenland, Guatemala, Guyana, Honduras, Japon, Kazakhstan",
    "Kenya, Kirghizistan, Kosovo, Koweït, Laos, Lesotho, Liban, Liberia, Liechtenstein, Luxembourg, Malawi, Mali",
    "Maroc, Mexique, Monténégro, Mozambique, Népal, Nicaragua, Niger, Nigeria, Pakistan, Panama, Paraguay, Pérou",
    "Portugal, Qatar, Royaume-Uni, Rwanda, Salvador, Sénégal, Soudan, Soudan du Sud, Suriname, Tadjikistan, Tchad",
    "Togo, Turkménistan, Vanuatu, Vatican, Venezuela, Viêt Nam, Vietnam, Yémen, Zimbabwe",
)
"""Masculine countries that begin with a consonant: au Japon, du Japon."""
VOCALIC = listed("Afghanistan, Angola, Azerbaïdjan, Équateur, Irak, Iran, Ouganda, Ouzbékistan, Uruguay")
"""Masculine countries that begin with a vowel: en Iran, de l'Iran."""
FEMININE = listed(
    "Afrique, Afrique du Sud, Albanie, Algérie, Allemagne, Angleterre, Arabie saoudite, Argentine, Arménie, Asie",
    "Australie, Autriche, Belgique, Biélorussie, Birmanie, Bolivie, Bosnie-Herzégovine, Bulgarie, Chine, Colombie",
    "Corée du Nord, Corée du Sud, Côte d'Ivoire, Croatie, Écosse, Égypte, Espagne, Estonie, Éthiopie, Europe",
    "Finlande, France, Gambie, Géorgie, Grèce, Guinée, Hongrie, Inde, Indonésie, Irlande, Islande, Italie",
    "Jamaïque, Jordanie, Lettonie, Libye, Lituanie, Malaisie, Mauritanie, Moldavie, Mongolie, Namibie, Norvège",
    "Nouvelle-Zélande, Océanie, Pologne, République dominicaine, République tchèque, Roumanie, Russie, Serbie",
    "Slovaquie, Slovénie, Somalie, Suède, Suisse, Syrie, Tanzanie, Tchéquie, Thaïlande, Tunisie, Turquie, Ukraine",
    "Zambie",
)
PLURAL = listed(
    "Bahamas, Comores, Émirats arabes unis, États-Unis, Îles Salomon, Maldives, Pays-Bas, Philippines, Seychelles",
)
WRONG_AFTER = MappingProxyType(
    {
        "en": MASCULINE | PLURAL,
        "le": FEMININE | PLURAL,
        "au": FEMININE | PLURAL,
        "du": FEMININE | PLURAL,
        "la": MASCULINE | PLURAL,
        "les": MASCULINE | FEMININE | VOCALIC,
        "aux": MASCULINE | FEMININE | VOCALIC,
        "des": MASCULINE | FEMININE | VOCALIC,
        "à": MASCULINE | FEMININE | VOCALIC | PLURAL,
        "de": MASCULINE | PLURAL,
        **dict.fromkeys(BARE_WORDS, MASCULINE | FEMININE | VOCALIC | PLURAL),
    }
)
"""The countries that cannot follow each word without a change."""

GOVERNING = frozenset(ELIDED | BEFORE_ARTICLE | WRONG_AFTER.keys())

MADE = Formation(
    re.compile(r"(?:ie|e|a|s|is)\Z"),
    re.compile(r"(?:i?en|ais|ois|ain|an|in)(?:n?es?|s)?|(?:iques?|istes?|ismes?|ites?)"),
    table(
        "allemagne: allemand; angleterre: anglais; danemark: danois; ecosse: ecossais; espagne: espagnol",
        "etats-unis: americain etats-unien etatsunien; grece: grec; irlande: irlandais",
        "pays-bas: neerlandais hollandais; pologne: polonais; royaume-uni: britanni; russie: russe",
        "turquie: turc turque",
    ),
)


def article_clash(prompt: str, name: str) -> str | None:
    """Return the last word of `prompt` if `name` cannot follow it (de + Italie, en + Japon), or None."""
    word = last_word(prompt)
    if not word:
        return None
    elided = word in ELIDED and VOWEL.match(plain(name)) is not None and not name.isupper()
    contracted = word in ("de", "à") and CONTRACTED.match(name) is not None
    doubled = word in BEFORE_ARTICLE - {"de", "à"} and ARTICLE.match(name) is not None
    return word if elided or contracted or doubled or name in WRONG_AFTER.get(word, ()) else None


def template_fault(text: str, slot: str) -> str | None:
    """Return a part of a prompt that is wrong before a space and an object's name ("l'", "de le {}"), or None."""
    if text.endswith(("'", "’")):
        return text.rsplit(" ", 1)[-1]
    contracted = re.search(rf"\b(?:[Dd]e|[Àà]) les? {re.escape(slot)}", text)
    return contracted[0] if contracted else neutral.nothing_between(text, slot)
