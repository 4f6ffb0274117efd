"""Answers in use: the model's own continuation of a prompt, and whether it names o*. No model is needed here.

The likelihood metrics compare two given objects. An answer is decoded greedily up to its end: a token that ends texts,
a line break, the end of a sentence, or MOST_TOKENS tokens. It is right if it names o*, by its label or an alias, and
does not name the true object before.
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
place may come in front of it."""
END = re.compile(r"[\n\r]|[.!?…][\"'”’»)\]]*(?=\s)|[。！？।]")
"""A line break, a mark that ends a sentence with white space behind it, or a mark that needs none (Chinese, Hindi)."""
ABBREVIATION = re.compile(r"(?<!\w)(\w{1,2})\Z")
"""A word of one or two letters: with a capital in front it is shortened by a full stop behind it (St. Louis)."""
INNER_STOP = re.compile(r"\.(?=\s)")
"""A full stop inside a name: Warner Bros. Pictures."""


@dataclass(frozen=True, slots=True)
class Ending:
    """The rule of where an answer ends.

    `heads` are casefolded beginnings of names up to a full stop that ends no sentence: "warner bros".
    """

    heads: tuple[str, ...] = ()

    def has_come(self, text: str) -> bool:
        """Return True if a text behind a prompt holds the end of an answer."""
        return self._place(text) is not None

    def answer(self, text: str) -> str:
        """Return the answer at the start of a text behind a prompt: all up to its end, stripped of white space."""
        return text[: self._place(text)].strip()

    def _place(self, text: str) -> int | None:
        for match in END.finditer(text):
            if not match[0].startswith(".") or not self._is_inner(text[: match.start()]):
                return match.end()
        return None

    def _is_inner(self, before: str) -> bool:
        """Return True if a full stop right after the text `before` shortens a word or belongs to a name."""
        word = ABBREVIATION.search(before)
        return bool(word and word[1][0].isupper()) or before.casefold().endswith(self.heads)


@dataclass(frozen=True, slots=True)
class ObjectNames:
    """The names by which answers are matched: each object's label, and its `aliases`, by the object's id."""

    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, records: Iterable[Record], entities: Iterable[Entity]) -> ObjectNames:
        """Return the names of the records' objects in the records' language."""
        languages = {target.id: record.language for record in records for target in _targets(record)}
        found = {}
        for entity in entities:
            code = languages.get(entity.id)
            if code is not None:
                label = (entity.labels[code],) if code in entity.labels else ()
                found[entity.id] = (*label, *entity.aliases.get(code, ()))
        return cls(found)

    def is_right(self, answer: str, new: Target, true: Target) -> bool:
        """Return True if an answer names o*, `new`, and does not name the true object before it.

        A name that both have counts for neither. Where two names begin at one place, the longer is meant (Mexico City).
        """
        new_names, true_names = self._names(new), self._names(true)
        new_place = name_place(answer, new_names - true_names)
        true_place = name_place(answer, true_names - new_names)
        return new_place is not None and (true_place is None or new_place < true_place)

    def ending(self, records: Iterable[Record]) -> Ending:
        """Return the rule of where answers about the records' objects end."""
        targets = (target for record in records for target in _targets(record))
        names = {name.casefold() for target in targets for name in self._names(target)}
        return Ending(tuple(sorted({name[: stop.start()] for name in names for stop in INNER_STOP.finditer(name)})))

    def _names(self, target: Target) -> frozenset[str]:
        return frozenset((target.label, *self.aliases.get(target.id, ())))


def _targets(record: Record) -> tuple[Target, Target]:
    return record.target_new, record.target_true
