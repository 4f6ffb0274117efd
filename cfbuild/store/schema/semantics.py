"""What a JSON Schema cannot say of a record: a table of small rules, each yielding every fault it finds.

A rule reports only what is certainly wrong, and looks only at values of the right type: wrong types are the schema's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cfbuild.data import SLOT
from cfbuild.store.schema.faults import Fault, show

Row = Mapping[str, Any]
Rule = Callable[[Row], Iterator[Fault]]

PROMPTS = ("paraphrase_prompts", "neighborhood_prompts", "attribute_prompts", "generation_prompts")
ABOUT_OTHERS = ("neighborhood_prompts", "attribute_prompts")


def faults(row: Row) -> Iterator[Fault]:
    """Every fault that any rule finds in `row`, in the table's order."""
    for rule in RULES.values():
        yield from rule(row)


def _slot(row: Row) -> Iterator[Fault]:
    """The rewrite prompt has one place for the subject."""
    prompt = _text(_rewrite(row), "prompt")
    if prompt is not None and prompt.count(SLOT) != 1:
        yield Fault("/requested_rewrite/prompt", "slot", show(prompt), f"exactly one {SLOT} for the subject")


def _edge_space(row: Row) -> Iterator[Fault]:
    """A target is put after a prompt and one space: white space at an edge makes that two."""
    rewrite = _rewrite(row)
    spots = [("/requested_rewrite/prompt", _text(rewrite, "prompt"))]
    spots += [(f"/requested_rewrite/{name}/str", _text(rewrite.get(name), "str")) for name in _TARGETS]
    spots += [(f"/{key}/{place}", text) for key in PROMPTS for place, text in _texts(row, key)]
    for path, text in spots:
        if text is not None and text.strip() and text != text.strip():
            yield Fault(path, "edge-space", show(text), "no white space at the ends")


def _same_targets(row: Row) -> Iterator[Fault]:
    """The false object differs from the true one."""
    new, true = (_rewrite(row).get(name) for name in _TARGETS)
    for key in ("id", "str"):
        value = _text(new, key)
        if value is not None and value == _text(true, key):
            path = f"/requested_rewrite/target_new/{key}"
            yield Fault(path, "same-targets", show(value), f"another {key} than target_true's")


def _lacks_subject(row: Row) -> Iterator[Fault]:
    """Paraphrase and generation prompts are about the subject."""
    subject = _text(_rewrite(row), "subject")
    if not subject:
        return
    for key in ("paraphrase_prompts", "generation_prompts"):
        for place, text in _texts(row, key):
            if subject not in text:
                yield Fault(f"/{key}/{place}", "lacks-subject", show(text), f"the subject {show(subject)} in it")


def _duplicate_prompt(row: Row) -> Iterator[Fault]:
    """Within a kind no prompt comes twice; only generation prompts do by design."""
    for key in ("paraphrase_prompts", *ABOUT_OTHERS):
        first: dict[str, int] = {}
        for place, text in _texts(row, key):
            if text in first:
                expected = f"another prompt than number {first[text]}"
                yield Fault(f"/{key}/{place}", "duplicate-prompt", show(text), expected)
            first.setdefault(text, place)


def _own_prompt(row: Row) -> Iterator[Fault]:
    """Prompts about other subjects are not the rewrite or a paraphrase themselves."""
    rewrite = _rewrite(row)
    prompt, subject = _text(rewrite, "prompt"), _text(rewrite, "subject")
    own = {text for _, text in _texts(row, "paraphrase_prompts")}
    if prompt is not None and subject is not None:
        own.add(prompt.replace(SLOT, subject))
    for key in ABOUT_OTHERS:
        for place, text in _texts(row, key):
            if text in own:
                yield Fault(f"/{key}/{place}", "own-prompt", show(text), "a prompt about another subject")


def _meta_lengths(row: Row) -> Iterator[Fault]:
    """`meta` has one entry for each prompt."""
    for name in ("paraphrases", "neighborhood", "attribute"):
        key = f"{name.removesuffix('s')}_prompts"
        entries, prompts = _meta(row).get(name), row.get(key)
        if isinstance(entries, list) and isinstance(prompts, list) and len(entries) != len(prompts):
            expected = f"{len(prompts)}, one for each of {key}"
            yield Fault(f"/meta/{name}", "meta-length", f"{len(entries)} entries", expected)


def _meta_paraphrases(row: Row) -> Iterator[Fault]:
    """A paraphrase is its prefix, one space and its clean form, which names the subject."""
    subject = _text(_rewrite(row), "subject") or ""
    prompts = dict(_texts(row, "paraphrase_prompts"))
    for place, entry in _entries(row, "paraphrases"):
        prefix, clean = _text(entry, "prefix"), _text(entry, "clean")
        if prefix is None or clean is None:
            continue
        path = f"/meta/paraphrases/{place}"
        whole = f"{prefix} {clean}" if prefix else clean
        if place in prompts and prompts[place] != whole:
            yield Fault(path, "meta-paraphrase", show(whole), f"what paraphrase_prompts has: {show(prompts[place])}")
        if subject not in clean:
            yield Fault(f"{path}/clean", "lacks-subject", show(clean), f"the subject {show(subject)} in it")


def _meta_entities(row: Row) -> Iterator[Fault]:
    """Neighbors and attribute entities are not the subject, and no entity is both."""
    subject = _text(_meta(row), "subject_id")
    neighbors = {_text(entry, "entity") for _, entry in _entries(row, "neighborhood")} - {None}
    for name in ("neighborhood", "attribute"):
        for place, entry in _entries(row, name):
            entity, path = _text(entry, "entity"), f"/meta/{name}/{place}/entity"
            if entity is not None and entity == subject:
                yield Fault(path, "own-entity", show(entity), "another entity than the subject")
            if name == "attribute" and entity in neighbors:
                yield Fault(path, "shared-entity", show(entity), "an entity that is not among the neighbors")


def _meta_groups(row: Row) -> Iterator[Fault]:
    """In the groups beyond CounterFact's, targets differ and no prompt comes twice."""
    for name, prompts in _mapping(_meta(row).get("groups")).items():
        first: dict[str, int] = {}
        for place, one in enumerate(map(_mapping, prompts if isinstance(prompts, list) else ())):
            path, text = f"/meta/groups/{name}/{place}", _text(one, "prompt") or ""
            new, true = (_text(one.get(target), "str") for target in _TARGETS)
            if new is not None and new == true:
                yield Fault(f"{path}/target_new/str", "same-targets", show(new), "another str than target_true's")
            if text != text.strip():
                yield Fault(f"{path}/prompt", "edge-space", show(text), "no white space at the ends")
            if first.setdefault(text, place) != place:
                yield Fault(f"{path}/prompt", "duplicate-prompt", show(text), f"another than number {first[text]}")


_TARGETS = ("target_new", "target_true")


def _rewrite(row: Row) -> Row:
    return _mapping(row.get("requested_rewrite"))


def _meta(row: Row) -> Row:
    return _mapping(row.get("meta"))


def _mapping(value: Any) -> Row:
    return value if isinstance(value, dict) else {}


def _text(value: Any, key: str) -> str | None:
    text = _mapping(value).get(key)
    return text if isinstance(text, str) else None


def _texts(row: Row, key: str) -> list[tuple[int, str]]:
    values = row.get(key)
    if not isinstance(values, list):
        return []
    return [(place, value) for place, value in enumerate(values) if isinstance(value, str)]


def _entries(row: Row, name: str) -> list[tuple[int, Row]]:
    values = _meta(row).get(name)
    return list(enumerate(map(_mapping, values))) if isinstance(values, list) else []


RULES: Mapping[str, Rule] = {
    "slot": _slot,
    "edge-space": _edge_space,
    "same-targets": _same_targets,
    "lacks-subject": _lacks_subject,
    "duplicate-prompt": _duplicate_prompt,
    "own-prompt": _own_prompt,
    "meta-length": _meta_lengths,
    "meta-paraphrase": _meta_paraphrases,
    "meta-entity": _meta_entities,
    "meta-groups": _meta_groups,
}
