"""A memory of answers that cannot grow without end."""

from __future__ import annotations

from typing import TypeVar

MOST = 50_000
"""The most answers that are kept: some 100 MB in all memories by item, and more than a relation's usual objects."""

Key = TypeVar("Key")
Answer = TypeVar("Answer")


class Bounded(dict[Key, Answer]):
    """Answers by what was asked, all forgotten when there are MOST: what is asked again is answered alike."""

    def __setitem__(self, key: Key, answer: Answer) -> None:
        if len(self) >= MOST:
            self.clear()
        super().__setitem__(key, answer)
