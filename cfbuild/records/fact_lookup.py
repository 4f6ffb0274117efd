"""Lookups of prompt groups: the answers that the facts give for an item, and the templates that can ask about it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from cfbuild.data import SLOT, Fact, GroupPrompt, Record, Target, Template, article_before
from cfbuild.facts.bounded import Bounded
from cfbuild.facts.graph import FactGraph
from cfbuild.facts.relations import INVERSE, SYMMETRIC
from cfbuild.text.languages import Language
from cfbuild.text.names import find_name


@dataclass(frozen=True)
class FactLookup:
    """Lookups in a graph for prompt groups. Results are kept: few items are the objects of many records.

    templates: returns the rewrite templates of a relation.
    is_sound: returns True for a fact that passes the rules.
    changed: the (subject, relation) pairs of which something changed between two fetches.
    """

    graph: FactGraph
    templates: Callable[[str], Sequence[Template]]
    is_sound: Callable[[Fact], bool]
    seed: int = 0
    changed: frozenset[tuple[str, str]] = frozenset()
    _answers: dict[str, Mapping[str, Target]] = field(default_factory=Bounded, init=False, repr=False, compare=False)
    _leading_on: dict[str, list[str]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _descriptions: dict[tuple[str, frozenset[str]], list[str]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def article(self, item: str, name: str) -> str:
        """Return the article that a name of `item` has inside a sentence; empty for none."""
        if name == self.graph.label(item):
            return self.graph.article(item)
        aliases = [one for one in self.graph.names(item) if one != name]
        return self.graph.wording.article_of_name(name, aliases, self.graph.class_names(item))

    def fitting(self, relation: str, *items: str) -> list[Template]:
        """Return the relation's rewrite templates that suit the kinds of each of `items`."""
        kinds = [self.graph.subject_kinds(item) for item in items]
        return [one for one in self.templates(relation) if all(map(one.suits, kinds))]

    def answers(self, item: str) -> Mapping[str, Target]:
        """Return the object of `item` by relation, where it has a single one and that fact passes the rules."""
        if item not in self._answers:
            found = {relation: sound_answer(self, item, relation) for relation in self.graph.relations}
            self._answers[item] = {relation: answer for relation, answer in found.items() if answer is not None}
        return self._answers[item]

    def leading_on(self, first: str) -> list[str]:
        """Return the relations that can be asked of the object of relation `first`: not symmetric, not its inverse."""
        if first not in self._leading_on:
            relations = self.graph.relations
            self._leading_on[first] = [one for one in relations if one not in SYMMETRIC and one != INVERSE.get(first)]
        return self._leading_on[first]

    def descriptions(self, relation: str, item: str) -> list[str]:
        """Return the descriptions of an item's object that the relation's templates give: "the capital of {}"."""
        key = relation, self.graph.subject_kinds(item)
        if key not in self._descriptions:
            found = (self.graph.wording.description(one.text) for one in self.fitting(relation, item))
            self._descriptions[key] = [one for one in found if one]
        return self._descriptions[key]

    def random(self, record: Record, group: str) -> Random:
        """Return the seeded generator of a record's group."""
        return Random(f"{self.seed}:{record.relation}:{record.subject.id}:{group}")


def prompt_about(
    lookup: FactLookup, template: Template, about: Target, new: Target, true: Target, text: str | None = None
) -> GroupPrompt:
    """Return the prompt of a template about the item `about`, by the name there and with that name's article.

    text: the template's text in another tense; None for its own.
    """
    prompt = article_before(text or template.text, lookup.article(about.id, about.label)).replace(SLOT, about.label)
    return GroupPrompt(prompt, new, true, about.id, template.relation, template.id)


def described_questions(
    lookup: FactLookup, relation: str, description: str, answers: Sequence[Target], items: Sequence[Target]
) -> list[tuple[Template, str]]:
    """Return questions of a relation about the item that `description` describes: each template with its text.

    description: such as "The capital of France".
    answers: the right answers before and after the edit, which the texts do not name.
    items: the items that are described before and after the edit.
    """
    wording, questions = lookup.graph.wording, []
    for template in fitting_templates(lookup, relation, answers, items):
        if _takes_description(template, wording):
            begins = template.text.startswith(SLOT)
            text = template.fill(description if begins else wording.inside(description))
            if not names_any(lookup.graph, text, *answers):
                questions.append((template, text))
    return questions


def _takes_description(template: Template, wording: Language) -> bool:
    """Return True if a description of an item can stand in a template's slot, inside the sentence."""
    return re.search(r"\{\}(?= [a-z])", template.text) is not None and wording.takes_description(template.text)


def sound_answer(lookup: FactLookup, item: str, relation: str) -> Target | None:
    """Return the single current object of `item` under `relation` if that fact passes the rules, or None."""
    target = only_target(lookup, lookup.graph.current_values(item, relation))
    facts = (one for one in lookup.graph.statements(item, relation) if target and one.object == target.id)
    return target if any(map(lookup.is_sound, facts)) else None


def only_target(lookup: FactLookup, items: Sequence[str]) -> Target | None:
    """Return the single item in `items` with its label, or None if there are several or the label is no plain name."""
    item = items[0] if items and len(set(items)) == 1 else ""
    label = lookup.graph.label(item) or ""
    return Target(item, label) if is_plain_name(label, lookup.graph) else None


def fitting_templates(
    lookup: FactLookup, relation: str, answers: Sequence[Target], about: Sequence[Target]
) -> list[Template]:
    """Return the rewrite templates that suit each item of `about` and end in no article that clashes with an answer."""
    return [
        template
        for template in lookup.fitting(relation, *(item.id for item in about))
        if all(lookup.graph.wording.article_clash(template.text, answer.label) is None for answer in answers)
    ]


def names_any(graph: FactGraph, text: str, *items: Target) -> bool:
    """Return True if a text holds a name of one of the items."""
    return any(find_name(text, graph.names(one.id)) is not None for one in items)


def are_apart(graph: FactGraph, item_id: str, other_id: str) -> bool:
    """Return True if the items `item_id` and `other_id` have different names and neither is inside the other."""
    if item_id == other_id or not graph.folded_names(item_id).isdisjoint(graph.folded_names(other_id)):
        return False
    label, other_label = graph.label(item_id) or "", graph.label(other_id) or ""
    nested = find_name(label, (other_label,)) or find_name(other_label, (label,))
    return not nested and item_id not in graph.containers(other_id) and other_id not in graph.containers(item_id)


def is_plain_name(text: str, graph: FactGraph) -> bool:
    """Return True if `text` is a plain name: two letters or more, no list, no code, no suffix such as "(album)"."""
    letters = sum(map(str.isalpha, text))
    plain = graph.wording.noise(text) is None and not set(',;/()|"') & set(text)
    return letters > 1 and plain and not (text.islower() and letters < 4)


def letters_of(name: str) -> str:
    """Return the letters and digits of a name without case and accents: spellings of one name give the same text."""
    plain = name if name.isascii() else unicodedata.normalize("NFKD", name)
    return "".join(filter(str.isalnum, plain.casefold()))
