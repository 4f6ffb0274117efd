"""The lock by which only one thread at a time changes how a model runs."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any


class ModelLock:
    """A lock that a thread may take again while it holds it. A copy of a model gets its own lock."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type[ModelLock], tuple[()]]:
        return ModelLock, ()  # the system's locks can be neither copied nor pickled


def lock_of(model: Any) -> ModelLock:
    """Return the lock of a torch module, which lives as long as the module and is the same for all that hold it."""
    lock: ModelLock = model.__dict__.setdefault("_cfbuild_lock", ModelLock())  # setdefault on a dict is atomic
    return lock
