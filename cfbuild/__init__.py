"""Build CounterFact-style knowledge-editing data, filter it with a language model, score editors on it.

The names in `__all__` are the public API (docs/python.md). Each is imported when it is first used, so that
`import cfbuild` loads no model library.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cfbuild.api import (
        HeatMap,
        Scores,
        edit,
        heat_map,
        nll,
        read_records,
        score,
        trace,
        trace_records,
        write_records,
    )
    from cfbuild.data import Record, Reference
    from cfbuild.edit.editor import Edit
    from cfbuild.edit.saved import load_edits
    from cfbuild.filter.context import Rules
    from cfbuild.lm.load import load as load_model
    from cfbuild.lm.model import LanguageModel
    from cfbuild.probe.effects import AverageEffects, CausalTrace
    from cfbuild.records.factset import FactSet, snapshot
    from cfbuild.records.maker import RecordMaker

__version__ = "0.2.0"

_HOMES = {
    "AverageEffects": "cfbuild.probe.effects:AverageEffects",
    "CausalTrace": "cfbuild.probe.effects:CausalTrace",
    "Edit": "cfbuild.edit.editor:Edit",
    "FactSet": "cfbuild.records.factset:FactSet",
    "LanguageModel": "cfbuild.lm.model:LanguageModel",
    "Record": "cfbuild.data:Record",
    "RecordMaker": "cfbuild.records.maker:RecordMaker",
    "Reference": "cfbuild.data:Reference",
    "Rules": "cfbuild.filter.context:Rules",
    "load_edits": "cfbuild.edit.saved:load_edits",
    "load_model": "cfbuild.lm.load:load",
    "snapshot": "cfbuild.records.factset:snapshot",
}
"""The module and attribute of each name of the API that is neither of _ROOMS nor in `cfbuild.api`."""
_ROOMS = ("edit", "score")
"""The functions that are packages as well (`callable_room.py`)."""

__all__ = [
    "AverageEffects",
    "CausalTrace",
    "Edit",
    "FactSet",
    "HeatMap",
    "LanguageModel",
    "Record",
    "RecordMaker",
    "Reference",
    "Rules",
    "Scores",
    "edit",
    "heat_map",
    "load_edits",
    "load_model",
    "nll",
    "read_records",
    "score",
    "snapshot",
    "trace",
    "trace_records",
    "write_records",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'cfbuild' has no attribute {name!r}")
    if name in _ROOMS:
        return importlib.import_module(f"cfbuild.{name}")
    module, _, attribute = _HOMES.get(name, f"cfbuild.api:{name}").partition(":")
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
