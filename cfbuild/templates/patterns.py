"""ParaRel's patterns as templates: those whose object comes last; the others are refused with a reason."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from cfbuild.data import SLOT, Template
from cfbuild.errors import TemplateError

SUBJECT = "[X]"
OBJECT = "[Y]"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A pattern that gives no template, and the reason."""

    relation: str
    pattern: str
    reason: str


def templates(relation: str, patterns: Iterable[str]) -> tuple[tuple[Template, ...], tuple[Refusal, ...]]:
    """Return the rewrite templates that `patterns` give, in their order, and a refusal for each that gives none.

    A template ends where the object begins, so a pattern is used only if nothing but a final period follows `[Y]`.
    Runs of spaces count as one.
    """
    kept: dict[str, Template] = {}
    refused = []
    for pattern in patterns:
        try:
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
    if after.strip() not in ("", "."):
        raise TemplateError("the object does not come last")
    if set("{}") & set(pattern):
        raise TemplateError("holds a brace")
    if not before.endswith(" "):
        raise TemplateError("no space comes before the object")
    text = re.sub(" +", " ", before).strip().replace(SUBJECT, SLOT)
    return Template(relation, "rewrite", text, "pararel")
