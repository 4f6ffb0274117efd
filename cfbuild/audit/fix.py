"""Cleaning of a file: its rows without the faults that an audit found, in the file's own form, and the changes."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from cfbuild.audit.reader import ANSWER_KEYS, PROMPT_KEYS, CaseId, value_at
from cfbuild.audit.row import RecordParts, parts_of
from cfbuild.audit.rulebook import violations_in
from cfbuild.audit.violations import PROMPTS_OF
from cfbuild.store import jsonl
from cfbuild.store.files import atomic
from cfbuild.store.schema.faults import Fault, Located, keys_of
from cfbuild.store.schema.located import FileForm

UNPREFIXED = frozenset({"prefix-fragment", "prefix-mention"})
"""Rules whose faults are mended by removing a paraphrase's prefix."""
NEEDED = frozenset({("paraphrase_prompts",), ("generation_prompts",)})
"""Lists of prompts that a row must have."""
BRACKETS: Mapping[FileForm, tuple[str, str]] = {"array": ("[", "]"), "object": ("{", "}")}
"""The brackets around rows, by the forms that have them."""

Note = dict[str, Any]
ListPlace = tuple[str, ...]
"""The keys that lead to a list of prompts in a row: ("locality", "Forgetfulness")."""


@dataclass(frozen=True, slots=True)
class Cleaning:
    """The options of cleaning a file: its form (`LocatedRows.form`), and if faults that are guesses are mended too."""

    form: FileForm
    guesses: bool = False


@dataclass(frozen=True, slots=True)
class Mended:
    """A row without its own faults: its `text` in the form of the file (None if it is dropped), and the changes.

    is_final: True if one of its own faults drops it, so that other rows do not matter.
    """

    text: str | None
    notes: list[Note]
    case_id: CaseId | None = None
    is_final: bool = False

    def without(self, faults: Sequence[Fault]) -> Mended:
        """Return the row without its faults in view of earlier rows: dropped if there are any."""
        return self if self.is_final or not faults else Mended(None, [_note("drop-row", faults[0])], self.case_id)


def mended(located: Located, parts: RecordParts | None, faults: Sequence[Fault], cleaning: Cleaning) -> Mended:
    """Return a row without its faults; `parts` is None for a row that was not read whole, which is dropped."""
    if parts is None:
        return Mended(None, [_note("drop-row", faults[0])], is_final=True)
    certain = [fault for fault in faults if cleaning.guesses or not fault.guess]
    fatal = next((fault for fault in certain if _is_fatal(parts, fault)), None)
    if fatal is not None:
        return Mended(None, [_note("drop-row", fatal)], parts.case_id, is_final=True)
    row, notes = _mend(parts, certain)
    return Mended(None if row is None else _written(row, located.key, cleaning.form), notes, parts.case_id)


def _written(row: Any, key: str | None, form: FileForm) -> str:
    """Return a row's text in a file of the form: a line, or an indented entry; `key` is that in an object of rows."""
    if form not in BRACKETS:
        return jsonl.dump_row(row) + "\n"
    text = jsonl.dump_indented(row).replace("\n", "\n ")
    return text if form == "array" else f"{jsonl.dump_indented(key or '')}: {text}"


class CleanedFile:
    """A cleaned file that is written row by row, with each change in its .changes.jsonl.

    Arrays and objects of rows are written as such, any other form as JSON lines. written: the number of rows so far.
    """

    def __init__(self, rows: TextIO, changes: TextIO, form: FileForm) -> None:
        self.written = 0
        self._rows, self._changes = rows, changes
        self._opening, self._closing = BRACKETS.get(form, ("", ""))

    def add(self, line: int, row: Mended) -> None:
        """Add the row that begins on `line`, or only its changes if it is dropped."""
        for note in row.notes:
            self._changes.write(jsonl.dump_row({"line": line, "case_id": row.case_id, **note}) + "\n")
        if row.text is not None:
            before = "" if not self._opening else ",\n " if self.written else f"{self._opening}\n "
            self._rows.write(before + row.text)
            self.written += 1

    def finish(self) -> None:
        """Write the end."""
        if self._opening:
            self._rows.write(("\n" if self.written else self._opening) + self._closing + "\n")


@contextmanager
def cleaned_file(path: Path, form: FileForm) -> Iterator[CleanedFile]:
    """Yield the file to add rows to; it and its changes are put in place, whole, at the end."""
    changes = path.with_name(path.name + ".changes.jsonl")
    with atomic(changes) as notes, atomic(path) as rows:
        cleaned = CleanedFile(rows, notes, form)
        yield cleaned
        cleaned.finish()


def _mend(parts: RecordParts, faults: Sequence[Fault]) -> tuple[Any, list[Note]]:
    """Return the row (None if a needed list were empty) without its faults, none fatal, and a note for each change."""
    row = copy.deepcopy(dict(parts.row))
    removed: dict[ListPlace, set[int]] = {}
    notes = []
    for fault in faults:
        group, place = _place(parts.row, fault.path)
        if fault.rule == "repeated-generation":
            notes.append(_note("remove-repeats", fault))
        elif fault.rule in UNPREFIXED and place not in removed.get(group, ()):
            _strip_prefix(row, parts, fault.path)
            notes.append(_note("remove-prefix", fault))
        elif place is not None:
            removed.setdefault(group, set()).add(place)
            notes.append(_note("remove-prompt", fault))
        else:
            removed.setdefault(_kind(fault.path) or group, set())
            notes.append(_note("remove-prompt", fault))
    # Inner lists first: places are counted before anything around them is removed.
    for group, places in sorted(removed.items(), key=lambda item: -len(item[0])):
        _remove(row, group, places)
        if group in NEEDED and not value_at(row, group):
            return None, [_note("drop-row", next(one for one in faults if _place(parts.row, one.path)[0] == group))]
    if any(note["change"] == "remove-repeats" for note in notes):
        row["generation_prompts"] = list(dict.fromkeys(row["generation_prompts"]))
    # A paraphrase without its prefix may equal another prompt of the row.
    violations = violations_in(rest) if faults and (rest := parts_of(row)) is not None else []
    return (None, [_note("drop-row", violations[0])]) if violations else (row, notes)


def _is_fatal(parts: RecordParts, fault: Fault) -> bool:
    """Return True if only dropping the row mends a fault: it is in no list of prompts and in no kind of them."""
    if fault.rule == "repeated-generation" or fault.rule in UNPREFIXED:
        return False
    return _place(parts.row, fault.path)[1] is None and _kind(fault.path) is None


def _strip_prefix(row: Mapping[str, Any], parts: RecordParts, path: str) -> None:
    """Replace the paraphrase at `path` by its clean form, and its prefix in `meta` by an empty text."""
    number = next(n for n, prompt in enumerate(parts.group("paraphrase")) if prompt.path == path)
    *group, key = keys_of(path)
    holder = value_at(row, group)
    holder[int(key) if isinstance(holder, list) else key] = parts.split(number)[1]
    details = (row.get("meta") or {}).get("paraphrases")
    if details:
        details[number]["prefix"] = ""


def _remove(row: Any, group: ListPlace, places: set[int]) -> None:
    """Remove prompts from a list and the entries for them elsewhere; without `places` remove the whole group."""
    holder, name = value_at(row, group[:-1]), group[-1]
    if not places:
        del holder[name]
        return
    for values in (value_at(row, group), *_parallel_lists(row, group)):
        values[:] = [value for place, value in enumerate(values) if place not in places]
    if group[:-1] == ("meta", "groups") and not holder[name]:
        del holder[name]


def _parallel_lists(row: Any, group: ListPlace) -> Iterator[list[Any]]:
    """Yield the lists with an entry for each prompt of a list: those of `meta`, answers, and measured values."""
    prompts = value_at(row, group)
    meta = row.get("meta") or {}
    yield from (meta[name] for name, key in PROMPTS_OF.items() if group == (key,) and name in meta)
    yield from (values for other in _answer_groups(row, group) if _is_parallel(values := value_at(row, other), prompts))
    if group[0] == "requested_rewrite" and len(group) > 2:
        for stage in ("pre", "post"):
            measured = row.get(stage)
            of_kinds = measured.get(group[1]) if isinstance(measured, dict) else None
            for name, values in of_kinds.items() if isinstance(of_kinds, dict) else ():
                if name.startswith(f"{group[2]}_") and _is_parallel(values, prompts):
                    yield values


def _answer_groups(row: Any, group: ListPlace) -> Iterator[ListPlace]:
    """Yield the places of the lists of answers to a list of prompts."""
    for depth, key in enumerate(group):
        if key in PROMPT_KEYS:
            holder = value_at(row, group[:depth])
            yield from ((*group[:depth], other, *group[depth + 1 :]) for other in ANSWER_KEYS if other in holder)


def _is_parallel(values: Any, prompts: list[Any]) -> bool:
    return isinstance(values, list) and len(values) == len(prompts)


def _place(row: Any, path: str) -> tuple[ListPlace, int | None]:
    """Return the list of prompts that a fault is in and the prompt's number there, or None for it if there is no list.

    path: a JSON pointer into the row; that of an answer or of an entry in `meta` leads to the prompt.
    """
    keys, whole = tuple(keys_of(path)), row
    group, place = keys, None
    for depth, key in enumerate(keys):
        if isinstance(row, list) and key.isdecimal():  # a list may stand where an object is expected
            group, place = keys[:depth], int(key)
            row = row[place] if place < len(row) else None
        else:
            row = row.get(key) if isinstance(row, dict) else None
    if group[:1] == ("meta",) and len(group) == 2 and group[1] in PROMPTS_OF:
        group = (PROMPTS_OF[group[1]],)
    for depth, key in enumerate(group):
        if key in ANSWER_KEYS and place is not None:
            holder = value_at(whole, group[:depth])
            prompt_keys = (one for one in PROMPT_KEYS if isinstance(holder, dict) and one in holder)
            group = (*group[:depth], next(prompt_keys, key), *group[depth + 1 :])  # answers may have no prompts
    return group, place


def _kind(path: str) -> ListPlace | None:
    """Return the place of the kind of locality or portability that a fault is in, or None."""
    keys = tuple(keys_of(path))
    for depth, key in enumerate(keys[:2]):
        if key in ("locality", "portability"):
            has_name = len(keys) > depth + 1 and keys[depth + 1] not in (*PROMPT_KEYS, *ANSWER_KEYS)
            return keys[: depth + 1 + has_name]
    return None


def _note(change: str, fault: Fault) -> Note:
    return {"change": change, "rule": fault.rule, "path": fault.path, "got": fault.got, "expected": fault.expected}
