"""The cost of editing: seconds and memory, measured while editors work.

No two runs measure the same, so costs have a file of their own, `timing.json`, of which no other file holds a digest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cfbuild.errors import DataError
from cfbuild.store.jsonl import read_json


@dataclass(frozen=True, slots=True)
class CallCost:
    """The cost of a call of an editor: the records it edited, its seconds, and the rise of memory (None: not known)."""

    records: int
    seconds: float
    memory_bytes: int | None


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a run's edits, without scoring, contexts, covariances and training.

    `records` were edited by calls of at most `together` records, which took `seconds` in all. `memory_bytes` is the
    highest rise of memory of a call (None: not known), `device` the kind of device, such as cuda.
    """

    records: int
    together: int
    seconds: float
    memory_bytes: int | None
    device: str

    @classmethod
    def of_calls(cls, calls: Iterable[CallCost], device: str) -> Cost | None:
        """Return the cost of a run from that of its calls; None without a call."""
        known = list(calls)
        if not known:
            return None
        return cls(
            records=sum(call.records for call in known),
            together=max(call.records for call in known),
            seconds=sum(call.seconds for call in known),
            memory_bytes=max((call.memory_bytes for call in known if call.memory_bytes is not None), default=None),
            device=device,
        )

    @property
    def seconds_an_edit(self) -> float:
        """Seconds of editing for each record."""
        return self.seconds / self.records

    def as_dict(self) -> dict[str, Any]:
        """Return the cost for JSON."""
        return {**asdict(self), "seconds": round(self.seconds, 6)}


def read_cost(path: Path) -> Cost | None:
    """Return the cost that a run's timing.json holds; None without the file. Raises DataError for other content."""
    if not path.is_file():
        return None
    content = read_json(path)
    try:
        return Cost(
            records=int(content["records"]),
            together=int(content["together"]),
            seconds=float(content["seconds"]),
            memory_bytes=_whole(content["memory_bytes"]),
            device=str(content["device"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: this is not what cfbuild measured ({type(error).__name__}: {error}); delete the file to go on "
            "without costs"
        ) from error


def call_of(row: Mapping[str, Any]) -> CallCost:
    """Return the cost of a call from its object of JSON."""
    return CallCost(int(row["records"]), float(row["seconds"]), _whole(row["memory_bytes"]))


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)
