"""The material of prompt groups: what the facts tell of an item, and the templates that may ask about it."""

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
class Known:
    """The material of prompt groups.

    templates: returns the rewrite templates of a relation. is_sound: returns True for a fact that passes the rules.
    changed: the subjects and relations of which something changed between two fetches.
    What is asked for many records (few items are the objects of many, and most subjects are of few kinds) is kept.
    """

    graph: FactGraph
    templates: Callable[[str], Sequence[Template]]
    is_sound: Callable[[Fact], bool]
    seed: int = 0
    changed: frozenset[tuple[str, str]] = frozenset()
    _answers: dict[str, Mapping[str, Target]] = field(default_factory=Bounded, init=False, repr=False, compare=False)
    _leading_on: dict[str, list[str]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _described: dict[tuple[str, frozenset[str]], list[str]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def article(self, item: str, name: str) -> str:
        """Return the article that a name of `item` has inside a sentence; empty for none."""
        if name == self.graph.label(item):
            return self.graph.article(item)
        aliases = [one for one in self.graph.names(item) if one != name]
        return self.graph.wording.article_of_name(name, aliases, self.graph.class_names(item))

    def fitting(self, relation: str, *items: str) -> list[Template]:
        """Return the relation's rewrite templates that may be about each of `items`."""
        kinds = [self.graph.subject_kinds(item) for item in items]
        return [one for one in self.templates(relation) if all(map(one.suits, kinds))]

    def answers(self, item: str) -> Mapping[str, Target]:
        """Return, by relation, the only object that `item` has, where that fact passes the rules."""
        if item not in self._answers:
            found = {relation: sound_answer(self, item, relation) for relation in self.graph.relations}
            self._answers[item] = {relation: answer for relation, answer in found.items() if answer is not None}
        return self._answers[item]

    def leading_on(self, first: str) -> list[str]:
        """Return the relations that ask something new after relation `first`: neither its inverse nor symmetric."""
        if first not in self._leading_on:
            relations = self.graph.relations
            self._leading_on[first] = [one for one in relations if one not in SYMMETRIC and one != INVERSE.get(first)]
        return self._leading_on[first]

    def descriptions(self, relation: str, subject: str) -> list[str]:
        """Return the descriptions of their object that the relation's templates give which may be about `subject`."""
        key = relation, self.graph.subject_kinds(subject)
        if key not in self._described:
            found = (self.graph.wording.description(one.text) for one in self.fitting(relation, subject))
            self._described[key] = [one for one in found if one]
        return self._described[key]

    def random(self, record: Record, group: str) -> Random:
        """Return the seeded generator of a record's group."""
        return Random(f"{self.seed}:{record.relation}:{record.subject.id}:{group}")


def prompt_about(
    known: Known, template: Template, about: Target, new: Target, true: Target, said: str | None = None
) -> GroupPrompt:
    """Return a template about an item, under the name that `about` gives it and with that name's article.

    said: the template in other words, None for its own.
    """
    text = article_before(said or template.text, known.article(about.id, about.label)).replace(SLOT, about.label)
    return GroupPrompt(text, new, true, about.id, template.relation, template.id)


def takes_description(template: Template, wording: Language) -> bool:
    """Return True if a description of an item can stand in a template's slot, inside the sentence."""
    return re.search(r"\{\}(?= [a-z])", template.text) is not None and wording.takes_description(template.text)


def sound_answer(known: Known, item: str, relation: str) -> Target | None:
    """Return the only object that `item` has under `relation`, if that fact passes the rules; else None."""
    target = only_target(known, known.graph.current_values(item, relation))
    facts = (one for one in known.graph.statements(item, relation) if target and one.object == target.id)
    return target if any(map(known.is_sound, facts)) else None


def only_target(known: Known, items: Sequence[str]) -> Target | None:
    """Return the item that `items` consist of, if there is only one and its label is a plain name; else None."""
    item = items[0] if items and len(set(items)) == 1 else ""
    label = known.graph.label(item) or ""
    return Target(item, label) if is_plain_name(label, known.graph) else None


def fitting_templates(
    known: Known, relation: str, answers: Sequence[Target], about: Sequence[Target]
) -> list[Template]:
    """Return the rewrite templates that may be about each of `about` and whose article, if any, fits every answer."""
    return [
        template
        for template in known.fitting(relation, *(item.id for item in about))
        if all(known.graph.wording.article_clash(template.text, answer.label) is None for answer in answers)
    ]


def filled(template: Template, description: str, wording: Language) -> str:
    """Return a template with a description in its slot, with the first letter that its place in the sentence needs."""
    return template.fill(description if template.text.startswith(SLOT) else wording.inside(description))


def names_any(graph: FactGraph, text: str, *items: Target) -> bool:
    """Return True if a text holds a name of one of the items."""
    return any(find_name(text, graph.names(one.id)) is not None for one in items)


def are_apart(graph: FactGraph, first: str, second: str) -> bool:
    """Return True if two items are different things with different names, neither inside the other."""
    if first == second or not graph.folded_names(first).isdisjoint(graph.folded_names(second)):
        return False
    labels = graph.label(first) or "", graph.label(second) or ""
    nested = find_name(labels[0], (labels[1],)) or find_name(labels[1], (labels[0],))
    return not nested and first not in graph.containers(second) and second not in graph.containers(first)


def is_plain_name(text: str, graph: FactGraph) -> bool:
    """Return True if `text` is a plain name: two letters at least, no suffix against namesakes, no list, no code."""
    letters = sum(map(str.isalpha, text))
    plain = graph.wording.noise(text) is None and not set(',;/()|"') & set(text)
    return letters > 1 and plain and not (text.islower() and letters < 4)


def letters_of(name: str) -> str:
    """Return the letters and digits of a name without case and accents, which spellings of the same name share."""
    plain = name if name.isascii() else unicodedata.normalize("NFKD", name)
    return "".join(filter(str.isalnum, plain.casefold()))
