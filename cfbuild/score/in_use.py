"""Answers as in use: what a model says by itself after a prompt, and whether that names o*. No model is needed here.

The likelihood metrics compare two given objects. Here the model decodes greedily until its answer ends by itself: at a
token that ends texts, a line break, the end of a sentence, or after MOST_TOKENS tokens. An answer is right where it
names o*, by its label or an alias, and does not name the true object before.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cfbuild.data import Entity, Record, Target
from cfbuild.text.names import name_place

GROUPS_IN_USE = ("rewrite", "paraphrase")
"""The groups of prompts whose answers are written."""
MOST_TOKENS = 20
"""Tokens of the longest answer: about three times as many as an object's name has, so that an article, a class or a
place in front of it does not crowd it out."""
END = re.compile(r"[\n\r]|[.!?…][\"'”’»)\]]*(?=\s)|[。！？।]")
"""A line break, a mark that ends a sentence with white space behind it, or a mark that needs none (Chinese, Hindi)."""
ABBREVIATION = re.compile(r"(?<!\w)(\w{1,2})\Z")
"""A word that, with a capital in front, may be shortened by the full stop behind it: St. Louis, J. R. R., the U.S."""

INNER_STOP = re.compile(r"\.(?=\s)")


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of an answer. `heads` are casefolded beginnings of names whose full stop ends nothing (Warner Bros.)."""

    heads: tuple[str, ...] = ()

    def has_come(self, text: str) -> bool:
        """Return True if a text behind a prompt holds the end of an answer."""
        return self._place(text) is not None

    def answer(self, text: str) -> str:
        """Return what of a text behind a prompt is the answer: all up to its end, without white space around it."""
        return text[: self._place(text)].strip()

    def _place(self, text: str) -> int | None:
        for match in END.finditer(text):
            if not match[0].startswith(".") or not self._is_inner(text[: match.start()]):
                return match.end()
        return None

    def _is_inner(self, before: str) -> bool:
        """Return True if a full stop behind `before` shortens a word or belongs to a name."""
        word = ABBREVIATION.search(before)
        return bool(word and word[1][0].isupper()) or before.casefold().endswith(self.heads)


@dataclass(frozen=True, slots=True)
class ObjectNames:
    """The names by which answers are matched: an object's label, and by its id its aliases as far as they are known."""

    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, records: Iterable[Record], entities: Iterable[Entity]) -> ObjectNames:
        """Return the names of the records' objects in the records' language."""
        language = {one.id: record.language for record in records for one in (record.target_new, record.target_true)}
        found = {}
        for entity in entities:
            code = language.get(entity.id)
            if code is not None:
                label = (entity.labels[code],) if code in entity.labels else ()
                found[entity.id] = (*label, *entity.aliases.get(code, ()))
        return cls(found)

    def is_right(self, said: str, new: Target, true: Target) -> bool:
        """Return True if an answer names o* and not the true object before it.

        A name that both have says nothing. Where both begin at one place, the longer one is meant (Mexico City).
        """
        names, others = self._names(new), self._names(true)
        at, before = name_place(said, names - others), name_place(said, others - names)
        return at is not None and (before is None or at < before)

    def ending(self, records: Iterable[Record]) -> Ending:
        """Return the end of answers about the records' objects."""
        targets = (one for record in records for one in (record.target_new, record.target_true))
        names = {name.casefold() for target in targets for name in self._names(target)}
        return Ending(tuple(sorted({name[: stop.start()] for name in names for stop in INNER_STOP.finditer(name)})))

    def _names(self, target: Target) -> frozenset[str]:
        return frozenset((target.label, *self.aliases.get(target.id, ())))
