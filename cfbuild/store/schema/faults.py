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
    """A fault inside a row: `path` is a JSON pointer such as `/paraphrase_prompts/0`, `rule` the id of the rule."""

    path: str
    rule: str
    got: str
    expected: str


@dataclass(frozen=True, slots=True)
class Located:
    """A row with the line where it starts, counted from 1; `fault` is set instead of `row` if it is no JSON."""

    line: int
    row: Any = None
    fault: Fault | None = None


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


def show(value: Any) -> str:
    """Return a value as JSON without control characters, cut to SHOWN characters."""
    text = visible(json.dumps(value, ensure_ascii=False, default=str))
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
