"""The templates that can ask about an item: those that fit its name and kinds, found once for all items of a form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cfbuild.data import SLOT, Template, article_before
from cfbuild.facts.graph import FactGraph


class NameForm(NamedTuple):
    """The properties of an item that decide which templates can ask about it; many items share them.

    article: the one before its name, such as "the "; empty for none.
    small: True if its name begins with a small letter, so that it cannot begin a sentence.
    """

    kinds: frozenset[str]
    article: str
    small: bool


class ArticledTemplate(NamedTuple):
    """A template for items of a form; its `text` with their article before the slot."""

    text: str
    template: Template


class NameForms(dict[str, NameForm]):
    """The form of each item by its id; equal forms are the same object. Clear it after each relation."""

    def __init__(self, graph: FactGraph) -> None:
        super().__init__()
        self._graph = graph
        self._shared: dict[NameForm, NameForm] = {}

    def __missing__(self, item: str) -> NameForm:
        graph = self._graph
        small = graph.wording.begins_small(graph.label(item) or "")
        form = NameForm(graph.subject_kinds(item), graph.article(item), small)
        self[item] = self._shared.setdefault(form, form)
        return self[item]


class FittingTemplates(dict[NameForm, list[ArticledTemplate]]):
    """The templates that can ask about items of a form.

    A small name begins no sentence: templates with the slot in front are dropped for it, unless fewer than `needed`
    would remain.
    """

    def __init__(self, templates: Sequence[Template], needed: int) -> None:
        super().__init__()
        self._templates = templates
        self._needed = needed

    def __missing__(self, form: NameForm) -> list[ArticledTemplate]:
        fitting = [one for one in self._templates if one.suits(form.kinds)]
        if form.small and not form.article:
            inside = [one for one in fitting if not one.text.startswith(SLOT)]
            fitting = inside if len(inside) >= self._needed else fitting
        self[form] = [ArticledTemplate(article_before(one.text, form.article), one) for one in fitting]
        return self[form]
