"""Reports of the progress of long work; the bars that libraries draw become such reports."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol


class Progress(Protocol):
    """A function that gets the progress of long work: of `task`, `done` of `total` units (None: unknown) are finished.

    `task` is the name that a bar shows, such as "records".
    """

    def __call__(self, task: str, done: int, total: int | None) -> None: ...


def silent(task: str, done: int, total: int | None) -> None:
    """Ignore the progress of a task: `done` of `total` units."""


def no_progress(count: int) -> None:
    """Ignore the `count` of finished items."""


@dataclass(frozen=True)
class Running:
    """A progress function for work in several parts, each counted from 0; it reports the sum, without a total."""

    progress: Progress
    finished: Counter[str] = field(default_factory=Counter)

    def __call__(self, task: str, done: int, total: int | None) -> None:
        self.progress(task, self.finished[task] + done, None)
        if done == total:
            self.finished[task] += done


@contextmanager
def reported_bars(progress: Progress) -> Iterator[None]:
    """Report the bars that libraries draw by tqdm to `progress` instead, as long as the context is open."""
    from tqdm.std import tqdm

    begin, draw = tqdm.__init__, tqdm.display

    def begin_reported(bar: Any, *given: Any, **named: Any) -> None:
        begin(bar, *given, **{**named, "disable": progress is silent, "file": io.StringIO()})

    def report(bar: Any, *given: Any, **named: Any) -> None:
        progress(bar.desc.strip(" .:") or "working", int(bar.n), None if bar.total is None else int(bar.total))

    tqdm.__init__, tqdm.display = begin_reported, report
    try:
        yield
    finally:
        tqdm.__init__, tqdm.display = begin, draw
