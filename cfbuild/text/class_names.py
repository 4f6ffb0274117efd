"""The noun in the English name of a class, by which an item's kind is told.

"Upper house of a legislature" names houses, and a country among the "countries bordering the Baltic Sea" is no sea.
"""

from __future__ import annotations

import re
from functools import lru_cache

REST = re.compile(r" (?:of|in|by|for|from|at|on|to|with|within|bordering|located|that|who|which)\b.*")
"""The words after the noun, which say more about it: "act of Parliament" is an act."""
VAGUE = re.compile(r"(?:type|kind|class|group|form|variety|branch) of ", re.IGNORECASE)
"""Beginnings after which the noun comes: "type of food or dish"."""


@lru_cache(maxsize=10_000)  # a build has hundreds of classes to a few thousand, each of many items
def class_noun(name: str) -> str:
    """Return the words of a class's name up to and with its noun, which is the last of them."""
    return REST.sub("", VAGUE.sub("", name))
