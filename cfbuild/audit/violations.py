"""Rules for what an editor or a metric relies on in a record: a row that breaks a rule cannot be used.

Those for texts apply to every format, the others to `meta`, which cfbuild adds to CounterFact's rows and which must fit
the prompts. A value of a wrong type is not among the parts, and such an entry is skipped: JSON Schema reports it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from cfbuild.audit.reader import Prompt
from cfbuild.audit.row import ABOUT_OTHERS, PROMPT_GROUPS, TARGETS, RecordParts, wikidata_id
from cfbuild.data import SLOT
from cfbuild.store.schema.faults import Fault, show

PROMPTS_OF = {
    "paraphrases": "paraphrase_prompts",
    "neighborhood": "neighborhood_prompts",
    "attribute": "attribute_prompts",
}
"""The list of prompts for which each list of `meta` has entries, one a prompt."""


def slot(parts: RecordParts) -> Iterator[Fault]:
    """Yield a fault for a rewrite template with more than one slot, or, in CounterFact's format, with none."""
    count = parts.template.count(SLOT)
    # EasyEdit's prompts have the subject instead of a slot; `lacks_subject` reports those without it.
    if parts.was_read(parts.rewrite_path) and (count > 1 or (count == 0 and parts.is_counterfact)):
        yield Fault(parts.rewrite_path, "slot", show(parts.template), f"exactly one {SLOT} for the subject")


def edge_space(parts: RecordParts) -> Iterator[Fault]:
    """Yield a fault for each text with white space at an end: a target follows a prompt and one space, not two."""
    spots = [(parts.rewrite_path, parts.template)]
    spots += [(parts.target_path(name), getattr(parts, name).label) for name in TARGETS]
    spots += [(prompt.path, prompt.text) for group in PROMPT_GROUPS for prompt in parts.group(group)]
    spots += [(prompt.path, prompt.text) for prompts in parts.answered.values() for prompt in prompts]
    for path, text in spots:
        if text.strip() and text != text.strip():
            yield Fault(path, "edge-space", show(text), "no white space at the ends")


def same_targets(parts: RecordParts) -> Iterator[Fault]:
    """Yield a fault for each new target that is the true one, by id, or by name whatever its letter case."""
    new, true = parts.target_new, parts.target_true
    if new.id and new.id == true.id:
        yield Fault(
            parts.target_path("target_new", "id"), "same-targets", show(new.id), "another id than target_true's"
        )
    spots = [(parts.target_path("target_new"), new.label, true.label)]
    for prompts in parts.answered.values():
        pairs = ((prompt.answers_path, prompt.answers) for prompt in prompts if len(prompt.answers) == len(TARGETS))
        spots += [(f"{path}/target_new/str", answers[0], answers[1]) for path, answers in pairs]
    for path, label, true_label in spots:
        if label and label.casefold() == true_label.casefold():
            yield Fault(path, "same-targets", show(label), "another str than target_true's")


def lacks_subject(parts: RecordParts) -> Iterator[Fault]:
    """Yield a fault for each prompt about the subject that does not name it.

    The rewrite must have the exact name, since an editor looks for it there. In other prompts letter case is free,
    since a sentence may begin with the name.
    """
    subject = parts.subject
    if not subject:
        return
    expected = f"the subject {show(subject)} in it"
    if parts.was_read(parts.rewrite_path) and subject not in parts.rewrite:
        yield Fault(parts.rewrite_path, "lacks-subject", show(parts.template), "the subject in it once")
    spots = [(prompt.path, prompt.text) for group in ("paraphrase", "generation") for prompt in parts.group(group)]
    spots += [
        (path, clean)
        for place, (_, clean) in enumerate(parts.prefixes)
        if parts.was_read(path := f"/meta/paraphrases/{place}/clean")
    ]
    for path, text in spots:
        if subject.casefold() not in text.casefold():
            yield Fault(path, "lacks-subject", show(text), expected)


def duplicate_prompt(parts: RecordParts) -> Iterator[Fault]:
    """Yield a fault for each prompt that repeats an earlier prompt of its list; generation prompts may repeat."""
    for group in ("paraphrase", *ABOUT_OTHERS):
        for prompt, first in _repeated(parts.group(group)):
            yield Fault(
                prompt.path, "duplicate-prompt", show(prompt.text), f"another prompt than number {first.number}"
            )
    for prompts in parts.answered.values():
        for prompt, first in _repeated(prompts):
            expected = f"another than number {first.number}"
            yield Fault(prompt.path, "duplicate-prompt", show(prompt.text), expected)


def own_prompt(parts: RecordParts) -> Iterator[Fault]:
    """Yield a fault for each prompt that an edit should leave alone but that equals the rewrite or a paraphrase."""
    own = {prompt.text for prompt in parts.group("paraphrase")}
    if parts.template and parts.subject:
        own.add(parts.rewrite)
    for group in ABOUT_OTHERS:
        for prompt in parts.group(group):
            if prompt.text in own:
                yield Fault(prompt.path, "own-prompt", show(prompt.text), "a prompt about another subject")
    for path, prompts in parts.answered.items():
        for prompt in prompts if path.startswith(f"{parts.base}/locality") else ():
            if prompt.text in own:
                expected = "a prompt that the edit leaves alone"
                yield Fault(prompt.path, "own-prompt", show(prompt.text), expected)


def meta_length(parts: RecordParts) -> Iterator[Fault]:
    """Yield a fault for each list of `meta` with another number of entries than there are prompts."""
    for name, key in PROMPTS_OF.items():
        entries, prompts = _meta(parts).get(name), parts.row.get(key)
        if isinstance(entries, list) and isinstance(prompts, list) and len(entries) != len(prompts):
            expected = f"{len(prompts)}, one for each of {key}"
            yield Fault(f"/meta/{name}", "meta-length", f"{len(entries)} entries", expected)


def meta_paraphrase(parts: RecordParts) -> Iterator[Fault]:
    """Yield a fault for each paraphrase that is not its prefix, one space and its clean form."""
    prompts = {prompt.path: prompt.text for prompt in parts.group("paraphrase")}
    for place, entry in enumerate(_entries(parts, "paraphrases")):
        prefix, clean, prompt = entry.get("prefix"), entry.get("clean"), prompts.get(f"/paraphrase_prompts/{place}")
        if isinstance(prefix, str) and isinstance(clean, str) and prompt is not None:
            whole = f"{prefix} {clean}" if prefix else clean
            if whole != prompt:
                expected = f"what paraphrase_prompts has: {show(prompt)}"
                yield Fault(f"/meta/paraphrases/{place}", "meta-paraphrase", show(whole), expected)


def own_entity(parts: RecordParts) -> Iterator[Fault]:
    """Yield a fault for each neighbor or attribute entity that is the subject."""
    for name in ABOUT_OTHERS:
        for place, entity in _entities(parts, name):
            if entity == parts.subject_id:
                path = f"/meta/{name}/{place}/entity"
                yield Fault(path, "own-entity", show(entity), "another entity than the subject")


def shared_entity(parts: RecordParts) -> Iterator[Fault]:
    """Yield a fault for each attribute entity that is a neighbor too: it would have both objects."""
    neighbors = {entity for _, entity in _entities(parts, "neighborhood")}
    for place, entity in _entities(parts, "attribute"):
        if entity in neighbors:
            path = f"/meta/attribute/{place}/entity"
            yield Fault(path, "shared-entity", show(entity), "an entity that is not among the neighbors")


def _repeated(prompts: Iterable[Prompt]) -> Iterator[tuple[Prompt, Prompt]]:
    """Yield each prompt whose text came before, with the first prompt that has it."""
    first: dict[str, Prompt] = {}
    for prompt in prompts:
        if prompt.text in first:
            yield prompt, first[prompt.text]
        first.setdefault(prompt.text, prompt)


def _meta(parts: RecordParts) -> Mapping[str, Any]:
    return _mapping(parts.row.get("meta")) if parts.is_counterfact else {}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _entries(parts: RecordParts, name: str) -> list[Mapping[str, Any]]:
    entries = _meta(parts).get(name)
    return [_mapping(entry) for entry in entries] if isinstance(entries, list) else []


def _entities(parts: RecordParts, name: str) -> Iterator[tuple[int, str]]:
    """Yield (number, id) of the entries that have a Wikidata id."""
    for place, entry in enumerate(_entries(parts, name)):
        entity = entry.get("entity")
        if isinstance(entity, str) and wikidata_id(entity):
            yield place, wikidata_id(entity)
