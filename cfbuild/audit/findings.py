"""The faults of a row: those of the row alone, and those in view of the rows before it."""

from __future__ import annotations

from dataclasses import dataclass

from cfbuild.audit.evidence import AuditContext, resolve
from cfbuild.audit.fix import Cleaning, Mended, mended
from cfbuild.audit.foreign import misread
from cfbuild.audit.reader import CaseId
from cfbuild.audit.row import parts_of
from cfbuild.audit.rulebook import EarlierRows, faults_in, violations_in
from cfbuild.audit.survey import Repeats
from cfbuild.store.schema.faults import Fault, Located

Edited = tuple[tuple[str, str], str, str]
"""The edit of a row (`RecordParts.edited`), its subject and its o*."""


@dataclass(frozen=True, slots=True)
class JudgedRow:
    """A row's own `faults`, and what the comparison with the rows before it needs.

    case_id: as messages show it. shared_id, edited: its case id and its edit, or None if no other row has the same.
    is_known: True if it is about a fact of the build. mended: the row as a cleaned file has it.
    """

    line: int
    case_id: CaseId | None
    faults: list[Fault]
    shared_id: CaseId | None = None
    edited: Edited | None = None
    is_known: bool = False
    mended: Mended | None = None

    def faults_after(self, earlier: EarlierRows) -> list[Fault]:
        """Return the row's faults in view of the earlier rows, and add it to them."""
        found = [] if self.edited is None else [*earlier.conflicting_edit(*self.edited, self.line)]
        return [*found, *earlier.duplicate_case_id(self.shared_id, self.line)]


def judge(
    located: Located, context: AuditContext, repeats: Repeats | None = None, cleaning: Cleaning | None = None
) -> JudgedRow:
    """Return a row with its faults, and mended if `cleaning` is given.

    repeats: the case ids and edits that several rows of the file have; None if not known, so that any may be repeated.
    A row that cannot be read whole is checked for violations in its other parts, as validation does.
    """
    parts = parts_of(located.row)
    faults = list(misread(located, parts))
    whole = None if faults else parts
    if whole is not None:
        faults = faults_in(whole, context)
    elif parts is not None:
        faults += violations_in(parts)
    edit = None if whole is None else (whole.edited, whole.subject, whole.target_new.label)
    return JudgedRow(
        located.line,
        _shown_id(located.row),
        faults,
        parts.case_id if parts is not None and (repeats is None or repeats.has_case(parts.case_id)) else None,
        edit if whole is not None and (repeats is None or repeats.has_edit(whole.edited)) else None,
        whole is not None and resolve(whole, context.rules) is not None,
        None if cleaning is None else mended(located, whole, faults, cleaning),
    )


def _shown_id(row: object) -> CaseId | None:
    case_id = row.get("case_id") if isinstance(row, dict) else None
    return case_id if isinstance(case_id, CaseId) else None
