"""Python's collector of garbage, which is told when to look."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused(is_paused: bool = True) -> Iterator[None]:
    """Stop Python's collector of garbage while open; what it would have found, it finds afterwards.

    Objects are freed by their counts of references as before. The collector looks for cycles again and again, the more
    often the more objects are made, and from time to time at all that are kept: of a large relation, millions.
    is_paused: False changes nothing.
    """
    was_enabled = gc.isenabled()
    if is_paused:
        gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
