"""The values of validation: a fault in a row, a row with its line in the file, and a violation, a fault in a file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cfbuild.text.safe import visible

SHOWN = 120
"""The most characters of a value in a message: about a line."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault in a row: what a rule got and what it expected at a place of the row.

    `path` is the place as a JSON pointer such as `/paraphrase_prompts/0`, `rule` the id of the rule. `guess` is True
    if the fault depends on a name that was read off a prompt.
    """

    path: str
    rule: str
    got: str
    expected: str
    guess: bool = False


@dataclass(frozen=True, slots=True)
class Located:
    """A row and the line where it starts, counted from 1; `fault` instead of the row if there is no JSON.

    `key` is the row's name in a file that is an object of rows, else None. `is_plain` is True if the row's text shows
    that it can be written again.
    """

    line: int
    row: Any = None
    fault: Fault | None = None
    key: str | None = None
    is_plain: bool = False


@dataclass(frozen=True, slots=True)
class Violation:
    """A fault of a row with the file, the line and the case id (None if the row has none)."""

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
    """Return the keys and numbers of the JSON pointer `path`."""
    return [key.replace("~1", "/").replace("~0", "~") for key in path.split("/")[1:]]


def show(value: Any) -> str:
    """Return `value` as JSON for a message: control characters visible, at most SHOWN characters."""
    text = visible(json.dumps(value, ensure_ascii=False, default=str))
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
