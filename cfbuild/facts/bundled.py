"""The bundled objects by class (languages, countries, occupations, ...), for relations of which a build knows few.

A line of the table `bundled.tsv` holds an object: the id and name of its class, its own id (`-` if it is not known) and
its English name, by class and name. Classes, ids and names are Wikidata's (CC0); the choice of well-known objects is
our own. To add an object, add a line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType

from cfbuild.data import Target, item_id
from cfbuild.errors import DataError

LANGUAGE = "en"
"""The language of all names."""
TABLE = "bundled.tsv"
COLUMNS = ("class_id", "class", "id", "name")
NO_ID = "-"


@dataclass(frozen=True, slots=True)
class BundledClass:
    """A class and its bundled members; the id of a member is empty where it is not known."""

    id: str
    name: str
    members: tuple[Target, ...]


@cache
def bundled_classes() -> Mapping[str, BundledClass]:
    """Return the bundled classes by id."""
    text = resources.files("cfbuild.facts").joinpath(TABLE).read_text(encoding="utf-8")
    return MappingProxyType({one.id: one for one in read_bundled(text.removesuffix("\n").split("\n"), TABLE)})


@cache
def classes_by_member() -> Mapping[str, tuple[str, ...]]:
    """Return the ids of the bundled classes of each member that has an id."""
    found: dict[str, tuple[str, ...]] = {}
    for bundled in bundled_classes().values():
        for member in bundled.members:
            if member.id:
                found[member.id] = (*found.get(member.id, ()), bundled.id)
    return MappingProxyType(found)


def read_bundled(lines: Iterable[str], name: str) -> Iterator[BundledClass]:
    """Yield the classes of a table's `lines`, of which the first holds the names of the columns.

    Raises DataError as `table_cells`, and for a bad id, a class with two names, or a member that comes twice.
    """
    names: dict[str, str] = {}
    members: dict[str, dict[str, Target]] = {}
    for number, (kind, kind_name, item, label) in table_cells(lines, name, COLUMNS):
        try:
            target = Target("" if item == NO_ID else item_id(item), label)
            if names.setdefault(item_id(kind), kind_name) != kind_name:
                raise DataError(f"{kind} is called both {names[kind]!r} and {kind_name!r}; expected one name")
        except DataError as error:
            raise DataError(f"{name}:{number}: {error}") from error
        if members.setdefault(kind, {}).setdefault(label.casefold(), target) is not target:
            raise DataError(f"{name}:{number}: {kind_name} has {label!r} already; delete one of the two lines")
    for kind, by_name in members.items():
        yield BundledClass(kind, names[kind], tuple(by_name.values()))


def table_cells(lines: Iterable[str], name: str, columns: tuple[str, ...]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield (line number, cells) of the `lines` of a table of tab-separated text, without the first, the `columns`.

    Raises DataError for other columns, a wrong number of cells, an empty cell, or white space at an end of a cell.
    """
    for number, line in enumerate(lines, 1):
        cells = tuple(line.split("\t"))
        if number == 1:
            if cells != columns:
                raise DataError(f"{name}:1: the columns are {cells}, expected {columns}")
            continue
        if len(cells) != len(columns) or not all(cell and cell == cell.strip() for cell in cells):
            raise DataError(f"{name}:{number}: expected {len(columns)} tab-separated cells with text in each: {line!r}")
        yield number, cells
