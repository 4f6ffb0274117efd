"""A row of any file with its parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cfbuild.audit.foreign import FORMATS, foreign_format, is_unknown
from cfbuild.audit.row import RecordParts, parts_of
from cfbuild.store.schema import writing_faults
from cfbuild.store.schema.faults import Fault, Located, show


@dataclass(frozen=True, slots=True)
class AuditedRow:
    """A row with its parts (None if it has none); `misread` are the faults of parts that could not be read."""

    located: Located
    parts: RecordParts | None
    misread: tuple[Fault, ...] = ()

    @classmethod
    def of(cls, located: Located) -> AuditedRow:
        """Return a located row with its parts."""
        parts = parts_of(located.row)
        return cls(located, parts, tuple(_misread(located, parts)))

    @property
    def whole(self) -> RecordParts | None:
        """Return the parts if the row was read whole, or None."""
        return None if self.misread else self.parts


def _misread(located: Located, parts: RecordParts | None) -> Iterator[Fault]:
    """Yield the faults of a row that cannot be read whole: no JSON, not writable again, or of no known format."""
    if located.fault is not None:
        yield located.fault
        return
    row = located.row if isinstance(located.row, dict) else {"": located.row}
    unwritable = [] if located.is_plain else list(writing_faults(row))
    yield from unwritable
    if unwritable:
        return
    foreign = foreign_format(located.row)
    if foreign is not None:
        yield Fault("", "row-format", foreign.what, foreign.advice)
    elif parts is None or is_unknown(located.row):
        yield Fault("", "row-format", show(located.row), FORMATS)
    else:
        yield from parts.unread
