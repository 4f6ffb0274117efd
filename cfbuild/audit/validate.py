"""Validation of a file of records in one pass over its bytes: JSON Schema, and the rules that find violations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cfbuild.audit.foreign import refuse_unscored
from cfbuild.audit.row import parts_of
from cfbuild.audit.rulebook import EarlierRows, violations_in
from cfbuild.data import Record
from cfbuild.errors import SchemaError
from cfbuild.store.codec import decode_record
from cfbuild.store.schema import schema_faults, writing_faults
from cfbuild.store.schema.faults import Fault, Located, Violation
from cfbuild.store.schema.located import LocatedRows, read_located


@dataclass
class RowTally:
    """A count of a file's rows: the checked ones, and the `faulty` ones among them."""

    rows: int = 0
    faulty: int = 0


@dataclass(frozen=True, slots=True)
class RecordFile:
    """A file of records, read once: the digest of its bytes, its valid records, and the violations of other rows."""

    path: Path
    sha256: str
    records: list[Record]
    violations: list[Violation]
    tally: RowTally

    def all_valid(self) -> RecordFile:
        """Return the file itself. Raises SchemaError if any row has violations."""
        if self.violations:
            raise SchemaError(
                f"{self.path}: {self.tally.faulty} of {self.tally.rows} rows have violations; `cfbuild audit "
                f"{self.path}` lists them, with --fix FILE it writes a clean file"
            )
        return self


def read_records(path: Path) -> RecordFile:
    """Return the records and violations of a CounterFact file, a JSON array or JSON lines, whoever made it.

    Violations are those of `violations`, in its order. Raises DataError if the file cannot be read.
    """
    records: list[Record] = []
    found: list[Violation] = []
    tally = RowTally()
    with LocatedRows(path) as rows:
        for located, faults in _examine(path, rows, tally):
            found += _placed(path, located, faults)
            if not faults:
                records.append(decode_record(located.row))
        sha256 = rows.sha256
    if not tally.rows:
        found.append(_empty(path))
    return RecordFile(path, sha256, records, found, tally)


def violations(path: Path, tally: RowTally | None = None) -> Iterator[Violation]:
    """Yield the violations of a CounterFact file, a JSON array or JSON lines, whoever made it.

    Rows are read one by one and in order; `tally`, if given, counts them. A file without rows is a violation too.
    Raises DataError if the file cannot be read.
    """
    tally = RowTally() if tally is None else tally
    for located, faults in _examine(path, read_located(path), tally):
        yield from _placed(path, located, faults)
    if not tally.rows:
        yield _empty(path)


def read_valid(path: Path) -> Iterator[dict[str, Any]]:
    """Return an iterator over the valid rows of a CounterFact file. Raises DataError if the file cannot be read."""
    return (located.row for located, faults in _examine(path, read_located(path), RowTally()) if not faults)


def _examine(path: Path, rows: Iterable[Located], tally: RowTally) -> Iterator[tuple[Located, list[Fault]]]:
    """Yield each row of a file with its faults (of the schema, of rules, of writing it), and count it."""
    earlier = EarlierRows()
    for number, located in enumerate(rows):
        tally.rows += 1
        if located.fault is not None:
            faults = [located.fault]
        else:
            if not number:
                refuse_unscored(path, located.row)
            parts = parts_of(located.row)
            faults = list(schema_faults(located.row, "record"))
            if parts is not None and parts.is_counterfact:  # only an audit judges other formats' keys
                faults += violations_in(parts)
            faults += () if located.is_plain else writing_faults(located.row)
            faults += earlier.duplicate_case_id(None if parts is None else parts.case_id, located.line)
        tally.faulty += bool(faults)
        yield located, faults


def _placed(path: Path, located: Located, faults: Iterable[Fault]) -> Iterator[Violation]:
    """Yield the faults of a row as violations, with its place in the file."""
    case_id = located.row.get("case_id") if isinstance(located.row, dict) else None
    case_id = case_id if isinstance(case_id, int) and not isinstance(case_id, bool) else None
    for fault in faults:
        yield Violation(path, located.line, case_id, fault.path, fault.rule, fault.got, fault.expected)


def _empty(path: Path) -> Violation:
    return Violation(path, 1, None, "", "empty", "a file without rows", "at least one record")
