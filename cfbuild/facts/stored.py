"""The graph of facts that are indexed on the disk: it reads what it is asked for, and remembers a bounded part."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from cfbuild.data import UNKNOWN, Entity, Fact, id_number
from cfbuild.errors import DataError
from cfbuild.facts.graph import NOTHING, FactGraph, Turn
from cfbuild.facts.index import ALIAS, BASE, LABEL
from cfbuild.facts.relations import CONTAINING
from cfbuild.store.codec import decode_entity

KEPT = 20_000
"""Items of which facts and names are kept: 50 MB."""
LABELS = 100_000
"""Labels and lists of objects that are kept: 15 MB each."""
COUNTS = 4
"""Relations of which the objects are kept with their counts."""
CASES = 500
"""Case ids that are looked up by one question, where they do not follow each other."""
FactColumns = Sequence[Any]
"""A row of the table of facts: the columns FACT, and in some questions whether it is held (`write_index`)."""
FACT = "relation, subject, object, rank, starts, ends, source"


class StoredGraph(FactGraph):
    """A graph like `FactGraph`, of an index that `write_index` made in the same language, for the same day.

    Raises DataError where the file is damaged.
    """

    def __init__(self, path: Path, language: str = "en", today: str | None = None) -> None:
        self._remember(language, today)
        self._path = path
        place = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
        # A pass may be made in one thread and worked off in another; it is never in two at a time.
        self._index_file = sqlite3.connect(place, uri=True, check_same_thread=False)
        rows = self._ask("SELECT relation, first_case, cases FROM relations ORDER BY relation")
        self._case_ids = {f"P{relation}": range(first, first + count) for relation, first, count in rows}
        self.entities = _Entities(lru_cache(KEPT)(self._entity), self._ask)
        self._about = lru_cache(KEPT)(self._read_about)
        # Nothing is asked as often as these: what is remembered is found without a function of Python's.
        self.statements = lru_cache(KEPT)(self._read_statements)  # type: ignore[method-assign]
        self.values = lru_cache(LABELS)(self._read_values)  # type: ignore[method-assign]
        self.label = lru_cache(LABELS)(self._read_label)  # type: ignore[method-assign]
        self._counts = lru_cache(COUNTS)(self._read_counts)
        self._named = lru_cache(KEPT)(self._read_named)

    def _ask(self, question: str, *given: Any) -> list[Any]:
        try:
            return self._index_file.execute(question, given).fetchall()
        except sqlite3.DatabaseError as error:
            raise DataError(f"{self._path}: damaged ({error}); delete it and run again, it is made anew") from error

    def cases(self, case_ids: Sequence[int]) -> list[Turn]:
        """Return the facts with these case ids, in this order."""
        found: dict[int, Fact] = {}
        for begin in range(0, len(case_ids), CASES):
            part = case_ids[begin : begin + CASES]
            marks = ",".join("?" * len(part))
            rows = self._ask(f"SELECT case_id, {FACT} FROM facts WHERE case_id IN ({marks})", *part)
            found.update((row[0], _fact(row[1:])) for row in rows)
        return [(one, found[one]) for one in case_ids]

    def facts_of(self, relation: str) -> tuple[Fact, ...]:
        """Return the facts of `relation` as `FactGraph` does: all of them in memory."""
        return tuple(fact for _, fact in self.cases(self._case_ids.get(relation, range(0))))

    def _read_about(self, subject: str) -> Mapping[str, list[FactColumns]]:
        found: dict[str, list[FactColumns]] = {}
        for row in self._ask(f"SELECT {FACT}, held FROM facts WHERE subject = ? ORDER BY place", _number(subject)):
            found.setdefault(f"P{row[0]}", []).append(row)
        return found

    def _read_values(self, subject: str, relation: str) -> tuple[str, ...]:
        return tuple(_item(row[2]) for row in self._about(subject).get(relation, ()) if row[-1])

    def _read_statements(self, subject: str, relation: str) -> tuple[Fact, ...]:
        return tuple(_fact(row[:-1]) for row in self._about(subject).get(relation, ()))

    def _is_contained(self, item: str) -> bool:
        return not CONTAINING.isdisjoint(self._about(item))

    def subjects(self, relation: str, value: str) -> tuple[str, ...]:
        """Return what `FactGraph` does."""
        question = "SELECT subject FROM facts WHERE counted AND relation = ? AND object = ? ORDER BY place"
        return tuple(f"Q{row[0]}" for row in self._ask(question, id_number(relation), _number(value)))

    def object_counts(self, relation: str) -> Mapping[str, int]:
        """Return what `FactGraph` does."""
        return self._counts(relation) if relation in self._case_ids else NOTHING

    def _read_counts(self, relation: str) -> Mapping[str, int]:
        question = (
            "SELECT object, count(*) FROM facts WHERE counted AND relation = ? GROUP BY object ORDER BY min(place)"
        )
        return {f"Q{item}": count for item, count in self._ask(question, id_number(relation))}

    def _read_label(self, entity_id: str) -> str | None:
        rows = self._ask("SELECT label FROM entities WHERE id = ?", _number(entity_id))
        return rows[0][0] if rows else None

    def _entity(self, entity_id: str) -> Entity | None:
        rows = self._ask("SELECT row FROM entities WHERE id = ?", _number(entity_id))
        return decode_entity(json.loads(rows[0][0])) if rows else None

    def objects_named(self, relation: str, label: str) -> tuple[str, ...]:
        """Return what `FactGraph` does."""
        question = (
            "SELECT object FROM names JOIN facts ON counted AND relation = ? AND object = id "
            "WHERE folded = ? AND kind = ? GROUP BY object ORDER BY min(place)"
        )
        return tuple(f"Q{row[0]}" for row in self._ask(question, id_number(relation), label.casefold(), LABEL))

    def items_named(self, label: str) -> int:
        """Return what `FactGraph` does."""
        return self._named(label.casefold()).get(LABEL, 0)

    def namesakes(self, base: str) -> int:
        """Return what `FactGraph` does."""
        found = self._named(base.casefold())
        return found.get(LABEL, 0) + found.get(BASE, 0)

    def items_called(self, name: str) -> int:
        """Return what `FactGraph` does."""
        found = self._named(name.casefold())
        return found.get(LABEL, 0) + found.get(ALIAS, 0)

    def _read_named(self, folded: str) -> Mapping[int, int]:
        return dict(self._ask("SELECT kind, count(*) FROM names WHERE folded = ? GROUP BY kind", folded))


class _Entities(Mapping[str, Entity]):
    """The entities of an index by id."""

    def __init__(self, read: Any, ask: Any) -> None:
        self._read = read
        self._ask = ask

    def __getitem__(self, entity_id: str) -> Entity:
        found = self._read(entity_id)
        if found is None:
            raise KeyError(entity_id)
        return found  # type: ignore[no-any-return]

    def get(self, entity_id: str, default: Any = None) -> Any:  # most questions come here, and many of no entity
        found = self._read(entity_id)
        return default if found is None else found

    def __iter__(self) -> Iterator[str]:
        return (f"Q{row[0]}" for row in self._ask("SELECT id FROM entities ORDER BY id"))

    def __len__(self) -> int:
        return int(self._ask("SELECT count(*) FROM entities")[0][0])


def _fact(row: FactColumns) -> Fact:
    relation, subject, item, *rest = row
    return Fact(f"P{relation}", f"Q{subject}", _item(item), *rest)


def _item(number: int) -> str:
    return f"Q{number}" if number else UNKNOWN


def _number(item: str) -> int:
    """Return the number of an item; one that no item has for no item."""
    return id_number(item) if item else -1
