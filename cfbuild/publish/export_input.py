"""The input of exports: the records, and the names, templates and texts that a record does not hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from cfbuild.data import SLOT, Entity, Record, Reference, Target, Template


@dataclass(frozen=True, slots=True)
class OtherNames:
    """Aliases of items by the item's id, in the records' language, and rewrite templates by their id."""

    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    templates: Mapping[str, Template] = field(default_factory=dict)

    @classmethod
    def of(cls, language: str, entities: Iterable[Entity], templates: Iterable[Template]) -> OtherNames:
        """Return the aliases in a language, a code such as en, and the rewrite templates of a build."""
        names = {entity.id: entity.aliases[language] for entity in entities if language in entity.aliases}
        return cls(names, {template.id: template for template in templates if template.kind == "rewrite"})

    def other_names(self, target: Target) -> list[str]:
        """Return an item's names without its label."""
        return [name for name in self.names.get(target.id, ()) if name != target.label]

    def prompt(self, template_id: str, label: str) -> str | None:
        """Return the prompt of the template `template_id` about the item `label`; None if it is not known."""
        template = self.templates.get(template_id)
        return template.text.replace(SLOT, label) if template else None


NO_NAMES = OtherNames()


@dataclass(frozen=True, slots=True)
class ExportInput:
    """The input of formats of several files; each iterable may be read many times.

    `length` returns the number of tokens of a text in a model's vocabulary (None: no model was named).
    """

    records: Iterable[Record]
    known: OtherNames = NO_NAMES
    references: Iterable[Reference] = ()
    length: Callable[[str], int] | None = None
