"""Answers by another name: o* under its aliases counts as right too."""

from __future__ import annotations

from collections.abc import Iterator

from cfbuild.data import GroupPrompt, Record, Target
from cfbuild.records.known import Known, is_plain_name, letters_of
from cfbuild.text.names import find_name

MOST_NAMES = 3


def object_aliases(record: Record, known: Known) -> Iterator[GroupPrompt]:
    """Yield the record's prompts with o* under another name, a name a prompt. The right answer is it after the edit.

    A name is left out if it is only a spelling of the label or a code (RU), if another object of the relation has it,
    or if it and a name of the true object are inside one another.
    """
    graph, new, true = known.graph, record.target_new, record.target_true
    said, others = {letters_of(new.label)}, graph.names(true.id)
    texts = [record.rewrite, *(one.clean for one in record.paraphrases)][:MOST_NAMES]
    aliases = graph.names(new.id)[1:]
    for name in known.random(record, "object_aliases").sample(aliases, len(aliases)):
        shared = name.casefold() in graph.folded_names(true.id) or graph.objects_named(record.relation, name)
        nested = find_name(name, others) is not None or any(find_name(one, (name,)) is not None for one in others)
        code = name.isupper() and not new.label.isupper()
        alike = not code and new.label[:1].isupper() == name[:1].isupper() and letters_of(name) not in said
        if not alike or shared or nested or not is_plain_name(name, graph) or not texts:
            continue
        fits = graph.wording.article_clash(texts[0], name) is None and find_name(texts[0], (name,)) is None
        if fits:
            said.add(letters_of(name))
            text = texts.pop(0)
            yield GroupPrompt(text, Target(new.id, name), true, record.subject.id, record.relation, record.prompt.id)
