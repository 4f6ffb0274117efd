"""Objects that are known before the facts of their relation: from a file, ParaRel, the bundled facts, other relations.

A relation that is too large for the service to scan is fetched by these (`by_object.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cfbuild.data import id_number, item_id
from cfbuild.errors import ConfigError, DataError
from cfbuild.facts.relations import INSTANCE_OF
from cfbuild.sources import snapshot
from cfbuild.sources.journal import JournaledClient
from cfbuild.sources.pararel import Files, Pararel, PararelOptions
from cfbuild.sources.source import KnownObjects, ObjectGroups, in_seeded_order
from cfbuild.store.files import sha256_file

TUPLES, BUNDLED, SUBJECTS = "ParaRel's tuples", "the bundled facts", "subjects of the fetch's other relations"
MOST_SUBJECTS = 2_000
"""The most subjects that are tried as objects; most are objects of nothing."""


@dataclass(frozen=True)
class ObjectSource:
    """The places from which a fetch knows objects.

    file: the user's list of ids, used instead of all other places. pararel: the options of ParaRel's tuples; None if
    these are not part of the fetch.
    """

    file: str | None
    pararel: PararelOptions | None
    seed: int
    client: JournaledClient

    def of(self, relation: str, subjects: Iterable[str]) -> KnownObjects:
        """Return known objects of `relation`; `subjects` are those of other relations. Raises as `read_ids`."""
        seed = f"{self.seed}:{relation}"
        named = {} if self.file is None else {f"the file {Path(self.file).name}": read_ids(Path(self.file))}
        return KnownObjects(in_seeded_order(named, seed), lambda: self._not_named(relation, subjects, seed))

    def _not_named(self, relation: str, subjects: Iterable[str], seed: str) -> ObjectGroups:
        known: dict[str, Iterable[str]] = {}
        if self.pararel is not None and Files(self.pararel.pararel, self.client).has_tuples(relation):
            known[TUPLES] = [fact.object for fact in Pararel(self.pararel, self.client).facts(relation)]
        known[BUNDLED] = bundled(relation)
        (drawn,) = in_seeded_order({SUBJECTS: subjects}, seed)
        known[SUBJECTS] = drawn.ids[:MOST_SUBJECTS]
        return in_seeded_order(known, seed, guessed={SUBJECTS})


def bundled(relation: str) -> set[str]:
    """Return the objects of `relation` in the bundled facts; all objects there if they have no fact of the relation."""
    found = {row.object for row in snapshot.rows() if row.relation == relation}
    if relation == INSTANCE_OF:
        found |= {kind for kind, _ in snapshot.classes().values()}
    return found or {row.object for row in snapshot.rows()}


def read_ids(path: Path) -> list[str]:
    """Return the item ids of a text file by number: the first word of each line. `#` begins a comment.

    Raises ConfigError if there is no such file, DataError for a line that begins with no id and for a file without ids.
    """
    if not path.is_file():
        raise ConfigError(f"{path} is not a file; expected one with an item id such as Q142 in each line")
    found = set()
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start}") from error
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].split()
        if words:
            try:
                found.add(item_id(words[0]))
            except DataError as error:
                raise DataError(f"{path}:{number}: {error}") from error
    if not found:
        raise DataError(f"{path} holds no item id; expected one such as Q142 in each line")
    return sorted(found, key=id_number)


def recorded_file(path: Path) -> str:
    """Return a user's file for the manifest: its name without its path, but with its digest."""
    return f"{path.name}@{sha256_file(path)[:16]}"
