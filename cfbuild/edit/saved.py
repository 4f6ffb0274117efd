"""Edits as a safetensors file: written whole, read back bit for bit.

The tensors of edit I are named `I/LAYER/PART/keys` and `I/LAYER/PART/values`, or `.../change` and `.../bias`. The
header's metadata holds everything else as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from cfbuild import __version__
from cfbuild.edit.editor import Edit, State
from cfbuild.errors import DataError
from cfbuild.lm.delta import Change, Delta, Dense, LowRank
from cfbuild.lm.model import Weight

HEADER = "cfbuild"
"""The entry of the file's metadata that says what the tensors are."""
STATE = "state/"
"""The start of the names of the tensors that are an editor's state after the edits."""


def save_edits(path: Path, edits: Sequence[Edit], state: State | None = None) -> None:
    """Write edits to `path`, replacing it whole; `state` is the editor's after them, if they are of a sequence."""
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    for place, edit in enumerate(edits):
        tensors |= _tensors(place, edit.delta)
    tensors |= {f"{STATE}{name}": tensor for name, tensor in (state or {}).items()}
    content = {"cfbuild": __version__, "edits": [_described(edit) for edit in edits]}
    # A single entry, because the library writes several in a random order.
    header = {HEADER: json.dumps(content, allow_nan=False)}
    part = path.with_name(f"{path.name}.part")
    save_file(_unshared(tensors), part, metadata=header)
    part.replace(path)


def load_edits(path: str | Path) -> list[Edit]:
    """Return the edits in the file `path` that `Edit.save` or `--keep-edits` wrote; raises DataError for any other."""
    return load_edits_and_state(path)[0]


def load_edits_and_state(path: str | Path) -> tuple[list[Edit], dict[str, Tensor]]:
    """Return the edits in a file, and the editor's state after them. Raises as `load_edits` does."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as stream:
            described = json.loads((stream.metadata() or {})[HEADER])["edits"]
            # Copied into aligned memory: in a file numbers begin at any multiple of 8 bytes, on which sums' last bits
            # depend.
            tensors = {name: stream.get_tensor(name).clone() for name in stream.keys()}  # noqa: SIM118 - no mapping
        state = {name.removeprefix(STATE): tensors.pop(name) for name in [*tensors] if name.startswith(STATE)}
        changes = _changes(tensors)
        return [_edit(row, changes.get(place)) for place, row in enumerate(described)], state
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: is not a file of edits that can be read ({reason})") from error


def _unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors on the CPU, each in memory of its own: an editor may write one value into many layers."""
    found: dict[str, Tensor] = {}
    memory: set[int] = set()
    for name, tensor in tensors.items():
        unshared = tensor.detach().cpu().contiguous()
        if unshared.untyped_storage().data_ptr() in memory:
            unshared = unshared.clone()
        memory.add(unshared.untyped_storage().data_ptr())
        found[name] = unshared
    return found


def _tensors(place: int, delta: Delta | None) -> dict[str, Tensor]:
    return {
        f"{place}/{weight.layer}/{weight.part}/{name}": tensor
        for weight, change in (delta.changes.items() if delta else ())
        for name, tensor in change.tensors().items()
    }


def _described(edit: Edit) -> dict[str, Any]:
    return {
        "records": list(edit.records),
        "prefix": edit.prefix,
        "statistics": dict(edit.statistics),
        "fault": edit.fault,
        "model": dict(edit.model),
    }


def _changes(tensors: Mapping[str, Tensor]) -> dict[int, dict[Weight, Change]]:
    """Return the changes of each edit that has any, by the edit's index in the file."""
    factors: dict[tuple[int, Weight], dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, layer, part, factor = name.split("/")
        factors.setdefault((int(index), Weight(int(layer), part)), {})[factor] = tensor
    changes: dict[int, dict[Weight, Change]] = {}
    for (place, weight), named in factors.items():
        is_dense = "change" in named
        change = Dense(named["change"], named.get("bias")) if is_dense else LowRank(named["keys"], named["values"])
        changes.setdefault(place, {})[weight] = change
    return changes


def _edit(described: Mapping[str, Any], changes: Mapping[Weight, Change] | None) -> Edit:
    return Edit(**{**described, "records": tuple(described["records"])}, delta=Delta(changes) if changes else None)
