"""Ways to ask about an item: the templates that fit its name and kinds, found once for all items of a form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cfbuild.data import SLOT, Template, article_before
from cfbuild.facts.bounded import Bounded
from cfbuild.facts.graph import FactGraph


class NameForm(NamedTuple):
    """All that decides which templates can ask about an item, and with which article: it is that of many items.

    small: True if its name begins with a small letter that begins no sentence.
    """

    kinds: frozenset[str]
    article: str
    small: bool


class Asking(NamedTuple):
    """A template as it asks about items of a form: `text` has their article before its slot."""

    text: str
    template: Template


class Forms(Bounded[str, NameForm]):
    """The form of each item; items of one form share it."""

    def __init__(self, graph: FactGraph) -> None:
        super().__init__()
        self._graph = graph
        self._same: dict[NameForm, NameForm] = {}

    def __missing__(self, item: str) -> NameForm:
        graph = self._graph
        small = graph.wording.begins_small(graph.label(item) or "")
        form = NameForm(graph.subject_kinds(item), graph.article(item), small)
        self[item] = self._same.setdefault(form, form)
        return self[item]


class Ways(dict[NameForm, list[Asking]]):
    """Those of `templates` that can ask about items of a form.

    Templates that begin with the name of an item are left out where it begins no sentence, unless fewer than `needed`
    are left.
    """

    def __init__(self, templates: Sequence[Template], needed: int) -> None:
        super().__init__()
        self._templates = templates
        self._needed = needed

    def __missing__(self, form: NameForm) -> list[Asking]:
        fitting = [one for one in self._templates if one.suits(form.kinds)]
        if form.small and not form.article:
            inside = [one for one in fitting if not one.text.startswith(SLOT)]
            fitting = inside if len(inside) >= self._needed else fitting
        self[form] = [Asking(article_before(one.text, form.article), one) for one in fitting]
        return self[form]
