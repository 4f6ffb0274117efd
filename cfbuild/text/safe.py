"""Texts from elsewhere made safe to print.

Characters that move the cursor or turn the writing direction become visible; passwords and tokens are left out.
"""

from __future__ import annotations

import os
import re

HIDDEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Control characters (terminal escapes begin with one) except tab and line feed, line separators, marks that change the
writing direction, by which a label can look like another, and halves of surrogate pairs."""


def visible(text: str) -> str:
    """Return `text` with each character of HIDDEN as its code point in brackets, such as `[U+202E]`."""
    return HIDDEN.sub(lambda match: f"[U+{ord(match.group()):04X}]", text)


SECRET = re.compile(r"(?<=://)[^/\s@]+(?=@)|\bhf_[A-Za-z0-9]{8,}")
"""A user and password in a URL; a token of the Hub."""
TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
"""The environment variables with a token of the Hub."""
SHORTEST_TOKEN = 8
"""The least characters of a token; to hide a shorter value would hide half of a message."""


def discreet(text: str) -> str:
    """Return `text` with `***` in place of passwords in URLs and of tokens of the Hub."""
    for name in TOKEN_VARIABLES:
        token = os.environ.get(name, "")
        if len(token) >= SHORTEST_TOKEN:
            text = text.replace(token, "***")
    return SECRET.sub("***", text)


def visible_json(text: str) -> str:
    """Return the JSON `text` with each character of HIDDEN as a JSON escape; its value stays the same."""
    return HIDDEN.sub(lambda match: f"\\u{ord(match.group()):04x}", text)
