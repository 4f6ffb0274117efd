"""Chunks of a build's files as rows of the published tables, which any process can make."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from cfbuild.data import Record
from cfbuild.publish.columns import columns
from cfbuild.publish.stage import score_row
from cfbuild.records.composition import Tally
from cfbuild.records.multi import PlannedEdits
from cfbuild.records.prompts import choices_of, prompts_of, stays_true
from cfbuild.store.codec import decode_record
from cfbuild.store.jsonl import NumberedLine, Row, read_lines, values_in
from cfbuild.store.schema import conforming

LINES = 500
"""Lines of a chunk: of records some 3 MB of text, and 20 MB while they become rows."""
RECORDS = "records"
PROMPTS = "prompts"


@dataclass(frozen=True, slots=True)
class Source:
    """A file of a build with the rows of a published table, and their schema; `run` is the run that scored them."""

    table: str
    schema: str
    path: Path
    run: str = ""


@dataclass(frozen=True, slots=True)
class LineChunk:
    """Consecutive lines of a source."""

    source: Source
    lines: list[NumberedLine]

    def values(self, decode: Callable[[Row], Any]) -> Iterator[Any]:
        """Yield the decoded rows. Raises DataError for a row that does not conform to the schema."""
        return values_in(self.lines, self.source.path, conforming(self.source.schema, decode))


def line_chunks(source: Source) -> Iterator[LineChunk]:
    """Yield the lines of a source in chunks; none of a file that is not there. Raises DataError."""
    if source.path.is_file():
        lines = read_lines(source.path)
        while chunk := list(islice(lines, LINES)):
            yield LineChunk(source, chunk)


@dataclass
class CardCounts:
    """Counts of rows for the card, and the edits from which orders are made."""

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
        """Add the counts of further rows."""
        self.tally.take_in(counted.tally)
        self.edits.take_in(counted.edits)
        self.languages |= counted.languages
        self.licences |= counted.licences


@dataclass(frozen=True, slots=True)
class ChunkTables:
    """The rows of a chunk as Arrow tables, by the name of the published table, and their counts."""

    tables: Mapping[str, Any]
    counted: CardCounts


@dataclass(frozen=True)
class MakeTables:
    """The job that makes the tables of a chunk. Raises DataError, and OverflowError beyond 64 bits."""

    def open(self) -> Callable[[LineChunk], ChunkTables]:
        """Return the function that makes them."""
        return lambda chunk: _records(chunk) if chunk.source.table == RECORDS else _others(chunk)


def _others(chunk: LineChunk) -> ChunkTables:
    source, counted = chunk.source, CardCounts()
    rows = list(chunk.values(dict))
    counted.licences |= {row["licence"].lower() for row in rows if "licence" in row}
    table_rows = (score_row(row, source.run) for row in rows) if source.run else rows
    return ChunkTables({source.table: columns(source.table).table(table_rows)}, counted)


def _records(chunk: LineChunk) -> ChunkTables:
    """Return the tables of records, of their prompts, and of the groups that are configurations too."""
    counted = CardCounts()
    rows, records = [], []
    for row, record in chunk.values(lambda row: (row, decode_record(row))):
        rows.append(row)
        records.append(record)
        counted.add(record)
    table = columns(RECORDS).table(rows)
    return ChunkTables({RECORDS: table, PROMPTS: prompt_table(records), **group_tables(table, rows)}, counted)


def prompt_table(records: Iterable[Record]) -> Any:
    """Return the Arrow table `prompts`: of each record the scored prompts, then the generation prompts.

    `answer` is the object that should be likelier after the edit.
    """
    import pyarrow

    cells: dict[str, list[Any]] = {name: [] for name in columns(PROMPTS).arrow.names}
    for record in records:
        _add_prompts(cells, record)
    return pyarrow.table(cells, schema=columns(PROMPTS).arrow)


def _add_prompts(cells: Mapping[str, list[Any]], record: Record) -> None:
    kinds, texts, new, true = zip(*prompts_of(record), strict=True)
    written = len(record.generation)
    rows = len(kinds) + written
    cells["case_id"] += [record.case_id] * rows
    cells["relation_id"] += [record.relation] * rows
    cells["subject"] += [record.subject.label] * rows
    cells["language"] += [record.language] * rows
    cells["kind"] += kinds
    cells["kind"] += ["generation"] * written
    cells["prompt"] += texts
    cells["prompt"] += record.generation
    cells["target_new"] += [target.label for target in new]
    cells["target_true"] += [target.label for target in true]
    cells["choices"] += map(choices_of, kinds, new, true)
    cells["choices"] += [()] * written
    answers = (old if stays_true(kind) else o_star for kind, o_star, old in zip(kinds, new, true, strict=True))
    cells["answer"] += [target.label for target in answers]
    for name in ("target_new", "target_true", "answer"):
        cells[name] += [None] * written


def group_tables(records: Any, rows: Sequence[Row]) -> dict[str, Any]:
    """Return an Arrow table of the prompts of each group that has some, by group. records: the table of `rows`."""
    by_group: dict[str, list[tuple[int, Row]]] = {}
    for place, row in enumerate(rows):
        for group, prompts in row.get("meta", {}).get("groups", {}).items():
            by_group.setdefault(group, []).extend((place, prompt) for prompt in prompts)
    return {group: _group_table(records, group, prompts) for group, prompts in by_group.items() if prompts}


def _group_table(records: Any, group: str, prompts: Sequence[tuple[int, Row]]) -> Any:
    """Return the table of a group's prompts, each given with the place of its record in the table `records`."""
    import pyarrow

    schema = columns(group).arrow
    about = records.select(["case_id", "requested_rewrite"]).take([place for place, _ in prompts])
    kind = pyarrow.struct([column for column in schema if column.name not in about.column_names])
    cells = pyarrow.array([prompt for _, prompt in prompts], kind)
    return pyarrow.Table.from_arrays([*about.columns, *cells.flatten()], schema=schema)


def subjects(chunk: LineChunk) -> list[tuple[int, str]]:
    """Return (case id, id or label of the subject) of each record of a chunk. Raises DataError.

    Arrow reads them in an eighth of the time. It is less strict, but every row is checked by its schema when its table
    is made; what Arrow refuses, or does not find, is read strictly here.
    """
    found = _read_by_arrow(chunk)
    if found is None or any(None in pair for pair in found):
        records = chunk.values(decode_record)
        found = [(record.case_id, record.subject.id or record.subject.label) for record in records]
    return found


def _read_by_arrow(chunk: LineChunk) -> list[tuple[Any, Any]] | None:
    """Return the case ids and subjects of a chunk, None where one is missing; None alone if Arrow refuses the text."""
    import pyarrow
    from pyarrow import json

    text = b"".join(line or b"" for _, line in chunk.lines)
    keys = {"case_id": "", "requested_rewrite": "subject", "meta": "subject_id"}
    types = {name: columns(RECORDS).arrow.field(name).type for name in keys}
    fields = [(name, pyarrow.struct([types[name].field(key)]) if key else types[name]) for name, key in keys.items()]
    parsing = json.ParseOptions(explicit_schema=pyarrow.schema(fields), unexpected_field_behavior="ignore")
    try:
        read = json.read_json(pyarrow.BufferReader(text), json.ReadOptions(block_size=len(text) + 1), parsing)
    except pyarrow.ArrowInvalid:
        return None
    rows = zip(*(read[name].to_pylist() for name in keys), strict=True)
    return [
        (case_id, (meta or {}).get("subject_id") or (request or {}).get("subject")) for case_id, request, meta in rows
    ]
