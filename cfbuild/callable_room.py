"""Rooms that are also functions of the public API: `cfbuild.edit` and `cfbuild.score`.

Python sets a package's attribute to a room once the room is imported, whatever stood there, so the room itself must
answer the call.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any


class CallableRoom(ModuleType):
    """A package that, called, is the function of its name in `cfbuild.api`."""

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return getattr(importlib.import_module("cfbuild.api"), self.__name__.rpartition(".")[2])(*arguments, **named)


def make_callable(room: str) -> None:
    """Let the imported package `room` be called as the public function of its name."""
    sys.modules[room].__class__ = CallableRoom
