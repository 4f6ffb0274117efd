"""The values of validation: a fault inside a row, a row with its line in the file, and a violation, which is both."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cfbuild.text.safe import visible

SHOWN = 120
"""The most characters of a value in a message."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault inside a row: `path` is a JSON pointer such as `/paraphrase_prompts/0`, `rule` the id of the rule.

    `guess` is True if it rests on an entity whose name was read off a prompt.
    """

    path: str
    rule: str
    got: str
    expected: str
    guess: bool = False


@dataclass(frozen=True, slots=True)
class Located:
    """A row with the line where it starts, counted from 1; `fault` is set instead of `row` if it is no JSON.

    `key` is the row's name in a file that is an object of rows, else None. `is_plain` is True where the text that the
    row was read from shows that it can be written again.
    """

    line: int
    row: Any = None
    fault: Fault | None = None
    key: str | None = None
    is_plain: bool = False


@dataclass(frozen=True, slots=True)
class Violation:
    """A fault with its file, line and case id (None if the row has none)."""

    file: Path
    line: int
    case_id: int | None
    path: str
    rule: str
    got: str
    expected: str

    def __str__(self) -> str:
        case = "" if self.case_id is None else f" case {self.case_id}"
        return (
            f"{self.file}:{self.line}:{case} {self.path or '/'}: {self.rule}: got {self.got}; expected {self.expected}"
        )


def pointer(path: str, key: str) -> str:
    """Return the JSON pointer to `key` of the object at `path`."""
    return f"{path}/{key.replace('~', '~0').replace('/', '~1')}"


def keys_of(path: str) -> list[str]:
    """Return the keys and numbers that a JSON pointer is made of."""
    return [key.replace("~1", "/").replace("~0", "~") for key in path.split("/")[1:]]


def show(value: Any) -> str:
    """Return a value as JSON without control characters, cut to SHOWN characters."""
    text = visible(json.dumps(value, ensure_ascii=False, default=str))
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
