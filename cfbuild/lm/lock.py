"""The lock of a model: it lets one thread at a time change how the model runs."""

from __future__ import annotations

import threading
from typing import Any


class ModelLock:
    """A lock that a thread may take again while it holds it. A copy of a model gets its own lock."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type[ModelLock], tuple[()]]:
        return ModelLock, ()  # the system's locks can be neither copied nor pickled


def lock_of(model: Any) -> ModelLock:
    """Return the lock of a torch module: always the same one, made at the first call."""
    lock: ModelLock = model.__dict__.setdefault("_cfbuild_lock", ModelLock())  # setdefault on a dict is atomic
    return lock
