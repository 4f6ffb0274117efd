"""A graph over an index on the disk: it reads what a method needs, and caches a bounded part of that."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from cfbuild.data import UNKNOWN, Entity, Fact, id_number
from cfbuild.errors import DataError
from cfbuild.facts.bounded import Bounded
from cfbuild.facts.graph import NO_ATTRIBUTES, NO_COUNTS, FactGraph, NumberedFact
from cfbuild.facts.index import ALIAS, BASE, LABEL
from cfbuild.facts.relations import CONTAINING
from cfbuild.store.codec import decode_entity

CACHED_ITEMS = 20_000
"""Items in each cache of facts, entities or names: 50 MB."""
CACHED_VALUES = 100_000
"""Lists of objects in their cache: 15 MB."""
CACHED_COUNTS = 4
"""Relations in the cache of objects with their counts."""
CASES = 500
"""Case ids in a query."""
FACT = "relation, subject, object, rank, starts, ends, source"
ITEM = "label, aliases, attributes"
"""The columns that make an `_Item`."""
FactColumns = Sequence[Any]
"""The columns FACT of a row, in `_about` followed by the column `held` (`write_index`)."""


class _Item(NamedTuple):
    """The parts of an entity that rules read of nearly every item: small enough to cache many."""

    label: str | None
    aliases: tuple[str, ...]
    attributes: Mapping[str, tuple[str, ...]]


NO_ITEM = _Item(None, (), NO_ATTRIBUTES)
"""The parts of an item that was not fetched."""


class StoredGraph(FactGraph):
    """A `FactGraph` over the index at `path`, which `write_index` made for the same language and day.

    Its methods raise DataError if the file is damaged.
    """

    def __init__(self, path: Path, language: str = "en", today: str | None = None) -> None:
        self._set_up(language, today)
        self._path = path
        uri = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
        # A graph may be made in one thread and used in another, but never by two at a time.
        self._database = sqlite3.connect(uri, uri=True, check_same_thread=False)
        rows = self._select("SELECT relation, first_case, cases FROM relations ORDER BY relation")
        self._case_ids = {f"P{relation}": range(first, first + count) for relation, first, count in rows if count}
        self._in_facts = frozenset(f"P{relation}" for relation, _, _ in rows)

    def _make_caches(self) -> None:
        super()._make_caches()
        self.entities = _Entities(lru_cache(CACHED_ITEMS)(self._read_entity), self._select)
        self._about = lru_cache(CACHED_ITEMS)(self._read_about)
        # These methods are called most: as attributes they answer from the cache without running Python code.
        self.statements = lru_cache(CACHED_ITEMS)(self._read_statements)  # type: ignore[method-assign]
        self.values = lru_cache(CACHED_VALUES)(self._read_values)  # type: ignore[method-assign]
        self._items = _Items(self._select)
        self._counts = lru_cache(CACHED_COUNTS)(self._read_counts)
        self._named = lru_cache(CACHED_ITEMS)(self._read_named)

    def _select(self, query: str, *values: Any) -> list[Any]:
        return list(self._rows(query, *values))

    def _rows(self, query: str, *values: Any) -> Iterator[Any]:
        try:
            yield from self._database.execute(query, values)
        except sqlite3.DatabaseError as error:
            raise DataError(f"{self._path}: damaged ({error}); delete it and run again, which makes it anew") from error

    def cases(self, case_ids: Sequence[int]) -> list[NumberedFact]:
        found: dict[int, Fact] = {}
        for begin in range(0, len(case_ids), CASES):
            chunk = case_ids[begin : begin + CASES]
            marks = ",".join("?" * len(chunk))
            rows = self._select(f"SELECT case_id, {FACT} FROM facts WHERE case_id IN ({marks})", *chunk)
            found.update((row[0], _fact(row[1:])) for row in rows)
        return [(case_id, found[case_id]) for case_id in case_ids]

    def facts_of(self, relation: str) -> tuple[Fact, ...]:
        """Return the facts as `FactGraph.facts_of` does, all of them in memory."""
        return tuple(fact for _, fact in self.cases(self._case_ids.get(relation, range(0))))

    def _read_about(self, subject: str) -> Mapping[str, list[FactColumns]]:
        found: dict[str, list[FactColumns]] = {}
        for row in self._select(f"SELECT {FACT}, held FROM facts WHERE subject = ? ORDER BY place", _number(subject)):
            found.setdefault(f"P{row[0]}", []).append(row)
        return found

    def _read_values(self, subject: str, relation: str) -> tuple[str, ...]:
        return tuple(_item(row[2]) for row in self._about(subject).get(relation, ()) if row[-1])

    def _read_statements(self, subject: str, relation: str) -> tuple[Fact, ...]:
        return tuple(_fact(row[:-1]) for row in self._about(subject).get(relation, ()))

    def _is_contained(self, item: str) -> bool:
        return not CONTAINING.isdisjoint(self._in_facts) and not CONTAINING.isdisjoint(self._about(item))

    def subjects(self, relation: str, value: str) -> tuple[str, ...]:
        query = "SELECT subject FROM facts WHERE counted AND relation = ? AND object = ? ORDER BY place"
        return tuple(f"Q{row[0]}" for row in self._select(query, id_number(relation), _number(value)))

    def holders(self, relation: str, value: str) -> Iterator[tuple[str, bool]]:
        """Yield the subjects of `value` as `FactGraph.holders` does, by one query for them and their names."""
        query = (
            f"SELECT subject, held, {ITEM} FROM facts LEFT JOIN entities ON id = subject "
            "WHERE counted AND relation = ? AND object = ? ORDER BY place"
        )
        for number, objects, *parts in self._rows(query, id_number(relation), _number(value)):
            subject = f"Q{number}"
            self._items[subject] = _item_of(*parts)
            yield subject, objects > 1

    def object_counts(self, relation: str) -> Mapping[str, int]:
        return self._counts(relation) if relation in self._case_ids else NO_COUNTS

    def _read_counts(self, relation: str) -> Mapping[str, int]:
        query = "SELECT object, count(*) FROM facts WHERE counted AND relation = ? GROUP BY object ORDER BY min(place)"
        return {f"Q{item}": count for item, count in self._select(query, id_number(relation))}

    def label(self, entity_id: str) -> str | None:
        return self._items[entity_id].label

    def _aliases(self, entity_id: str) -> tuple[str, ...]:
        return self._items[entity_id].aliases

    def _attributes_of(self, item: str) -> Mapping[str, tuple[str, ...]]:
        return self._items[item].attributes

    def _read_entity(self, entity_id: str) -> Entity | None:
        rows = self._select("SELECT row FROM entities WHERE id = ?", _number(entity_id))
        return decode_entity(json.loads(rows[0][0])) if rows else None

    def objects_named(self, relation: str, label: str) -> tuple[str, ...]:
        query = (
            "SELECT object FROM names JOIN facts ON counted AND relation = ? AND object = id "
            "WHERE folded = ? AND kind = ? GROUP BY object ORDER BY min(place)"
        )
        return tuple(f"Q{row[0]}" for row in self._select(query, id_number(relation), label.casefold(), LABEL))

    def items_named(self, label: str) -> int:
        return self._named(label.casefold()).get(LABEL, 0)

    def namesakes(self, base: str) -> int:
        found = self._named(base.casefold())
        return found.get(LABEL, 0) + found.get(BASE, 0)

    def items_called(self, name: str) -> int:
        found = self._named(name.casefold())
        return found.get(LABEL, 0) + found.get(ALIAS, 0)

    def _read_named(self, folded: str) -> Mapping[int, int]:
        return dict(self._select("SELECT kind, count(*) FROM names WHERE folded = ? GROUP BY kind", folded))


class _Entities(Mapping[str, Entity]):
    """The entities of an index by id. `read` returns an entity or None, `select` the rows of a query."""

    def __init__(self, read: Any, select: Any) -> None:
        self._read = read
        self._select = select

    def __getitem__(self, entity_id: str) -> Entity:
        found = self._read(entity_id)
        if found is None:
            raise KeyError(entity_id)
        return found  # type: ignore[no-any-return]

    def get(self, entity_id: str, default: Any = None) -> Any:  # faster than Mapping's, where many ids have no entity
        found = self._read(entity_id)
        return default if found is None else found

    def __iter__(self) -> Iterator[str]:
        return (f"Q{row[0]}" for row in self._select("SELECT id FROM entities ORDER BY id"))

    def __len__(self) -> int:
        return int(self._select("SELECT count(*) FROM entities")[0][0])


class _Items(Bounded[str, _Item]):
    """The parts of items by id; `select` returns the rows of a query."""

    def __init__(self, select: Any) -> None:
        super().__init__()
        self._select = select

    def __missing__(self, entity_id: str) -> _Item:
        rows = self._select(f"SELECT {ITEM} FROM entities WHERE id = ?", _number(entity_id))
        self[entity_id] = found = _item_of(*rows[0]) if rows else NO_ITEM
        return found


def _item_of(label: str | None, aliases: str | None, attributes: str | None) -> _Item:
    return _Item(label, tuple(json.loads(aliases)) if aliases else (), _attributes(attributes))


@lru_cache(CACHED_ITEMS)
def _attributes(text: str | None) -> Mapping[str, tuple[str, ...]]:
    """Return attributes from their text, which most items share with many others."""
    return {relation: tuple(ids) for relation, ids in json.loads(text).items()} if text else NO_ATTRIBUTES


def _fact(row: FactColumns) -> Fact:
    relation, subject, item, *rest = row
    return Fact(f"P{relation}", f"Q{subject}", _item(item), *rest)


def _item(number: int) -> str:
    return f"Q{number}" if number else UNKNOWN


def _number(item: str) -> int:
    """Return the number in an item's id; for "", -1, which no item has."""
    return id_number(item) if item else -1
