"""The material that exports are made of beside a record: names and templates that the record does not hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from cfbuild.data import SLOT, Entity, Record, Reference, Target, Template


@dataclass(frozen=True, slots=True)
class OtherNames:
    """Other names of items by id, in the records' language, and rewrite templates by their id; both may be empty."""

    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    templates: Mapping[str, Template] = field(default_factory=dict)

    @classmethod
    def of(cls, language: str, entities: Iterable[Entity], templates: Iterable[Template]) -> OtherNames:
        """Return what a build's entities and templates tell in a language."""
        names = {one.id: one.aliases[language] for one in entities if language in one.aliases}
        return cls(names, {one.id: one for one in templates if one.kind == "rewrite"})

    def other_names(self, target: Target) -> list[str]:
        """Return an item's names beside its label."""
        return [name for name in self.names.get(target.id, ()) if name != target.label]

    def asked(self, template: str, label: str) -> str | None:
        """Return the template of this id about the item called `label`; None where the template is not known."""
        found = self.templates.get(template)
        return found.text.replace(SLOT, label) if found else None


NO_NAMES = OtherNames()


@dataclass(frozen=True, slots=True)
class Handed:
    """All that formats of several files are made of; each iterable may be read many times.

    length: returns the number of tokens of a text in the vocabulary of a model; None where no model was named.
    """

    records: Iterable[Record]
    known: OtherNames = NO_NAMES
    references: Iterable[Reference] = ()
    length: Callable[[str], int] | None = None
