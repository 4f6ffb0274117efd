"""Reports of progress from long work, and bars that libraries draw turned into such reports."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol


class Progress(Protocol):
    """A function that long work calls with its progress: `done` of `total` (None where unknown) units of `task`."""

    def __call__(self, task: str, done: int, total: int | None) -> None: ...


def silent(task: str, done: int, total: int | None) -> None:
    """Report nothing."""


def no_progress(count: int) -> None:
    """Ignore the number of finished items."""


@dataclass(frozen=True)
class Running:
    """Progress of work that comes in calls, each counted from 0: the counts go on, towards no known total."""

    progress: Progress
    finished: Counter[str] = field(default_factory=Counter)

    def __call__(self, task: str, done: int, total: int | None) -> None:
        self.progress(task, self.finished[task] + done, None)
        if done == total:
            self.finished[task] += done


@contextmanager
def reported_bars(progress: Progress) -> Iterator[None]:
    """While open, report what libraries would draw as bars of tqdm to `progress` instead, on a terminal or not."""
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
