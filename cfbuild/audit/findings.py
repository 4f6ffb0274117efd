"""The faults of a whole file: of each row by itself, and in view of the rows before it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from cfbuild.audit.evidence import AuditContext
from cfbuild.audit.foreign import FORMATS, foreign_format, is_unknown
from cfbuild.audit.mentions import Templates
from cfbuild.audit.row import RecordParts, parts_of
from cfbuild.audit.rulebook import EarlierRows, faults_in, violations_in
from cfbuild.progress import Progress, silent
from cfbuild.store.schema import writing_faults
from cfbuild.store.schema.faults import Fault, Located, show


@dataclass(frozen=True, slots=True)
class AuditedRow:
    """A row with its parts (None if it has none); `misread` holds the faults because of which they are not whole."""

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
        """The parts of a row that was read whole; None for any other."""
        return None if self.misread else self.parts


def learned_templates(whole: Iterable[RecordParts | None]) -> Templates:
    """Return the templates that a file's rewrites and paraphrases show; rows without parts (None) are passed over."""
    templates = Templates()
    for parts in whole:
        if parts is not None:
            clean = [(parts.split(place)[1], parts.subject) for place in range(len(parts.group("paraphrase")))]
            templates.learn(parts.relation, parts.template, clean)
    return templates


def find_faults(
    rows: Sequence[AuditedRow], context: AuditContext, progress: Progress = silent
) -> Iterator[list[Fault]]:
    """Yield the faults of each row, in the order of the file.

    A row that is not whole is checked for violations as far as it can be read, so that validation finds no more.
    `progress` is called with "rows", the rows done and the number of rows.
    """
    earlier = EarlierRows()
    for place, row in enumerate(rows):
        if place % 1000 == 0:
            progress("rows", place, len(rows))
        found = list(row.misread)
        if row.whole is not None:
            found += [*faults_in(row.whole, context), *earlier.conflicting_edit(row.whole, row.located.line)]
        elif row.parts is not None:
            found += violations_in(row.parts)
        if row.parts is not None:
            found += earlier.duplicate_case_id(row.parts.case_id, row.located.line)
        yield found
    progress("rows", len(rows), len(rows))


def _misread(located: Located, parts: RecordParts | None) -> Iterator[Fault]:
    """Yield faults that keep a row from being audited whole: no JSON, not writable again, or of no known format."""
    if located.fault is not None:
        yield located.fault
        return
    unwritable = list(writing_faults(located.row if isinstance(located.row, dict) else {"": located.row}))
    yield from unwritable
    if unwritable:
        return
    named = foreign_format(located.row)
    if named is not None:
        yield Fault("", "row-format", named.what, named.advice)
    elif parts is None or is_unknown(located.row):
        yield Fault("", "row-format", show(located.row), FORMATS)
    else:
        yield from parts.unread
