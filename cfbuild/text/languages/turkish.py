"""Rules of Turkish words made from a name: with case endings, and inhabitants."""

from __future__ import annotations

import re

from cfbuild.text.languages.words import Formation, table

MADE = Formation(
    re.compile(r"(?:ya|a|e)\Z"),
    re.compile(
        r"(?:[dt][ae]n?|[ny]?[ıiuü]n?|[ny]?[ae]|l[ıiuü](?:lar|ler)?|l[ae]r|yan(?:ca|lar)?|c[ae]|ç[ae]|k?[iı])"
        r"(?:[ae]|[ıiuü]n?|d[ae]n?)?"
    ),
    table(
        "almanya: alman; fransa: fransız fransiz; turkiye: turk; ingiltere: ingiliz i̇ngiliz; rusya: rus",
        "yunanistan: yunan; macaristan: macar; birlesik krallik: britanya",
        "amerika birlesik devletleri: amerika",
    ),
)
