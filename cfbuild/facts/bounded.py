"""A cache of bounded size."""

from __future__ import annotations

from typing import TypeVar

MOST = 50_000
"""The most answers in a cache: about 100 MB in all caches by item, and more than the objects of a usual relation."""

Key = TypeVar("Key")
Answer = TypeVar("Answer")


class Bounded(dict[Key, Answer]):
    """Computed answers by key. When there are MOST, all are dropped; a dropped answer has to be computed again."""

    def __setitem__(self, key: Key, answer: Answer) -> None:
        if len(self) >= MOST:
            self.clear()
        super().__setitem__(key, answer)
