"""Distractor prefixes: unrelated sentences that a paraphrase prompt is put behind, as CounterFact's paraphrases are.

CounterFact's own were sampled from a model and are often broken ("... Riley. "). These are written for cfbuild: whole
sentences of 5 to 15 words that name nobody and nothing that could be a subject or an object.
"""

from __future__ import annotations

from functools import cache
from importlib import resources


@cache
def distractor_prefixes() -> tuple[str, ...]:
    """The bundled English sentences, in the file's order."""
    text = resources.files("cfbuild.templates").joinpath("prefixes.txt").read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if line)
