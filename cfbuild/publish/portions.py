"""Portions of a build's files as rows of the published tables, which any process can make."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from cfbuild.data import Record
from cfbuild.publish.columns import columns
from cfbuild.publish.stage import record_row, score_row
from cfbuild.records.composition import Tally
from cfbuild.records.multi import PlannedEdits
from cfbuild.records.prompts import choices_of, prompts_of, stays_true
from cfbuild.store.codec import decode_record
from cfbuild.store.jsonl import NumberedLine, Row, read_lines, values_in
from cfbuild.store.schema import conforming

LINES = 500
"""Lines of a portion: with records, some 3 MB of text, and 20 MB while they become rows."""
RECORDS = "records"
PROMPTS = "prompts"


@dataclass(frozen=True, slots=True)
class Source:
    """A file of a build whose rows, as `schema` has them, are those of `table`; `run` is the run's that scored them."""

    table: str
    schema: str
    path: Path
    run: str = ""


@dataclass(frozen=True, slots=True)
class LinePortion:
    """Lines of a source, which follow each other."""

    source: Source
    lines: list[NumberedLine]

    def values(self, decode: Callable[[Row], Any]) -> Iterator[Any]:
        """Yield the decoded rows, each held against the schema. Raises DataError."""
        return values_in(self.lines, self.source.path, conforming(self.source.schema, decode))


def portions(source: Source) -> Iterator[LinePortion]:
    """Yield the lines of a source in portions; none of a file that is not there. Raises DataError."""
    if source.path.is_file():
        lines = read_lines(source.path)
        while found := list(islice(lines, LINES)):
            yield LinePortion(source, found)


@dataclass
class CardCounts:
    """The findings in rows that the card tells, and that orders of edits are made of; several can be put together."""

    tally: Tally = field(default_factory=Tally)
    edits: PlannedEdits = field(default_factory=PlannedEdits)
    languages: set[str] = field(default_factory=set)
    licences: set[str] = field(default_factory=set)

    def add(self, record: Record) -> None:
        """Count a record."""
        self.tally.add(record)
        self.edits.add(record)
        self.languages.add(record.language)

    def take_in(self, counted: CardCounts) -> None:
        """Add what was counted of further rows."""
        self.tally.take_in(counted.tally)
        self.edits.take_in(counted.edits)
        self.languages |= counted.languages
        self.licences |= counted.licences


@dataclass(frozen=True, slots=True)
class LaidRows:
    """A portion as Arrow tables by the names of the published ones, and what was counted."""

    tables: Mapping[str, Any]
    counted: CardCounts


@dataclass(frozen=True)
class LayOut:
    """The job that makes the tables of a portion. Raises DataError, and OverflowError beyond 64 bits."""

    def open(self) -> Callable[[LinePortion], LaidRows]:
        """Return the function that makes them."""
        return lambda portion: _records(portion) if portion.source.table == RECORDS else _others(portion)


def _others(portion: LinePortion) -> LaidRows:
    source, counted = portion.source, CardCounts()
    rows = list(portion.values(dict))
    counted.licences |= {row["licence"].lower() for row in rows if "licence" in row}
    made = (score_row(row, source.run) for row in rows) if source.run else map(record_row, rows)
    return LaidRows({source.table: columns(source.table).table(made)}, counted)


def _records(portion: LinePortion) -> LaidRows:
    """Return the tables of records, of their prompts, and of the groups that are configurations too."""
    counted = CardCounts()
    rows, records = [], []
    for row, record in portion.values(lambda row: (row, decode_record(row))):
        rows.append(row)
        records.append(record)
        counted.add(record)
    whole = columns(RECORDS).table(map(record_row, rows))
    return LaidRows({RECORDS: whole, PROMPTS: prompt_table(records), **group_tables(whole, rows)}, counted)


def prompt_table(records: Iterable[Record]) -> Any:
    """Return the prompts of records as rows of the configuration `prompts`: a record's scored ones, then the others.

    `answer` is the object that should be likelier after the edit.
    """
    import pyarrow

    made: dict[str, list[Any]] = {name: [] for name in columns(PROMPTS).arrow.names}
    for record in records:
        _add_prompts(made, record)
    return pyarrow.table(made, schema=columns(PROMPTS).arrow)


def _add_prompts(made: Mapping[str, list[Any]], record: Record) -> None:
    kinds, texts, new, true = zip(*prompts_of(record), strict=True)
    written = len(record.generation)
    rows = len(kinds) + written
    made["case_id"] += [record.case_id] * rows
    made["relation_id"] += [record.relation] * rows
    made["subject"] += [record.subject.label] * rows
    made["language"] += [record.language] * rows
    made["kind"] += kinds
    made["kind"] += ["generation"] * written
    made["prompt"] += texts
    made["prompt"] += record.generation
    made["target_new"] += [target.label for target in new]
    made["target_true"] += [target.label for target in true]
    made["choices"] += map(choices_of, kinds, new, true)
    made["choices"] += [()] * written
    answers = (old if stays_true(kind) else o_star for kind, o_star, old in zip(kinds, new, true, strict=True))
    made["answer"] += [target.label for target in answers]
    for name in ("target_new", "target_true", "answer"):
        made[name] += [None] * written


def group_tables(records: Any, rows: Sequence[Row]) -> dict[str, Any]:
    """Return the prompts of records' groups as rows of the groups' configurations, for groups with prompts.

    records: the table of the same `rows`.
    """
    found: dict[str, list[tuple[int, Row]]] = {}
    for place, row in enumerate(rows):
        for group, prompts in row.get("meta", {}).get("groups", {}).items():
            found.setdefault(group, []).extend((place, prompt) for prompt in prompts)
    return {group: _group_table(records, group, placed) for group, placed in found.items() if placed}


def _group_table(records: Any, group: str, placed: Sequence[tuple[int, Row]]) -> Any:
    import pyarrow

    schema = columns(group).arrow
    about = records.select(["case_id", "requested_rewrite"]).take([place for place, _ in placed])
    kind = pyarrow.struct([column for column in schema if column.name not in about.column_names])
    prompts = pyarrow.array([prompt for _, prompt in placed], kind)
    return pyarrow.Table.from_arrays([*about.columns, *prompts.flatten()], schema=schema)


def subjects(portion: LinePortion) -> list[tuple[int, str]]:
    """Return the case id of each record of a portion, and what tells its subject apart. Raises DataError.

    Arrow reads them in an eighth of the time. It is less strict, but every row is held against its schema when it is
    laid out; what it refuses, or does not find, is read strictly here.
    """
    found = _read_by_arrow(portion)
    if found is None or any(None in pair for pair in found):
        found = [(one.case_id, one.subject.id or one.subject.label) for one in portion.values(decode_record)]
    return found


def _read_by_arrow(portion: LinePortion) -> list[tuple[Any, Any]] | None:
    """Return the case ids and subjects of a portion, None instead of what is not there; None if Arrow refuses it."""
    import pyarrow
    from pyarrow import json

    text = b"".join(line or b"" for _, line in portion.lines)
    named = {"case_id": "", "requested_rewrite": "subject", "meta": "subject_id"}
    kinds = {name: columns(RECORDS).arrow.field(name).type for name in named}
    wanted = [(name, pyarrow.struct([kinds[name].field(key)]) if key else kinds[name]) for name, key in named.items()]
    parsing = json.ParseOptions(explicit_schema=pyarrow.schema(wanted), unexpected_field_behavior="ignore")
    try:
        read = json.read_json(pyarrow.BufferReader(text), json.ReadOptions(block_size=len(text) + 1), parsing)
    except pyarrow.ArrowInvalid:
        return None
    rows = zip(*(read[name].to_pylist() for name in kinds), strict=True)
    return [
        (case_id, (meta or {}).get("subject_id") or (request or {}).get("subject")) for case_id, request, meta in rows
    ]
