"""Packages that can be called as functions of the public API: `cfbuild.edit` and `cfbuild.score`.

Once Python imports the package `cfbuild.edit`, the name `edit` in `cfbuild` is the package, even if it was a function
before; so the package itself is made callable.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any


class CallableRoom(ModuleType):
    """A package that calls the function of its own name in `cfbuild.api`."""

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return getattr(importlib.import_module("cfbuild.api"), self.__name__.rpartition(".")[2])(*arguments, **named)


def make_callable(room: str) -> None:
    """Make the imported package named `room`, such as "cfbuild.edit", callable."""
    sys.modules[room].__class__ = CallableRoom
