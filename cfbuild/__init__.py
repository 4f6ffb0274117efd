"""Build CounterFact-style knowledge-editing data, filter it with a language model, score editors on it.

The names below are the public API (`api.py`, docs/python.md). They are imported when they are first asked for, so that
`import cfbuild` loads no model library.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cfbuild.api import (
        Edit,
        FactSet,
        LanguageModel,
        Record,
        RecordMaker,
        Reference,
        Rules,
        Scores,
        edit,
        load_edits,
        load_model,
        nll,
        read_records,
        score,
        snapshot,
        write_records,
    )

__version__ = "0.1.0"

_HOMES = {
    "FactSet": "cfbuild.records.factset",
    "Record": "cfbuild.data",
    "RecordMaker": "cfbuild.records.maker",
    "Reference": "cfbuild.data",
    "Rules": "cfbuild.filter.context",
    "snapshot": "cfbuild.records.factset",
}
"""Names that need no model library, and the modules they come from; the others come from `cfbuild.api`."""
_ROOMS = ("edit", "score")
"""Functions that are rooms as well (`callable_room.py`)."""

__all__ = [
    "Edit",
    "FactSet",
    "LanguageModel",
    "Record",
    "RecordMaker",
    "Reference",
    "Rules",
    "Scores",
    "edit",
    "load_edits",
    "load_model",
    "nll",
    "read_records",
    "score",
    "snapshot",
    "write_records",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'cfbuild' has no attribute {name!r}")
    if name in _ROOMS:
        return importlib.import_module(f"cfbuild.{name}")
    value = getattr(importlib.import_module(_HOMES.get(name, "cfbuild.api")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
