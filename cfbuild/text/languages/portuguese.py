"""Rules of Portuguese wording: countries with an article, and prepositions that are joined to it."""

from __future__ import annotations

import re

from cfbuild.text.languages import neutral
from cfbuild.text.languages.words import Formation, last_word, listed, table

MASCULINE = listed(
    "Afeganistão, Azerbaijão, Bangladesh, Brasil, Butão, Camboja, Canadá, Catar, Cazaquistão, Chade, Chile, Congo",
    "Egito, Egipto, Equador, Gabão, Gana, Haiti, Iêmen, Iémen, Irã, Irão, Iraque, Japão, Kosovo, Kuwait, Laos",
    "Lesoto, Líbano, Luxemburgo, Malawi, Mali, México, Montenegro, Nepal, Níger, Panamá, Paquistão, Paraguai",
    "Peru, Quênia, Quénia, Reino Unido, Ruanda, Senegal, Sri Lanka, Sudão, Suriname, Tajiquistão, Togo",
    "Turcomenistão, Uruguai, Uzbequistão, Vaticano, Vietname, Vietnã, Zimbábue, Cairo, Havre, Porto, Recife",
    "Rio de Janeiro",
)
FEMININE = listed(
    "África do Sul, Albânia, Alemanha, Arábia Saudita, Argélia, Argentina, Armênia, Arménia, Austrália, Áustria",
    "Bélgica, Bielorrússia, Bolívia, Bósnia e Herzegovina, Bulgária, China, Colômbia, Coreia do Norte",
    "Coreia do Sul, Costa do Marfim, Croácia, Dinamarca, Escócia, Eslováquia, Eslovênia, Eslovénia, Espanha",
    "Estônia, Estónia, Etiópia, Finlândia, França, Geórgia, Grécia, Guiné, Hungria, Índia, Indonésia, Inglaterra",
    "Irlanda, Islândia, Itália, Jamaica, Jordânia, Letônia, Letónia, Líbia, Lituânia, Malásia, Mauritânia",
    "Moldávia, Mongólia, Namíbia, Nicarágua, Nigéria, Noruega, Nova Zelândia, Polônia, Polónia",
    "República Dominicana, República Tcheca, Romênia, Roménia, Rússia, Sérvia, Síria, Somália, Suécia, Suíça",
    "Tailândia, Tanzânia, Tunísia, Turquia, Ucrânia, União Soviética, Venezuela, Zâmbia",
)
PLURAL = listed(
    "Bahamas, Comores, Emirados Árabes Unidos, Estados Unidos, Filipinas, Maldivas, Países Baixos, Seicheles",
)
FEMININE_PLURAL = listed("Bahamas, Filipinas, Maldivas, Seicheles")
WITHOUT = listed(
    "Andorra, Angola, Belize, Botsuana, Cabo Verde, Chipre, Costa Rica, Cuba, El Salvador, Guatemala, Honduras",
    "Israel, Liechtenstein, Macau, Madagáscar, Malta, Marrocos, Moçambique, Mônaco, Mónaco, Portugal, Porto Rico",
    "San Marino, São Tomé e Príncipe, Singapura, Timor-Leste, Uganda, Lisboa, Londres, Paris, Roma, Madrid, Madri",
    "Berlim, Moscou, Moscovo, Viena, Tóquio, São Paulo, Brasília",
)
"""Countries and cities without an article."""
JOINED = frozenset(["de", "em", "por", "a"])
"""Prepositions that are joined to the article: do Brasil, no Japão; before a feminine country usage differs."""
THE, THE_FEMININE, THE_PLURAL, THE_FEMININE_PLURAL = (
    frozenset(forms.split())
    for forms in ("o do no ao pelo", "a da na à pela", "os dos nos aos pelos", "as das nas às pelas")
)
"""The forms of the article, by themselves and joined to prepositions."""

GOVERNING = JOINED | THE | THE_FEMININE | THE_PLURAL | THE_FEMININE_PLURAL

MADE = Formation(
    re.compile(r"(?:ia|a|o|e|l)\Z"),
    re.compile(
        r"(?:i?an|in|i?ens)[oae]s?|(?:es|esa|eses|esas|enses?|ico|ica|icos|icas|istas?|ismos?)|[oa]s?|eir[oa]s?"
    ),
    table(
        "alemanha: alema alemo german; dinamarca: dinamarques; escocia: escoces; espanha: espanhol espanhoi",
        "estados unidos: american norte-american estadunidense; franca: frances; grecia: greg",
        "inglaterra: ingles; paises baixos: holandes neerlandes; polonia: polones polac",
        "reino unido: britanic; suecia: suec; suica: suic; turquia: turc",
    ),
)


def article_clash(prompt: str, name: str) -> str | None:
    """Return the last word of `prompt` if `name` cannot follow it (em + Brasil, no + Portugal), or None."""
    word = last_word(prompt)
    if word in JOINED - {"a"} and name in MASCULINE | PLURAL:
        return word
    if word in THE:
        return word if name in FEMININE | PLURAL | WITHOUT else None
    if word in THE_FEMININE:
        # "a" may also be the preposition.
        return word if name in MASCULINE | PLURAL or (word != "a" and name in WITHOUT) else None
    if word in THE_PLURAL:
        return word if name in MASCULINE | FEMININE | WITHOUT | FEMININE_PLURAL else None
    if word in THE_FEMININE_PLURAL:
        return word if name in MASCULINE | FEMININE | WITHOUT | (PLURAL - FEMININE_PLURAL) else None
    return None


def template_fault(text: str, slot: str) -> str | None:
    """Return a part of a prompt that is wrong before an object's name ("de o {}", "em a {}"), or None."""
    apart = re.search(rf"\b(?:[Dd]e|[Ee]m|[Pp]or) [oa]s? {re.escape(slot)}", text)
    return apart[0] if apart else neutral.nothing_between(text, slot)
