"""Text from outside made safe to look at: what would move a cursor or turn the writing direction becomes visible."""

from __future__ import annotations

import re

HIDDEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Control characters (terminal escapes begin with one) but tab and line feed, line separators, the directional marks
and overrides by which a label can show something else than it is, and halves of surrogate pairs."""


def visible(text: str) -> str:
    """`text` with each hidden control as its code point in brackets, such as `[U+202E]`; all else unchanged."""
    return HIDDEN.sub(lambda match: f"[U+{ord(match.group()):04X}]", text)
