"""`cfbuild publish`: a build laid out as a dataset in `publish/`, shown (dry run) or committed to the Hub."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cfbuild.data import Record
from cfbuild.errors import DataError
from cfbuild.pipeline.rebuild import rebuild
from cfbuild.progress import Progress, silent
from cfbuild.publish.card import CardInput, make_card, make_citation
from cfbuild.publish.croissant import NAME as CROISSANT
from cfbuild.publish.croissant import make_croissant
from cfbuild.publish.hub import Destination, Hub, Published
from cfbuild.publish.split import split_by_subject
from cfbuild.publish.stage import (
    FULL,
    StagedFile,
    Table,
    group_rows,
    prompt_rows,
    record_row,
    score_row,
    staged_files,
    write_tables,
)
from cfbuild.records.composition import composition
from cfbuild.records.kinds import KINDS
from cfbuild.records.multi import multi_rows
from cfbuild.score.scored import scored_runs
from cfbuild.store.codec import decode_record
from cfbuild.store.files import write_atomic
from cfbuild.store.folder import MANIFEST, BuildFolder
from cfbuild.store.jsonl import Row, read_rows, read_values
from cfbuild.store.runs import CASES, LIKELIHOODS, finished_bases, finished_runs
from cfbuild.store.schema import conforming

VERB = "publish"
STAGED = "publish"
SCHEMAS = {
    "records.jsonl": "record",
    "cases.jsonl": "cases",
    "rejected.jsonl": "rejected",
    "references.jsonl": "references",
    LIKELIHOODS: "pre_edit",
}
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Staged:
    """A dataset as it would be on the Hub: its files, and the card's text."""

    files: tuple[StagedFile, ...]
    card: str


def stage(folder: BuildFolder, repository: str, seed: int = 0, progress: Progress = silent) -> Staged:
    """Return the dataset of a build, after writing it into `publish/` as it will be on the Hub; without the network.

    repository: OWNER/NAME on the Hub. seed: of the division into splits.
    Raises BuildStateError if there are no records or a file differs from the manifest's digest, ConfigError for a name
    that is not OWNER/NAME.
    """
    Destination(repository)
    root = folder.path(STAGED)
    with folder.lock(VERB):
        folder.refuse_changed()
        path = folder.require("records.jsonl")
        both = list(read_values(path, conforming("record", lambda row: (row, decode_record(row)))))
        rows, records = [row for row, _ in both], [record for _, record in both]
        splits = split_by_subject(records, seed)
        tables = _tables(folder, rows, records, splits)
        try:
            write_tables(root, tables, progress)
        except OverflowError as error:
            raise DataError(f"{folder.root}: a number does not fit a column of 64 bits ({error})") from error
        licences = {
            row["licence"].lower() for table in tables if table.name == "references" for row in table.rows[FULL]
        }
        manifest = folder.manifest()
        given = CardInput(
            repository=repository,
            manifest=manifest,
            tables=tables,
            composition=composition(records),
            reports={run.name: run.report for run in scored_runs(folder)},
            languages=sorted({record.language for record in records}),
            licences=sorted(licences),
            rebuild=rebuild(manifest.verbs),
        )
        card = make_card(given)
        write_atomic(root / "README.md", [card])
        write_atomic(root / "CITATION.cff", [make_citation(repository)])
        about = make_croissant(given, staged_files(root))
        write_atomic(root / CROISSANT, [json.dumps(about, ensure_ascii=False, indent=1) + "\n"])
        if folder.path(MANIFEST).is_file():
            shutil.copyfile(folder.path(MANIFEST), root / MANIFEST)
        return Staged(tuple(staged_files(root)), card)


def publish(folder: BuildFolder, where: Destination, seed: int = 0, progress: Progress = silent) -> Published:
    """Return the commit on the Hub that holds the build's dataset; publishing the same build twice commits nothing new.

    Raises PublishError if there is no token, or the Hub does not take the dataset; else as `stage`.
    """
    hub = Hub(where)
    staged = stage(folder, where.repository, seed, progress)
    records = sum(1 for _ in read_rows(folder.path("records.jsonl")))
    return hub.publish(staged.files, f"Publish {records:,} records built by cfbuild")


def _tables(folder: BuildFolder, rows: list[Row], records: list[Record], splits: dict[int, str]) -> list[Table]:
    scores = (score_row(row, run.name) for run in finished_runs(folder) for row in _rows(run.path(CASES)))
    orders = (
        one for split in SPLITS for one in multi_rows(record for record in records if splits[record.case_id] == split)
    )
    tables = [
        Table("records", _split(map(record_row, rows), splits)),
        Table("prompts", _split((one for record in records for one in prompt_rows(record)), splits)),
        *(Table(name, _split((one for row in rows for one in group_rows(row, name)), splits)) for name in KINDS),
        Table("multi", _split(orders, splits)),
        Table("scores", _split(scores, splits)),
        *(
            Table(f"pre_edit-{run.name}", _split(_rows(run.path(LIKELIHOODS)), splits))
            for run in finished_bases(folder)
        ),
        Table("rejected", {FULL: list(_rows(folder.path("rejected.jsonl")))}),
        Table("references", {FULL: list(_rows(folder.path("references.jsonl")))}),
    ]
    return [table for table in tables if table.splits]


def _split(rows: Iterable[Row], splits: dict[int, str]) -> dict[str, list[Row]]:
    """Return rows by split; scores of records that are not the build's are left out, since they have no split."""
    found: dict[str, list[Row]] = {name: [] for name in SPLITS}
    for row in rows:
        if row["case_id"] in splits:
            found[splits[row["case_id"]]].append(row)
    return found


def _rows(path: Path) -> Iterator[Row]:
    if path.is_file():
        yield from read_values(path, conforming(SCHEMAS[path.name], dict))
