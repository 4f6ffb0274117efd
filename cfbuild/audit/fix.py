"""Cleaning of a file: its rows without the faults that an audit found, in the file's own form, and the changes."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cfbuild.audit.meta import BESIDE
from cfbuild.audit.row import RecordParts, parts_of
from cfbuild.audit.rulebook import violations_in
from cfbuild.store import jsonl
from cfbuild.store.schema.faults import Fault, Located

UNPREFIXED = frozenset({"prefix-fragment", "prefix-mention"})
"""Rules whose faults are mended by removing the prefix: the paraphrase's clean form is kept."""
NEEDED = frozenset({"paraphrase_prompts", "generation_prompts"})
"""Lists of prompts without which a row is useless."""

Note = dict[str, Any]


def clean_file(
    source: Path,
    target: Path,
    rows: Sequence[Located],
    parts: Sequence[RecordParts | None],
    found: Sequence[Sequence[Fault]],
) -> int:
    """Return the number of rows left, after writing them to `target` and each change to its .changes.jsonl.

    `source` shows whether `target` becomes a JSON array or JSON lines. `parts` and `found` are the rows' parts (None
    to drop a row) and faults, in the order of `rows`.
    """
    kept: list[Any] = []
    changes: list[Note] = []
    for located, record, faults in zip(rows, parts, found, strict=True):
        row, notes = (None, [_note("drop-row", faults[0])]) if record is None else mend(record, faults)
        case_id = record.case_id if record else None
        changes += [{"line": located.line, "case_id": case_id, **note} for note in notes]
        if row is not None:
            kept.append(row)
    with source.open("rb") as stream:
        array = stream.read(4).removeprefix(jsonl.BOM)[:1] == b"["
    if array:
        jsonl.write_json(target, kept)
    else:
        jsonl.write_jsonl(target, kept)
    jsonl.write_jsonl(target.with_name(target.name + ".changes.jsonl"), changes)
    return len(kept)


def mend(parts: RecordParts, faults: Sequence[Fault]) -> tuple[Any, list[Note]]:
    """Return the row without its faults, or None if too little would be left, and a note for each change."""
    row = copy.deepcopy(dict(parts.row))
    removed: dict[str, set[int]] = {}
    notes = []
    for fault in faults:
        group, place = _place(row, fault.path)
        if fault.rule == "repeated-generation":
            notes.append(_note("remove-repeats", fault))
        elif place is None:
            return None, [_note("drop-row", fault)]
        elif fault.rule in UNPREFIXED and place not in removed.get(group, ()):
            row[group][place] = _strip_prefix(row, parts, place)
            notes.append(_note("remove-prefix", fault))
        else:
            removed.setdefault(group, set()).add(place)
            notes.append(_note("remove-prompt", fault))
    for group, places in removed.items():
        _remove(row, group, places)
        if group in NEEDED and not row[group]:
            return None, [
                _note("drop-row", next(fault for fault in faults if _place(parts.row, fault.path)[0] == group))
            ]
    if any(note["change"] == "remove-repeats" for note in notes):
        row["generation_prompts"] = list(dict.fromkeys(row["generation_prompts"]))
    # A paraphrase without its prefix may equal another prompt of the row.
    left = violations_in(mended) if faults and (mended := parts_of(row)) is not None else []
    return (None, [_note("drop-row", left[0])]) if left else (row, notes)


def _strip_prefix(row: Mapping[str, Any], parts: RecordParts, place: int) -> str:
    """Return the clean form of a paraphrase, and set its prefix in `meta` to the empty text."""
    details = (row.get("meta") or {}).get("paraphrases")
    if details:
        details[place]["prefix"] = ""
    return parts.split(place)[1]


def _remove(row: Mapping[str, Any], group: str, places: set[int]) -> None:
    """Remove prompts from a list together with their entries in `meta`; remove a group of `meta` that becomes empty."""
    meta = row.get("meta") or {}
    beside = [meta[name] for name, prompts in BESIDE.items() if group == prompts and name in meta]
    for values in (_list(row, group), *beside):
        values[:] = [value for place, value in enumerate(values) if place not in places]
    holder, _, name = group.rpartition("/")
    if holder == "meta/groups" and not meta["groups"][name]:
        del meta["groups"][name]


def _list(row: Any, group: str) -> list[Any]:
    """Return the list at a place in the row, such as `locality/Forgetfulness`."""
    for key in group.split("/"):
        row = row[key]
    found: list[Any] = row
    return found


def _place(row: Any, path: str) -> tuple[str, int | None]:
    """Return the list of prompts that a fault is in and the prompt's number; None for a fault that is in no list.

    path: a JSON pointer into the row; a prompt's entry in `meta` leads to that prompt.
    """
    keys = path[1:].split("/")
    for depth, key in enumerate(keys):
        group = "/".join(keys[:depth])
        if isinstance(row, list):
            group = BESIDE.get(group.removeprefix("meta/"), group) if group.startswith("meta/") else group
            return group, int(key) if key.isdecimal() else None
        row = row.get(key) if isinstance(row, dict) else None
    return path[1:], None


def _note(change: str, fault: Fault) -> Note:
    return {"change": change, "rule": fault.rule, "path": fault.path, "got": fault.got, "expected": fault.expected}
