"""An index over facts and entities: the questions that building and filtering ask of the knowledge, answered once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from cfbuild.data import Entity, Fact

SHORT_NAME = 3
"""Names up to this many characters are matched with their letter case: the longest country and language codes."""


class FactGraph:
    """Facts by (subject, relation) and by (relation, object), with the entities' labels in one language.

    Order is fixed by the facts' sort order, never by hash or input order, so that whoever draws from a list draws the
    same thing on every machine.
    """

    def __init__(self, facts: Iterable[Fact], entities: Iterable[Entity], language: str = "en") -> None:
        self.language = language
        self.entities: Mapping[str, Entity] = MappingProxyType({entity.id: entity for entity in entities})
        self.facts: tuple[Fact, ...] = tuple(sorted(set(facts), key=_identity))
        self._values: dict[tuple[str, str], list[str]] = {}
        self._subjects: dict[tuple[str, str], list[str]] = {}
        self._objects: dict[str, Counter[str]] = {}
        self._by_relation: dict[str, list[Fact]] = {}
        for fact in self.facts:
            values = self._values.setdefault((fact.subject, fact.relation), [])
            if fact.object in values:
                continue
            values.append(fact.object)
            self._subjects.setdefault((fact.relation, fact.object), []).append(fact.subject)
            self._objects.setdefault(fact.relation, Counter())[fact.object] += 1
            self._by_relation.setdefault(fact.relation, []).append(fact)

    @property
    def relations(self) -> tuple[str, ...]:
        """Relations that have facts, by number."""
        return tuple(sorted(self._by_relation, key=lambda relation: int(relation[1:])))

    def facts_of(self, relation: str) -> tuple[Fact, ...]:
        """The facts of `relation`, one a (subject, object) pair, by subject then object number."""
        return tuple(self._by_relation.get(relation, ()))

    def values(self, subject: str, relation: str) -> tuple[str, ...]:
        """Every object o with (subject, relation, o)."""
        return tuple(self._values.get((subject, relation), ()))

    def subjects(self, relation: str, value: str) -> tuple[str, ...]:
        """Every subject s with (s, relation, value)."""
        return tuple(self._subjects.get((relation, value), ()))

    def object_counts(self, relation: str) -> Mapping[str, int]:
        """How many subjects each object of `relation` has; the pool that o* is drawn from."""
        return MappingProxyType(self._objects.get(relation, Counter()))

    def label(self, entity_id: str) -> str | None:
        """The entity's label in the graph's language, or None."""
        entity = self.entities.get(entity_id)
        return entity.labels.get(self.language) if entity else None

    def names(self, entity_id: str) -> tuple[str, ...]:
        """Label and aliases in the graph's language, the label first."""
        entity = self.entities.get(entity_id)
        if entity is None:
            return ()
        label = entity.labels.get(self.language)
        return ((label,) if label else ()) + entity.aliases.get(self.language, ())


def find_name(text: str, names: Iterable[str]) -> str | None:
    """The first of `names` that `text` holds as whole words, or None; letter case is ignored.

    Names of up to three letters must agree in case too, and are ignored where they are all lower case: those are codes
    ("de" for German), which would be found in half of all texts. Whole words are told by letters and digits at the
    edges, so in scripts without spaces only names that stand alone are found.
    """
    folded = text.casefold()
    for name in names:
        if name.casefold() not in folded:
            continue
        short = len(name) <= SHORT_NAME
        if not name.strip() or (short and name.isascii() and name.islower()):
            continue
        if _holds_word(text, name) if short else _holds_word(folded, name.casefold()):
            return name
    return None


def _holds_word(text: str, word: str) -> bool:
    start = text.find(word)
    while start >= 0:
        end = start + len(word)
        if not text[start - 1 : start].isalnum() and not text[end : end + 1].isalnum():
            return True
        start = text.find(word, start + 1)
    return False


def _identity(fact: Fact) -> tuple[int, int, int, str]:
    return int(fact.relation[1:]), int(fact.subject[1:]), int(fact.object[1:]), fact.source
