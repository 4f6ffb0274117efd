"""ParaRel's patterns as templates: those whose object comes last; the others are refused with a reason."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from cfbuild.data import SLOT, Template
from cfbuild.errors import TemplateError
from cfbuild.text.scripts import is_unspaced

SUBJECT = "[X]"
OBJECT = "[Y]"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A pattern that gives no template, and the reason."""

    relation: str
    pattern: str
    reason: str


ENDS = ("", ".", "。", "です", "です。", "である", "である。")
"""Endings that may follow the object, since a prompt says as much without them: a full stop, the Japanese copula."""
ENOUGH = 3
"""Templates that a record needs: for the rewrite and two paraphrases."""


def templates(
    relation: str, patterns: Iterable[str], unchecked: Iterable[str] = ()
) -> tuple[tuple[Template, ...], tuple[Refusal, ...]]:
    """Return the rewrite templates that `patterns` give, in their order, and a refusal for each that gives none.

    A template ends where the object begins, so a pattern is used only if nothing but ENDS follows `[Y]`. Runs of
    spaces count as one. unchecked: patterns that nobody has read, of which as many are used as make ENOUGH.
    """
    kept: dict[str, Template] = {}
    refused = []
    for pattern, is_checked in (*((one, True) for one in patterns), *((one, False) for one in unchecked)):
        try:
            if not is_checked and len(kept) >= ENOUGH:
                raise TemplateError("is not checked by a human, and there are enough that are")
            template = _template(relation, pattern)
            if template.text in kept:
                raise TemplateError("repeats an earlier pattern")
            kept[template.text] = template
        except TemplateError as error:
            refused.append(Refusal(relation, pattern, str(error)))
    return tuple(kept.values()), tuple(refused)


def _template(relation: str, pattern: str) -> Template:
    if pattern.count(SUBJECT) != 1:
        raise TemplateError(f"does not name the subject {SUBJECT} once")
    if pattern.count(OBJECT) != 1:
        raise TemplateError(f"does not name the object {OBJECT} once")
    before, after = pattern.split(OBJECT)
    if after.strip() not in ENDS:
        raise TemplateError("the object does not come last")
    if set("{}") & set(pattern):
        raise TemplateError("holds a brace")
    # Its last letter tells if the script has spaces.
    if not before.endswith(" ") and not is_unspaced(before[::-1]):
        raise TemplateError("no space comes before the object")
    text = re.sub(" +", " ", before).strip().replace(SUBJECT, SLOT)
    return Template(relation, "rewrite", text, "pararel")
