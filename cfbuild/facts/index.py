"""An index of facts and entities on the disk, in SQLite, written from rows in any order in bounded memory.

It holds what `FactGraph` holds, in the same order, so `StoredGraph` gives the same answers.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import groupby
from pathlib import Path
from typing import Any

from cfbuild.data import Entity, Fact, id_number
from cfbuild.errors import DataError
from cfbuild.facts.graph import RANKS, aliases_in, holds, named
from cfbuild.store.codec import encode_entity
from cfbuild.store.files import sha256_file
from cfbuild.store.jsonl import ENCODER, dump_row, read_json, write_json
from cfbuild.text.codes import name_in
from cfbuild.text.languages.neutral import without_bracket

LABEL, ALIAS, BASE = 0, 1, 2
"""The kinds of names: a label, an alias, and a label without the bracket at its end."""
TABLES = """
CREATE TEMP TABLE unsorted (relation INTEGER, subject INTEGER, object INTEGER, rank_place INTEGER, over INTEGER,
    source TEXT, starts TEXT, ends TEXT, rank TEXT);
CREATE TEMP TABLE unsorted_names (folded TEXT, kind INTEGER, id INTEGER);
CREATE TABLE facts (place INTEGER PRIMARY KEY, relation INTEGER, subject INTEGER, object INTEGER, rank TEXT,
    starts TEXT, ends TEXT, source TEXT, held INTEGER, counted INTEGER, case_id INTEGER);
CREATE TABLE relations (relation INTEGER PRIMARY KEY, first_case INTEGER, cases INTEGER);
CREATE TABLE entities (id INTEGER PRIMARY KEY, label TEXT, aliases TEXT, attributes TEXT, row TEXT);
CREATE TABLE names (folded TEXT, kind INTEGER, id INTEGER, PRIMARY KEY (folded, kind, id)) WITHOUT ROWID;
"""
INDICES = """
CREATE INDEX by_subject ON facts (subject, place);
CREATE INDEX by_object ON facts (relation, object, place, subject) WHERE counted;
CREATE UNIQUE INDEX by_case ON facts (case_id) WHERE case_id IS NOT NULL;
"""
"""SQL that is run once all rows are in the tables, which is faster than to update the indices with every row."""
SETTINGS = """
PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE; PRAGMA cache_size = -65536;
"""
"""No safety against crashes, since an unfinished file is thrown away; 64 MB of cache."""


def is_whole(path: Path) -> bool:
    """Return True if `path` is an index as `write_index` left it."""
    digest_file = _digest_file(path)
    if not path.is_file() or not digest_file.is_file():
        return False
    try:
        return bool(read_json(digest_file) == {"sha256": sha256_file(path)})
    except DataError:
        return False


def write_index(path: Path, facts: Iterable[Fact], entities: Iterable[Entity], language: str, today: str) -> None:
    """Write the index of facts and entities into the file `path`, whole or not at all.

    language, today: as in `FactGraph`. Raises DataError for an id that is too large, OSError if the disk is full or
    fails, and what reading `facts` and `entities` raises.
    """
    part, digest_file = path.with_name(f".{path.name}.part"), _digest_file(path)
    for stale in (part, digest_file):
        stale.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(part)) as database:
            database.executescript(SETTINGS + TABLES)
            database.executemany(f"INSERT INTO unsorted VALUES ({','.join('?' * 9)})", _unsorted(facts, today))
            database.executemany(f"INSERT INTO facts VALUES ({','.join('?' * 11)})", _sorted(database))
            _put_entities(database, entities, language)
            database.executescript(INDICES)
            database.commit()
    except sqlite3.OperationalError as error:
        # The file is cfbuild's own, so SQLite fails for no other reason than a disk that is full or broken.
        raise OSError(errno.ENOSPC if "full" in str(error) else errno.EIO, str(error), str(path)) from error
    except OverflowError as error:
        raise DataError(f"an item's number does not fit into 64 bits ({error}); Wikidata's have few digits") from error
    part.replace(path)
    write_json(digest_file, {"sha256": sha256_file(path)})


def _digest_file(path: Path) -> Path:
    return path.with_suffix(".json")


def _unsorted(facts: Iterable[Fact], today: str) -> Iterator[tuple[Any, ...]]:
    """Yield facts as rows whose columns sort as `sort_key` does."""
    for fact in facts:
        numbers = id_number(fact.relation), id_number(fact.subject), id_number(fact.object)
        order = RANKS.get(fact.rank, 1), not holds(fact, today)
        yield (*numbers, *order, fact.source, fact.start, fact.end, fact.rank)


def _sorted(database: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of the table of facts in order, each fact once, then fill the table of relations."""
    ordered = database.execute(
        "SELECT DISTINCT * FROM unsorted ORDER BY relation, subject, object, rank_place, over, source, "
        "coalesce(starts, ''), coalesce(ends, ''), rank"
    )
    place = case_id = 0
    cases: dict[int, list[int]] = {}
    for (relation, subject), rows in groupby(ordered, key=lambda row: row[:2]):
        first_and_number = cases.setdefault(relation, [case_id, 0])
        # The best statement, which comes first, stands for all of its triple.
        triples = [list(statements) for _, statements in groupby(rows, key=lambda row: row[2])]
        objects = sum(statements[0][-1] != "deprecated" for statements in triples)
        for statements in triples:
            for number, (_, _, item, _, _, source, starts, ends, rank) in enumerate(statements):
                is_case, held = number == 0 and item != 0, objects * (number == 0 and rank != "deprecated")
                case = case_id if is_case else None
                yield place, relation, subject, item, rank, starts, ends, source, held, held and item != 0, case
                place += 1
                case_id += is_case
                first_and_number[1] += is_case
    rows = ((relation, *first_and_number) for relation, first_and_number in cases.items())
    database.executemany("INSERT INTO relations VALUES (?, ?, ?)", rows)


def _put_entities(database: sqlite3.Connection, entities: Iterable[Entity], language: str) -> None:
    """Fill the tables of entities and of their names; of an entity that comes twice, the last counts."""
    for entity in (named(each, language) for each in entities):
        number, label = id_number(entity.id), name_in(entity.labels, language)
        aliases, fields = aliases_in(entity, language), encode_entity(entity)
        row = (number, label, _text(aliases), _text(fields["attributes"]), dump_row(fields))
        if not database.execute("INSERT OR IGNORE INTO entities VALUES (?, ?, ?, ?, ?)", row).rowcount:
            database.execute("DELETE FROM unsorted_names WHERE id = ?", (number,))
            database.execute("REPLACE INTO entities VALUES (?, ?, ?, ?, ?)", row)
        names = ((folded, kind, number) for folded, kind in _names(aliases, label))
        database.executemany("INSERT INTO unsorted_names VALUES (?, ?, ?)", names)
    database.execute("INSERT INTO names SELECT DISTINCT * FROM unsorted_names ORDER BY folded, kind, id")


def _text(value: Sequence[str] | Mapping[str, Sequence[str]]) -> str | None:
    """Return a value as JSON, or None if it is empty, as most are."""
    return ENCODER.encode(value) if value else None


def _names(aliases: Iterable[str], label: str | None) -> set[tuple[str, int]]:
    """Return the names of an entity, case-folded, each with its kind."""
    folded = (label or "").casefold()
    found = {(name.casefold(), ALIAS) for name in aliases} - {(folded, ALIAS)}
    if label:
        found.add((folded, LABEL))
        if (parts := without_bracket(label)) is not None:
            found.add((parts[0].casefold(), BASE))
    return found
