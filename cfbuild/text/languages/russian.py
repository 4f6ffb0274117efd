"""Rules of Russian wording: after a preposition a name is declined."""

from __future__ import annotations

import re

from cfbuild.text.languages.words import WORD, Formation, last_word, listed, table

PREPOSITIONS = listed(
    "без, близ, в, во, вне, возле, вокруг, для, до, за, из, изо, к, ко, кроме, между, на, над, о, об, около, от",
    "ото, перед, по, под, подле, после, при, про, против, ради, с, со, среди, у, через",
)
DECLINED = re.compile(r".*(?:[бвгджзклмнпрстфхцчшщйьаяы]|[^аеёиоуыэюя]ия)\Z", re.IGNORECASE)
"""Ends of names that are declined: Москва, Париж, Россия, Казань, Афины."""
UNCHANGED = re.compile(r".*(?:[оеэуюи]|уа|оа|иа)\Z", re.IGNORECASE)
"""Ends of names that are not declined, or need not be: Осло, Баку, Сочи, Пушкино."""
NATIVE = frozenset(["Нидерланды", "Филиппины", "Салоники", "Афины", "Соединённые Штаты Америки"])

GOVERNING = PREPOSITIONS

MADE = Formation(
    re.compile(r"(?:ия|ья|я|а|ы|и|о|ь|й)\Z"),
    re.compile(
        r"(?:[иь]?(?:ан|ян|ен|ин|ей|ий|ев|ов))?ь?(?:ск|цк|к)(?:ий|ая|ое|ие|ого|ой|ому|ую|им|их|ом|ими|а|и)?"
        r"|[иь]?(?:ан|ян|ен|ин|ев|ч)(?:ец|ца|цы|цев|ка|ки|ин|е|а|ин[аы])?|[аеиоуыюяь]|ой|ей|ом|ем|ах|ям|ами|ями|ии|ией|ию|ию"
    ),
    table(
        "франция: француз французск; германия: немец немк герман; россия: российск русск россия",
        "англия: англий англич; великобритания: британ; польша: польск поляк; греция: грече грек",
        "турция: турец турк турок; китаи: китай китаец китая; испания: испан; италия: итальян; япония: япон",
        "соединенные штаты америки: американ",
    ),
)


def article_clash(prompt: str, name: str) -> str | None:
    """Return the last word of `prompt` if `name` is declined after it (в + Москва), or None."""
    word = last_word(prompt)
    return word if word in PREPOSITIONS and is_declined(name) else None


def is_declined(name: str) -> bool:
    """Return True if the last word of `name` has certainly another form in other cases."""
    words = WORD.findall(name)
    if not words or words[-1].isupper():
        return False
    if name in NATIVE:
        return True
    return UNCHANGED.match(words[-1]) is None and DECLINED.match(words[-1]) is not None
