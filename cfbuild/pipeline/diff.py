"""`cfbuild diff`: what changed between the facts of two builds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cfbuild.data import Fact, FactChange, id_number
from cfbuild.errors import BuildStateError, ConfigError
from cfbuild.facts.changes import KINDS, Statements, changes
from cfbuild.facts.dates import ASSUMED_TODAY
from cfbuild.option import REQUIRED, Form, option
from cfbuild.progress import Progress, silent
from cfbuild.records.factset import dated_facts
from cfbuild.store.codec import decode_fact, encode_change
from cfbuild.store.folder import BuildFolder
from cfbuild.store.jsonl import read_values, write_jsonl
from cfbuild.store.schema import conforming

CHANGES = "changes.jsonl"
"""The file of changes in the newer build."""
REPORT_EVERY = 10_000
"""Facts, or changes, between two reports of progress: some tenths of a second."""

_FOLDER = Form(lambda text: BuildFolder(Path(text)), lambda folder: str(folder.root))


@dataclass(frozen=True, slots=True)
class DiffOptions:
    """Options of `cfbuild diff`. Raises ConfigError if both builds are one folder, or the file's folder is missing."""

    old: BuildFolder = option(REQUIRED, "The build with the older fetch.", form=_FOLDER, metavar="OLD")
    new: BuildFolder = option(REQUIRED, "The build with the newer fetch.", form=_FOLDER, metavar="NEW")
    out: Path | None = option(None, "The file to write. [default: changes.jsonl in NEW]", flag="--out -o")
    unchanged: bool = option(False, "Also write the facts that did not change.")

    def __post_init__(self) -> None:
        if self.old.root.resolve() == self.new.root.resolve():
            raise ConfigError(f"{self.old.root} is given twice; give the older build and then the newer one")
        if self.out is not None and not self.out.parent.is_dir():
            raise ConfigError(f"{self.out.parent} is not a folder; make it, or choose another --out")

    @property
    def file(self) -> Path:
        """Return the path of the changes: the option's, or else the newer build's."""
        return self.out or self.new.path(CHANGES)


@dataclass(slots=True)
class DiffSummary:
    """The result of a comparison: the days of both fetches, the numbers of changes by kind, and by relation and kind.

    kinds, relations: every kind is in them, in the order of the table of kinds.
    only_old, only_new: the relations of which only one build has facts; they are not compared.
    written: the number of changes in the file.
    """

    old_day: str
    new_day: str
    only_old: tuple[str, ...]
    only_new: tuple[str, ...]
    kinds: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    relations: dict[str, dict[str, int]] = field(default_factory=dict)
    written: int = 0


def diff(options: DiffOptions, progress: Progress = silent) -> DiffSummary:
    """Write the changes between two builds' facts; return their summary.

    Raises BuildStateError if a build has no facts, or no relation is in both; DataError for a row that is not valid.
    """
    old, new = (_statements(folder, progress) for folder in (options.old, options.new))
    if not old.relations & new.relations:
        raise BuildStateError(
            f"{options.old.root} has facts of {_named(old.relations)} and {options.new.root} of "
            f"{_named(new.relations)}; expected a relation that both have"
        )
    only_old, only_new = old.relations - new.relations, new.relations - old.relations
    summary = DiffSummary(old.today, new.today, _by_number(only_old), _by_number(only_new))
    options.new.refuse_links()
    counted = _counted(changes(old, new), summary, progress)
    written = (change for change in counted if options.unchanged or change.kind != "unchanged")
    summary.written = write_jsonl(options.file, map(encode_change, written))
    return summary


def _by_number(relations: frozenset[str]) -> tuple[str, ...]:
    return tuple(sorted(relations, key=id_number))


def _named(relations: frozenset[str]) -> str:
    return ", ".join(_by_number(relations)) or "no relation"


def _statements(folder: BuildFolder, progress: Progress) -> Statements:
    """Return a build's facts with the day for which they hold."""
    file = folder.require("facts.jsonl")
    today = folder.manifest().today

    def facts() -> Iterator[Fact]:
        for number, fact in enumerate(read_values(file, conforming("facts", decode_fact)), start=1):
            if number % REPORT_EVERY == 0:
                progress(f"facts of {folder.root}", number, None)
            yield fact

    return Statements(dated_facts(folder, facts(), today), today or ASSUMED_TODAY)


def _counted(found: Iterator[FactChange], summary: DiffSummary, progress: Progress) -> Iterator[FactChange]:
    for number, change in enumerate(found, start=1):
        summary.kinds[change.kind] += 1
        summary.relations.setdefault(change.fact.relation, dict.fromkeys(KINDS, 0))[change.kind] += 1
        if number % REPORT_EVERY == 0:
            progress("facts compared", number, None)
        yield change
