"""The protocol by which long work reports its progress."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """A function that long work calls with its progress: `done` of `total` (None where unknown) units of `task`."""

    def __call__(self, task: str, done: int, total: int | None) -> None: ...


def silent(task: str, done: int, total: int | None) -> None:
    """Report nothing."""
