"""The protocol by which long work tells how far it is."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """How long work tells what it is doing: `done` of `total` (None where unknown) units of `task`."""

    def __call__(self, task: str, done: int, total: int | None) -> None: ...


def silent(task: str, done: int, total: int | None) -> None:
    """A Progress that tells nobody."""
