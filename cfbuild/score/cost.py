"""The cost of editing: seconds and memory, measured while editors work. No two runs measure the same.

So they are in a file of their own, `timing.json`, of which neither the manifest nor another file holds a digest.
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
    """The cost of one call of an editor: the records it edited, seconds, and the rise of memory, None if not known."""

    records: int
    seconds: float
    memory_bytes: int | None


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a run's edits: `records` in calls of at most `together`, seconds in all, and the most memory.

    Without scoring, and without what editors are supplied with: contexts, covariances, training. `device` is the kind
    of device.
    """

    records: int
    together: int
    seconds: float
    memory_bytes: int | None
    device: str

    @classmethod
    def of_calls(cls, calls: Iterable[CallCost], device: str) -> Cost | None:
        """Return the cost of a run from that of its calls, or None if there are none."""
        given = list(calls)
        if not given:
            return None
        peaks = [one.memory_bytes for one in given if one.memory_bytes is not None]
        return cls(
            records=sum(one.records for one in given),
            together=max(one.records for one in given),
            seconds=sum(one.seconds for one in given),
            memory_bytes=max(peaks, default=None),
            device=device,
        )

    @property
    def seconds_an_edit(self) -> float:
        """Seconds of editing for each record."""
        return self.seconds / self.records

    def as_dict(self) -> dict[str, Any]:
        """Return the cost as an object of JSON."""
        return {**asdict(self), "seconds": round(self.seconds, 6)}


def read_cost(path: Path) -> Cost | None:
    """Return the cost that a run's timing.json holds; None without the file. Raises DataError for another content."""
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
        raise DataError(f"{path}: holds no measurement of cfbuild ({error}); delete it to go without") from error


def call_of(row: Mapping[str, Any]) -> CallCost:
    """Return the cost of a call from its object of JSON."""
    return CallCost(int(row["records"]), float(row["seconds"]), _whole(row["memory_bytes"]))


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)
