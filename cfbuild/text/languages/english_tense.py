"""English prompts about a past year: templates in the present tense, put into the past tense."""

from __future__ import annotations

import re

from cfbuild.data import SLOT
from cfbuild.text.languages.words import table

PAST = table(
    "is: was; are: were; has: had; have: had; belongs: belonged; belong: belonged; governs: governed",
    "govern: governed; holds: held; hold: held; leads: led; lead: led; lies: lay; lie: lay; lives: lived",
    "live: lived; owns: owned; plays: played; play: played; resides: resided; serves: served; serve: served",
    "works: worked; work: worked",
)
"""Verbs of states, present and past; not of what happens once (is born, takes office)."""
COPULA = ("is", "are", "has", "have")
"""Words that are always verbs, unlike "lead" in "the lead singer"."""
VERB = re.compile(
    rf"(?:(?<=\{{\}} )|(?<=\bthat )|(?<=\bwho )|(?<=\bwhich ))(?:{'|'.join(PAST)})\b|\b(?:{'|'.join(COPULA)})\b"
)
"""A verb after a slot or a relative pronoun, or a word of COPULA anywhere."""
PREDICATE = re.compile(r"(?:\{\}|\b(?:that|who|which)) ([a-z]+)")
"""A word at the place of a verb."""
TODAY = re.compile(
    r"\b(?:now|current|currently|present|presently|today|still|already|been|being|born|died|once|became|best|long|many)\b"
)
"""Words about today, or about more than a year; a template with one is not asked about a year."""
ENDED = re.compile(r"\b(?:was|were|had|did|took|got)\b")
"""Verbs in the past tense."""


def past(template: str, year: int) -> str | None:
    """Return a template about a past year, "In 2010, the capital of {} was"; None if the rules do not fit it.

    They fit templates that begin with the slot or "The", tell a state in the present, and hold no word of TODAY.
    """
    is_known = template.startswith((f"{SLOT} ", "The "))
    if not is_known or TODAY.search(template) or ENDED.search(template) or not VERB.search(template):
        return None
    if any(word not in PAST for word in PREDICATE.findall(template)):
        return None
    text = VERB.sub(lambda match: PAST[match[0]], template)
    return f"In {year}, {text if text.startswith(SLOT) else f't{text[1:]}'}"
