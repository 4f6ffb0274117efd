"""Interruptions at a chosen moment, as tests of resumed work need them."""

from __future__ import annotations

from cfbuild.progress import Progress


def stopping(task: str, at: int) -> Progress:
    """Return a progress that interrupts the work once `at` of a task, or more, is done."""

    def progress(now: str, done: int, total: int | None) -> None:
        if now == task and done >= at:
            raise KeyboardInterrupt

    return progress
