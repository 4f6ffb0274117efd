"""The knowledge of an audit beside the record itself: the file's templates, the limits, and a build's facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from cfbuild.audit.mentions import Templates, names
from cfbuild.audit.reader import Prompt
from cfbuild.audit.row import ABOUT_OTHERS, RecordParts
from cfbuild.data import SLOT, Fact
from cfbuild.filter.context import RuleContext


@dataclass(frozen=True, slots=True)
class Mention:
    """A prompt about another entity, with that entity's name: the build's, or as read off the prompt, or None."""

    prompt: Prompt
    name: str | None
    is_read: bool


@dataclass(frozen=True)
class AuditContext:
    """The knowledge of quality rules beside the record; `rules` holds the build's facts, None without a build.

    `max_per_entity` is the most prompts of a group about the same entity. `about` belongs to the record that is judged:
    its prompts about other entities, by group.
    """

    templates: Templates = field(default_factory=Templates)
    max_per_entity: int = 1
    allow_symmetric: bool = False
    allow_several: bool = False
    rules: RuleContext | None = None
    about: Mapping[str, Sequence[Mention]] = field(default_factory=dict)

    def of(self, parts: RecordParts) -> AuditContext:
        """Return this context for a record."""
        return replace(self, about=_about(parts, self))


def resolve(parts: RecordParts, rules: RuleContext | None) -> Fact | None:
    """Return the build's fact that a record is about, or None; it is found by the subject's id, or else its name."""
    if rules is None or not parts.relation or not parts.target_true.id:
        return None
    for fact in rules.facts_with(parts.relation, parts.target_true.id):
        if fact.subject == parts.subject_id if parts.subject_id else rules.graph.label(fact.subject) == parts.subject:
            return fact
    return None


def _about(parts: RecordParts, context: AuditContext) -> dict[str, tuple[Mention, ...]]:
    """Return the mentions of each group, with the build's names, or else names read off the prompts of both groups."""
    prompts = [prompt for group in ABOUT_OTHERS for prompt in parts.group(group)]
    graph = context.rules.graph if context.rules else None
    known = [graph.label(prompt.entity) if graph and prompt.entity else None for prompt in prompts]
    read: list[str | None] = known if all(known) else names([prompt.text for prompt in prompts], _shown(parts, context))
    named = zip(prompts, known, read, strict=True)
    found = (Mention(prompt, name or other, is_read=not name) for prompt, name, other in named)
    return {group: tuple(islice(found, len(parts.group(group)))) for group in ABOUT_OTHERS}


def _shown(parts: RecordParts, context: AuditContext) -> set[str]:
    """Return the templates of the record's relation that the file shows."""
    clean = [parts.split(place)[1] for place in range(len(parts.group("paraphrase")))]
    own = {text.replace(parts.subject, SLOT) for text in clean if parts.subject and text.count(parts.subject) == 1}
    return {parts.template, *own, *context.templates.of(parts.relation)}
