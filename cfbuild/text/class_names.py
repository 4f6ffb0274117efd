"""The noun in the English name of a class, which says what kind of thing its items are.

An item of the class "upper house of a legislature" is a house, one of the "countries bordering the Baltic Sea" no sea.
"""

from __future__ import annotations

import re
from functools import lru_cache

REST = re.compile(r" (?:of|in|by|for|from|at|on|to|with|within|bordering|located|that|who|which)\b.*")
"""The words after the noun: "of Parliament" in "act of Parliament"."""
VAGUE = re.compile(r"(?:type|kind|class|group|form|variety|branch) of ", re.IGNORECASE)
"""Words before the noun that are no kind themselves: "type of food"."""


@lru_cache(maxsize=10_000)  # more than the classes of a build, which have many items each
def class_noun(name: str) -> str:
    """Return the class's name up to its noun: "upper house" of "upper house of a legislature"."""
    return REST.sub("", VAGUE.sub("", name))
