"""English prompts about a year that is over: what is said in the present tense, in the past."""

from __future__ import annotations

import re
from types import MappingProxyType

from cfbuild.data import SLOT

PAST = MappingProxyType(
    {
        "is": "was",
        "are": "were",
        "has": "had",
        "have": "had",
        "belongs": "belonged",
        "belong": "belonged",
        "governs": "governed",
        "govern": "governed",
        "holds": "held",
        "hold": "held",
        "leads": "led",
        "lead": "led",
        "lies": "lay",
        "lie": "lay",
        "lives": "lived",
        "live": "lived",
        "owns": "owned",
        "plays": "played",
        "play": "played",
        "resides": "resided",
        "serves": "served",
        "serve": "served",
        "works": "worked",
        "work": "worked",
    }
)
"""Verbs of states, present and past. What happens once (is born, takes office) is no state that a year has."""
COPULA = ("is", "are", "has", "have")
"""Verbs that are no other words: "lead" is one in "the lead singer", "is" always."""
VERB = re.compile(
    rf"(?:(?<=\{{\}} )|(?<=\bthat )|(?<=\bwho )|(?<=\bwhich ))(?:{'|'.join(PAST)})\b|\b(?:{'|'.join(COPULA)})\b"
)
"""A verb where only one can stand, or a copula anywhere."""
PREDICATE = re.compile(r"(?:\{\}|\b(?:that|who|which)) ([a-z]+)")
"""A word where a verb can stand."""
TODAY = re.compile(
    r"\b(?:now|current|currently|present|presently|today|still|already|been|being|born|died|once|became|best|long|many)\b"
)
"""Words about the present, and about more than a year: a template with such a word is not asked about a year."""
ENDED = re.compile(r"\b(?:was|were|had|did|took|got)\b")


def past(template: str, year: int) -> str | None:
    """Return a template as it asks about a year: "In 2010, the capital of {} was"; None where the words do not tell.

    It must begin with its subject or with "The", say a state in the present, and nothing about today.
    """
    known = template.startswith((f"{SLOT} ", "The "))
    if not known or TODAY.search(template) or ENDED.search(template) or not VERB.search(template):
        return None
    if any(word not in PAST for word in PREDICATE.findall(template)):
        return None
    said = VERB.sub(lambda match: PAST[match[0]], template)
    return f"In {year}, {said if said.startswith(SLOT) else f't{said[1:]}'}"
