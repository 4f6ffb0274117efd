"""Rules of Spanish wording: "y" and "o" before i and o, contraction, and articles before countries."""

from __future__ import annotations

import re

from cfbuild.text.languages import neutral
from cfbuild.text.languages.words import Formation, last_word, listed, plain, table

SOUNDS_LIKE_I = re.compile(r"i(?![aeou])|hi(?![aeou])")
"""Beginnings before which "y" becomes "e": e Italia, but y hierro."""
SOUNDS_LIKE_O = re.compile(r"h?o")
ARTICLE = re.compile(r"(?:El|La|Los|Las) ")
SINGULAR = frozenset(["el", "la", "del", "al", "un", "una"])
DEFINITE = frozenset(["el", "la", "los", "las", "del", "al", "un", "una", "unos", "unas"])
FEMININE_WORDS = frozenset(["la", "una", "las", "unas"])

WITHOUT = listed(
    "Alemania, Angola, Arabia Saudita, Armenia, Australia, Austria, Bélgica, Bielorrusia, Bolivia",
    "Bosnia y Herzegovina, Bulgaria, Camboya, Chile, Chipre, Colombia, Corea del Norte, Corea del Sur, Costa Rica",
    "Croacia, Cuba, Dinamarca, Egipto, Escocia, Eslovaquia, Eslovenia, España, Estonia, Etiopía, Filipinas",
    "Finlandia, Francia, Georgia, Ghana, Grecia, Guatemala, Honduras, Hungría, Indonesia, Inglaterra, Irlanda",
    "Islandia, Israel, Italia, Jamaica, Jordania, Kenia, Letonia, Libia, Lituania, Luxemburgo, Malasia, Malta",
    "Marruecos, México, Moldavia, Mongolia, Namibia, Nepal, Nicaragua, Nigeria, Noruega, Nueva Zelanda, Pakistán",
    "Panamá, Polonia, Portugal, Puerto Rico, Rumania, Rusia, Serbia, Singapur, Siria, Somalia, Sudáfrica, Suecia",
    "Suiza, Tailandia, Tanzania, Túnez, Turquía, Ucrania, Uganda, Venezuela, Vietnam, Zambia, Zimbabue, Londres",
    "Madrid, París, Roma, Berlín, Moscú, Viena, Barcelona, Tokio",
)
"""Countries and cities without an article."""
MASCULINE = listed(
    "Brasil, Canadá, Congo, Ecuador, Irak, Irán, Japón, Líbano, Paraguay, Perú, Reino Unido, Senegal, Sudán",
    "Uruguay, Vaticano, Yemen",
)
FEMININE = listed("Argentina, China, India, República Checa, República Dominicana, Unión Soviética, Unión Europea")
"""Countries that may have the article: el Japón, la India."""
PLURAL = listed("Estados Unidos, Países Bajos, Emiratos Árabes Unidos, Bahamas, Maldivas")

GOVERNING = DEFINITE | {"y", "o", "e", "u", "de", "a"}

MADE = Formation(
    re.compile(r"(?:ia|a|o|e|os|as)\Z"),
    re.compile(
        r"(?:i?an|in|e?ens|ch?es)[oa]s?|(?:eses?|esas?|es|enses?|ense|euros?|euras?|uecos?|ecas?|icos?|icas?|istas?|ismos?)"
        r"|[oa]s?|i[eo]g[oa]s?"
    ),
    table(
        "alemania: aleman; belgica: belga; dinamarca: danes; escocia: escoces; espana: espanol",
        "estados unidos: estadounidense; francia: frances; grecia: grieg; inglaterra: ingles",
        "irlanda: irlandes; noruega: norueg; paises bajos: neerlandes holandes; polonia: polac",
        "reino unido: britanic; suecia: suec; suiza: suiz; turquia: turc",
    ),
)


def article_clash(prompt: str, name: str) -> str | None:
    """Return the last word of `prompt` if `name` cannot follow it (y + Italia, el + Francia), or None."""
    word, sound = last_word(prompt), plain(name)
    alike = {"y": SOUNDS_LIKE_I, "o": SOUNDS_LIKE_O}.get(word)
    if alike is not None:
        return word if alike.match(sound) else None
    changed = {"e": SOUNDS_LIKE_I, "u": SOUNDS_LIKE_O}.get(word)
    if changed is not None:
        return None if changed.match(sound) else word
    if word in ("de", "a") and name.startswith("el "):
        return word
    return word if word in DEFINITE and _disagrees(word, name) else None


def _disagrees(word: str, name: str) -> bool:
    """Return True if the article `word` cannot come before a name, which has its own, none, or another form of it."""
    if ARTICLE.match(name) or name in WITHOUT:
        return True
    if name in PLURAL:
        return word in SINGULAR
    mismatched = MASCULINE if word in FEMININE_WORDS else FEMININE
    return name in mismatched or (word not in SINGULAR and name in MASCULINE | FEMININE)


def template_fault(text: str, slot: str) -> str | None:
    """Return a part of a prompt that is wrong before an object's name ("de el {}", "a el {}"), or None."""
    contracted = re.search(rf"\b(?:[Dd]e|[Aa]) el {re.escape(slot)}", text)
    return contracted[0] if contracted else neutral.nothing_between(text, slot)
