"""An index of facts and entities on the disk: a file of SQLite, made of rows in any order, in bounded memory.

It holds what `FactGraph` holds, in the same order, so that the same questions have the same answers.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from cfbuild.data import Entity, Fact, id_number
from cfbuild.errors import DataError
from cfbuild.facts.graph import RANKS, aliases_in, holds, named
from cfbuild.store.codec import encode_entity
from cfbuild.store.files import sha256_file
from cfbuild.store.jsonl import dump_row, read_json, write_json
from cfbuild.text.codes import name_in
from cfbuild.text.languages.neutral import without_bracket

LABEL, ALIAS, BASE = 0, 1, 2
"""The kinds of names: a label, another name, and what is left of a label without the bracket at its end."""
TABLES = """
CREATE TEMP TABLE given (relation INTEGER, subject INTEGER, object INTEGER, rank_place INTEGER, over INTEGER,
    source TEXT, starts TEXT, ends TEXT, rank TEXT);
CREATE TEMP TABLE given_names (folded TEXT, kind INTEGER, id INTEGER);
CREATE TABLE facts (place INTEGER PRIMARY KEY, relation INTEGER, subject INTEGER, object INTEGER, rank TEXT,
    starts TEXT, ends TEXT, source TEXT, held INTEGER, counted INTEGER, case_id INTEGER);
CREATE TABLE relations (relation INTEGER PRIMARY KEY, first_case INTEGER, cases INTEGER);
CREATE TABLE entities (id INTEGER PRIMARY KEY, label TEXT, row TEXT);
CREATE TABLE names (folded TEXT, kind INTEGER, id INTEGER, PRIMARY KEY (folded, kind, id)) WITHOUT ROWID;
"""
INDICES = """
CREATE INDEX by_subject ON facts (subject, place);
CREATE INDEX by_object ON facts (relation, object, place, subject) WHERE counted;
CREATE UNIQUE INDEX by_case ON facts (case_id) WHERE case_id IS NOT NULL;
"""
"""They are made once all rows are there, which is faster than to keep them in order meanwhile."""
SETTINGS = """
PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE; PRAGMA cache_size = -65536;
"""
"""A file that is not whole is thrown away, so nothing need be safe while it is made; 64 MB of it are in memory."""


def is_whole(path: Path) -> bool:
    """Return True if there is an index in the file `path` as `write_index` left it."""
    note = _note(path)
    if not path.is_file() or not note.is_file():
        return False
    try:
        return bool(read_json(note) == {"sha256": sha256_file(path)})
    except DataError:
        return False


def write_index(path: Path, facts: Iterable[Fact], entities: Iterable[Entity], language: str, today: str) -> None:
    """Write the index of facts and entities into the file `path`, whole or not at all.

    language, today: as `FactGraph` has them. Raises DataError for an id that is too large, OSError where
    the disk is full or fails, and what the rows raise.
    """
    part, note = path.with_name(f".{path.name}.part"), _note(path)
    for stale in (part, note):
        stale.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(part)) as made:
            made.executescript(SETTINGS + TABLES)
            made.executemany(f"INSERT INTO given VALUES ({','.join('?' * 9)})", _given(facts, today))
            made.executemany(f"INSERT INTO facts VALUES ({','.join('?' * 11)})", _placed(made))
            _put_entities(made, entities, language)
            made.executescript(INDICES)
            made.commit()
    except sqlite3.OperationalError as error:
        # SQLite's words for a disk that is full, or that fails; files of the user's have no part in this.
        raise OSError(errno.ENOSPC if "full" in str(error) else errno.EIO, str(error), str(path)) from error
    except OverflowError as error:
        raise DataError(f"an item's number does not fit into 64 bits ({error}); Wikidata's have few digits") from error
    part.replace(path)
    write_json(note, {"sha256": sha256_file(path)})


def _note(path: Path) -> Path:
    return path.with_suffix(".json")


def _given(facts: Iterable[Fact], today: str) -> Iterator[tuple[Any, ...]]:
    """Yield facts as rows whose columns sort as `sort_key` does, after the numbers of their ids."""
    for fact in facts:
        numbers = id_number(fact.relation), id_number(fact.subject), id_number(fact.object)
        order = RANKS.get(fact.rank, 1), not holds(fact, today)
        yield (*numbers, *order, fact.source, fact.start, fact.end, fact.rank)


def _placed(made: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of the table of facts in order, each fact once; note which case ids each relation has."""
    ordered = made.execute(
        "SELECT DISTINCT * FROM given ORDER BY relation, subject, object, rank_place, over, source, "
        "coalesce(starts, ''), coalesce(ends, ''), rank"
    )
    before: tuple[int, int, int] | None = None
    case_id = 0
    cases: dict[int, list[int]] = {}
    for place, (relation, subject, item, _, _, source, starts, ends, rank) in enumerate(ordered):
        # What is asked of a (s, r, o) is answered by the best of its statements.
        first = (relation, subject, item) != before
        before = relation, subject, item
        is_case, held = first and item != 0, first and rank != "deprecated"
        case = case_id if is_case else None
        yield place, relation, subject, item, rank, starts, ends, source, held, held and item != 0, case
        if is_case:
            cases.setdefault(relation, [case_id, 0])[1] += 1
            case_id += 1
    made.executemany("INSERT INTO relations VALUES (?, ?, ?)", ((one, *span) for one, span in cases.items()))


def _put_entities(made: sqlite3.Connection, entities: Iterable[Entity], language: str) -> None:
    """Fill the tables of entities and of their names; of an entity that comes twice, the last counts."""
    for given in entities:
        entity = named(given, language)
        number, label = id_number(entity.id), name_in(entity.labels, language)
        row = (number, label, dump_row(encode_entity(entity)))
        if not made.execute("INSERT OR IGNORE INTO entities VALUES (?, ?, ?)", row).rowcount:
            made.execute("DELETE FROM given_names WHERE id = ?", (number,))
            made.execute("REPLACE INTO entities VALUES (?, ?, ?)", row)
        names = ((folded, kind, number) for folded, kind in _names(entity, label, language))
        made.executemany("INSERT INTO given_names VALUES (?, ?, ?)", names)
    made.execute("INSERT INTO names SELECT DISTINCT * FROM given_names ORDER BY folded, kind, id")


def _names(entity: Entity, label: str | None, language: str) -> set[tuple[str, int]]:
    """Return the names of an entity without letter case, each with its kind."""
    folded = (label or "").casefold()
    found = {(name.casefold(), ALIAS) for name in aliases_in(entity, language)} - {(folded, ALIAS)}
    if label:
        found.add((folded, LABEL))
        if (parts := without_bracket(label)) is not None:
            found.add((parts[0].casefold(), BASE))
    return found
