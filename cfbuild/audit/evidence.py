"""The knowledge of an audit beside the record itself: the file's templates, the limits, and a build's facts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cfbuild.audit.mentions import Templates, names
from cfbuild.audit.row import ABOUT_OTHERS, Prompt, RecordParts
from cfbuild.data import SLOT, Fact
from cfbuild.filter.context import RuleContext


@dataclass(frozen=True)
class AuditContext:
    """The knowledge of quality rules beside the record; `rules` holds the build's facts, None without a build.

    `max_per_entity` is the most prompts of a group about the same entity. `about` belongs to the record that is judged:
    its prompts about other entities, by group, each with that entity's name (None if unknown).
    """

    templates: Templates = field(default_factory=Templates)
    max_per_entity: int = 1
    allow_symmetric: bool = False
    allow_several: bool = False
    rules: RuleContext | None = None
    about: Mapping[str, Sequence[tuple[Prompt, str | None]]] = field(default_factory=dict)

    def of(self, parts: RecordParts) -> AuditContext:
        """Return this context for a record."""
        return replace(self, about={group: tuple(_about(parts, group, self)) for group in ABOUT_OTHERS})


def resolve(parts: RecordParts, rules: RuleContext | None) -> Fact | None:
    """Return the build's fact that a record is about, or None; it is found by the subject's id, or else its name."""
    if rules is None or not parts.relation or not parts.target_true.id:
        return None
    for fact in rules.facts_with(parts.relation, parts.target_true.id):
        if fact.subject == parts.subject_id if parts.subject_id else rules.graph.label(fact.subject) == parts.subject:
            return fact
    return None


def _about(parts: RecordParts, group: str, context: AuditContext) -> Iterator[tuple[Prompt, str | None]]:
    """Yield a group's prompts with their entities' names: the build's, or else as read off the prompts, or None."""
    prompts = parts.group(group)
    graph = context.rules.graph if context.rules else None
    known = [graph.label(prompt.entity) if graph and prompt.entity else None for prompt in prompts]
    if all(known) or not prompts:
        yield from zip(prompts, known, strict=True)
        return
    clean = [parts.split(place)[1] for place in range(len(parts.group("paraphrase")))]
    own = {text.replace(parts.subject, SLOT) for text in clean if text.count(parts.subject) == 1}
    templates = {parts.template, *own, *context.templates.of(parts.relation)}
    read = names([prompt.text for prompt in prompts], templates)
    yield from ((prompt, name or other) for prompt, name, other in zip(prompts, known, read, strict=True))
