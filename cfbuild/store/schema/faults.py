"""What validation says: a fault inside a row, a row with its place in the file, and a violation, which is both."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cfbuild.text.safe import visible

SHOWN = 120
"""Characters of a value that a violation shows."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong inside one row: `path` is a JSON pointer such as `/paraphrase_prompts/0`."""

    path: str
    rule: str
    got: str
    expected: str


@dataclass(frozen=True, slots=True)
class Located:
    """A row, or what stands in its place if that is no JSON (then `fault` says why), and the line where it starts."""

    line: int
    row: Any = None
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class Violation:
    """A fault with its file, line and case id (None where the row has none)."""

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
    """A value as JSON that any terminal takes, cut to a readable length."""
    text = visible(json.dumps(value, ensure_ascii=False, default=str))
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
