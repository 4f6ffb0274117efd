"""The evidence of an audit besides the record itself: the file's templates, the options, and a build's facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import NamedTuple

from cfbuild.audit.mentions import Templates, halves, names
from cfbuild.audit.reader import Prompt
from cfbuild.audit.row import ABOUT_OTHERS, RecordParts
from cfbuild.data import SLOT, Fact
from cfbuild.filter.context import RuleContext

NO_TEMPLATES = Templates()


class Mention(NamedTuple):
    """A prompt about another entity and that entity's name, from the build or read off the prompt, or None."""

    prompt: Prompt
    name: str | None
    is_read: bool


@dataclass(frozen=True)
class AuditContext:
    """The evidence for an audit's rules besides the record itself.

    templates: those that the file shows, by relation.
    max_per_entity: the most prompts of a group about the same entity.
    rules: the build's facts; None without a build.
    about: the prompts about other entities of the record that is judged, by group.
    """

    templates: Mapping[str, Templates] = field(default_factory=dict)
    max_per_entity: int = 1
    allow_symmetric: bool = False
    allow_several: bool = False
    rules: RuleContext | None = None
    about: Mapping[str, Sequence[Mention]] = field(default_factory=dict)

    def of(self, parts: RecordParts) -> AuditContext:
        """Return this context for a record."""
        return replace(self, about=_about(parts, self))


def resolve(parts: RecordParts, rules: RuleContext | None) -> Fact | None:
    """Return the build's fact that a record is about, found by the subject's id or else its name, or None."""
    if rules is None or not parts.relation or not parts.target_true.id:
        return None
    value = parts.target_true.id
    if parts.subject_id:
        known = rules.graph.statements(parts.subject_id, parts.relation)
        return next((fact for fact in known if fact.object == value), None)
    facts = rules.facts_with(parts.relation, value)
    return next((fact for fact in facts if rules.graph.label(fact.subject) == parts.subject), None)


def _about(parts: RecordParts, context: AuditContext) -> dict[str, tuple[Mention, ...]]:
    """Return the mentions by group, with the build's names or else names that are read off the prompts."""
    prompts = [prompt for group in ABOUT_OTHERS for prompt in parts.group(group)]
    graph = context.rules.graph if context.rules else None
    known = [graph.label(prompt.entity) if graph and prompt.entity else None for prompt in prompts]
    read: list[str | None] = known if all(known) else _read([prompt.text for prompt in prompts], parts, context)
    names_of = zip(prompts, known, read, strict=True)
    mentions = (Mention(prompt, name or read_name, is_read=not name) for prompt, name, read_name in names_of)
    return {group: tuple(islice(mentions, len(parts.group(group)))) for group in ABOUT_OTHERS}


def _read(prompts: Sequence[str], parts: RecordParts, context: AuditContext) -> list[str | None]:
    """Return the names read off prompts by the relation's templates in the file and by the record's own."""
    shown = context.templates.get(parts.relation, NO_TEMPLATES)
    own = {halves(text) for text in (parts.template, *parts.shown_templates()) if text.count(SLOT) == 1}
    return names(prompts, shown, own - shown.known)
