"""Lenient reading of a row's values: for a value of a wrong type a fault is noted and an empty value is returned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from cfbuild.data import Target
from cfbuild.store.schema.faults import Fault, pointer, show

CaseId = int | float | str
"""The id of a row: a number, or in files of other makers a text."""
PROMPT_KEYS = ("prompt", "New Question", "question")
ANSWER_KEYS = ("ground_truth", "New Answer", "answer", "answers")
"""Keys of an entry's prompt and answers: KnowEdit's, then those of EasyEdit's older portability files, then others'."""
NO_ANSWER = frozenset({"", "<|endoftext|>"})
"""Answers that say nothing: EasyEdit writes the second where no ground truth was given."""


class Prompt(NamedTuple):
    """A prompt with its place in the row, a JSON pointer. A tuple, since a row has some sixty and speed matters.

    entity: the id of the entity that it is about; empty if unknown.
    answers: its own answers; empty if they are the row's targets. answers_path: their place.
    """

    path: str
    text: str
    entity: str = ""
    answers: tuple[str, ...] = ()
    answers_path: str = ""

    @property
    def number(self) -> str:
        """Return the prompt's number in its list, as text; 0 if the format has no list there."""
        return next((key for key in reversed(self.path.split("/")) if key.isdecimal()), "0")


class Reader:
    """A reader of a row's values; `unread` are the faults of values of a wrong type.

    Its methods take the `value` at a place, a JSON pointer `path`, or None. `optional` values may be None.
    """

    def __init__(self) -> None:
        self.unread: list[Fault] = []

    def refuse(self, value: Any, path: str, expected: str) -> None:
        """Add a fault of the value at `path`, of which `expected` says what it should be."""
        self.unread.append(Fault(path, "row-format", "nothing" if value is None else show(value), expected))

    def text(self, value: Any, path: str, optional: bool = False) -> str:
        """Return a text; an empty one for None if `optional`."""
        if isinstance(value, str):
            return value
        if value is not None or not optional:
            self.refuse(value, path, "a text or null" if optional else "a text")
        return ""

    def mapping(self, value: Any, path: str, optional: bool = False) -> Mapping[str, Any]:
        """Return an object; an empty one for None if `optional`."""
        if isinstance(value, dict):
            return value
        if value is not None or not optional:
            self.refuse(value, path, "an object or null" if optional else "an object")
        return {}

    def entries(self, value: Any, path: str) -> list[Any]:
        """Return a list; an empty one for None."""
        if isinstance(value, list):
            return value
        if value is not None:
            self.refuse(value, path, "a list")
        return []

    def number(self, value: Any, path: str) -> None:
        """Add a fault if a value is neither a number nor None."""
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            self.refuse(value, path, "a number or null")

    def case_id(self, value: Any, path: str) -> CaseId | None:
        """Return a case id, or None."""
        if value is not None and (isinstance(value, bool) or not isinstance(value, CaseId)):
            self.refuse(value, path, "a number, or a text")
            return None
        return value

    def target(self, value: Any, path: str, optional: bool = False) -> Target:
        """Return the target in `value`, an object with `str` and `id`, text or a list of names; None if `optional`."""
        while isinstance(value, list):
            value = value[0] if value else None
        if isinstance(value, dict):
            return Target(*self._named(value, path))
        label = self.text(value, path, optional)
        return Target("", "" if label in NO_ANSWER else label)

    def _named(self, value: Mapping[str, Any], path: str) -> tuple[str, str]:
        """Return the id and the name of a target."""
        id_, name = value.get("id"), value.get("str")
        # Targets are read the most often: a path is made only for a fault.
        if isinstance(id_, str) and isinstance(name, str):
            return id_, name
        return self.text(id_, f"{path}/id", optional=True), self.text(name, f"{path}/str")

    def texts(self, entry: Mapping[str, Any], keys: Sequence[str], path: str) -> list[str]:
        """Return the optional texts of an entry at `keys`."""
        found: list[str] = []
        for key in keys:
            value = entry.get(key)
            found.append(value if isinstance(value, str) else self.text(value, f"{path}/{key}", optional=True))
        return found

    def prompts(self, texts: Any, path: str, entities: Sequence[str] = ()) -> Iterator[Prompt]:
        """Yield the prompts in the list `texts`; `entities` are their entities' ids, as far as they are known."""
        for place, value in enumerate(self.entries(texts, path)):
            if isinstance(value, str):
                yield Prompt(f"{path}/{place}", value, entities[place] if place < len(entities) else "")
            else:
                self.refuse(value, f"{path}/{place}", "a text")

    def few(self, value: Any, base: str, key: str) -> Iterator[Prompt]:
        """Yield the prompts in `value`, a text, a list of texts, or None; it is at `key` of the object at `base`."""
        path = f"{base}/{key}"
        if isinstance(value, str):
            yield Prompt(path, value)
        elif isinstance(value, list):
            yield from self.prompts(value, path)
        elif value is not None:
            self.refuse(value, path, "a text, a list of texts, or null")

    def groups(self, groups: Any, path: str, keys: Sequence[str]) -> Iterator[tuple[str, tuple[Prompt, ...]]]:
        """Yield (path, prompts) for each of `groups`, as in `meta.groups`; `keys` are those of an entry's answers."""
        for name, entries in self.mapping(groups, path, optional=True).items():
            place = pointer(path, name)
            found = tuple(
                prompt
                for number, entry in enumerate(self.entries(entries, place))
                for prompt in self._group_entry(entry, f"{place}/{number}", keys)
            )
            if found:
                yield place, found

    def _group_entry(self, value: Any, path: str, keys: Sequence[str]) -> Iterator[Prompt]:
        entry = self.mapping(value, path)
        answers = tuple(self.target(entry.get(key), f"{path}/{key}", optional=True).label for key in keys)
        self.texts(entry, ("entity", "relation_id", "template"), path)
        text = self.text(entry.get("prompt"), f"{path}/prompt")
        if text:
            yield Prompt(f"{path}/prompt", text, answers=tuple(filter(None, answers)), answers_path=path)

    def answered(self, kinds: Any, path: str) -> Iterator[tuple[str, tuple[Prompt, ...]]]:
        """Yield (path, prompts) for each of `kinds`, as in EasyEdit's `locality` and `portability`.

        A kind is a prompt, an entry (an object with a prompt and its answers, or with a list of prompts and a list of
        their answers), or nested lists of either. `kinds` may also be a single kind without a name.
        """
        if isinstance(kinds, dict) and not _prompt_key(kinds):
            for name, found in kinds.items():
                yield from self._kind(found, pointer(path, name))
        else:
            yield from self._kind(kinds, path)

    def _kind(self, found: Any, path: str) -> Iterator[tuple[str, tuple[Prompt, ...]]]:
        prompts = tuple(self._prompts_in(found, path))
        if prompts:
            yield path, prompts

    def _prompts_in(self, found: Any, path: str) -> Iterator[Prompt]:
        """Yield the prompts of a kind, with their answers."""
        if isinstance(found, list):
            for number, part in enumerate(found):
                yield from self._prompts_in(part, f"{path}/{number}")
        elif isinstance(found, dict) and (key := _prompt_key(found)):
            answer = next((name for name in ANSWER_KEYS if name in found), ANSWER_KEYS[0])
            yield from self._paired(found[key], pointer(path, key), found.get(answer), pointer(path, answer))
        elif isinstance(found, dict):
            for name, part in found.items():
                yield from self._prompts_in(part, pointer(path, name))
        else:
            yield from self._paired(found, path, None, "")

    def _paired(self, texts: Any, path: str, answers: Any, answers_path: str) -> Iterator[Prompt]:
        """Yield the prompt of a text with its answer, or the prompts of a list of texts with as many answers."""
        if not isinstance(texts, list):
            label = self.target(answers, answers_path, optional=True).label
            if not (texts is None or texts == "") or label:
                text = self.text(texts, path)
                if text:
                    yield Prompt(path, text, answers=(label,) if label else (), answers_path=answers_path)
            return
        each = isinstance(answers, list) and len(answers) == len(texts)
        if answers is not None and not each and len(texts) > 1:
            self.refuse(answers, answers_path, f"a list of {len(texts)} answers, one for each prompt")
            answers = None
        for number, text in enumerate(texts):
            own, place = (answers[number], f"{answers_path}/{number}") if each else (answers, answers_path)
            yield from self._paired(text, f"{path}/{number}", own, place)


def value_at(row: Any, keys: Sequence[str]) -> Any:
    """Return the value to which `keys` lead in a row, as those of a JSON pointer."""
    for key in keys:
        row = row[int(key)] if isinstance(row, list) else row[key]
    return row


def _prompt_key(entry: Mapping[str, Any]) -> str | None:
    return next((key for key in PROMPT_KEYS if key in entry), None)
