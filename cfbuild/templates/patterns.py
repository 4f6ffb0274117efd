"""Templates from ParaRel's patterns: those whose object comes last; the others are refused with a reason."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from cfbuild.data import SLOT, Template
from cfbuild.errors import TemplateError
from cfbuild.text.scripts import is_unspaced

SUBJECT, OBJECT = "[X]", "[Y]"
"""The slots of ParaRel's patterns."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A pattern that gives no template, and the reason."""

    relation: str
    pattern: str
    reason: str


ENDS = ("", ".", "。", "です", "です。", "である", "である。")
"""Endings that may follow the object, since a prompt means the same without them: a full stop, the Japanese copula."""
ENOUGH = 3
"""Templates that a record needs: for the rewrite and two paraphrases."""


def templates(
    relation: str, patterns: Iterable[str], unchecked: Iterable[str] = ()
) -> tuple[tuple[Template, ...], tuple[Refusal, ...]]:
    """Return the rewrite templates of `patterns`, in their order, and a refusal for each pattern that gives none.

    A template ends where the object begins, so nothing but one of ENDS may follow `[Y]`. Several spaces count as one.
    unchecked: patterns that no human has checked; they are used until there are ENOUGH templates.
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
    # Reversed, so that the last letter decides whether the script has spaces.
    if not before.endswith(" ") and not is_unspaced(before[::-1]):
        raise TemplateError("no space comes before the object")
    text = re.sub(" +", " ", before).strip().replace(SUBJECT, SLOT)
    return Template(relation, "rewrite", text, "pararel")
