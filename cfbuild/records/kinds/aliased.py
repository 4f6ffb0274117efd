"""Answers by another name: o* under its aliases counts as right too."""

from __future__ import annotations

from collections.abc import Iterator

from cfbuild.data import GroupPrompt, Record, Target
from cfbuild.records.fact_lookup import FactLookup, is_plain_name, letters_of
from cfbuild.text.names import find_name

MOST_NAMES = 3
"""The most other names of o* in a record, one a prompt."""


def object_aliases(record: Record, lookup: FactLookup) -> Iterator[GroupPrompt]:
    """Yield the record's prompts, each with another name of o*, which is the right answer after the edit.

    A name is skipped if it is only a spelling of the label or a code (RU), if another object of the relation has it,
    or if it and a name of the true object are inside one another.
    """
    graph, new, true = lookup.graph, record.target_new, record.target_true
    used, others = {letters_of(new.label)}, graph.names(true.id)
    texts = [record.rewrite, *(one.clean for one in record.paraphrases)][:MOST_NAMES]
    aliases = graph.names(new.id)[1:]
    for name in lookup.random(record, "object_aliases").sample(aliases, len(aliases)):
        shared = name.casefold() in graph.folded_names(true.id) or graph.objects_named(record.relation, name)
        nested = find_name(name, others) is not None or any(find_name(one, (name,)) is not None for one in others)
        code = name.isupper() and not new.label.isupper()
        alike = not code and new.label[:1].isupper() == name[:1].isupper() and letters_of(name) not in used
        if not alike or shared or nested or not is_plain_name(name, graph) or not texts:
            continue
        if graph.wording.article_clash(texts[0], name) is None and find_name(texts[0], (name,)) is None:
            used.add(letters_of(name))
            text = texts.pop(0)
            yield GroupPrompt(text, Target(new.id, name), true, record.subject.id, record.relation, record.prompt.id)
