"""`cfbuild publish`: a build laid out as a dataset in `publish/`, shown (dry run) or committed to the Hub."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cfbuild.data import Record
from cfbuild.errors import DataError
from cfbuild.pipeline.rebuild import rebuild
from cfbuild.progress import Progress, Running, silent
from cfbuild.publish.card import CardInput, make_card, make_citation
from cfbuild.publish.croissant import NAME as CROISSANT
from cfbuild.publish.croissant import make_croissant
from cfbuild.publish.hub import Destination, Hub, Published
from cfbuild.publish.split import split_by_subject
from cfbuild.publish.stage import (
    FULL,
    StagedFile,
    Table,
    TableWriter,
    group_rows,
    prompt_rows,
    record_row,
    score_row,
    staged_files,
)
from cfbuild.records.aligned import record_files
from cfbuild.records.composition import Composition, composition
from cfbuild.records.kinds import KINDS
from cfbuild.records.multi import multi_rows
from cfbuild.score.matrix import finished_matrices
from cfbuild.score.scored import scored_runs
from cfbuild.store.codec import decode_record
from cfbuild.store.files import write_atomic
from cfbuild.store.folder import MANIFEST, BuildFolder
from cfbuild.store.jsonl import Row, read_values
from cfbuild.store.manifest import Manifest
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
    """A dataset as it would be on the Hub: its files, the card's text, and the number of records."""

    files: tuple[StagedFile, ...]
    card: str
    records: int


@dataclass(frozen=True, slots=True)
class _Laid:
    """The configurations that were written, and what the card says of their rows."""

    tables: list[Table]
    composition: Composition
    languages: set[str]
    licences: set[str]


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
        splits = split_by_subject(_records(folder), seed)
        try:
            laid = _lay_out(folder, root, splits, Running(progress))
        except OverflowError as error:
            raise DataError(f"{folder.root}: a number does not fit a column of 64 bits ({error})") from error
        manifest = folder.manifest()
        given = CardInput(
            repository=repository,
            manifest=manifest,
            tables=laid.tables,
            composition=laid.composition,
            reports={run.name: run.report for run in scored_runs(folder)},
            languages=sorted({*laid.languages, *_other_languages(manifest)}),
            matrices=finished_matrices(folder),
            licences=sorted(laid.licences),
            rebuild=rebuild(manifest.verbs),
        )
        card = make_card(given)
        write_atomic(root / "README.md", [card])
        write_atomic(root / "CITATION.cff", [make_citation(repository)])
        about = make_croissant(given, staged_files(root))
        write_atomic(root / CROISSANT, [json.dumps(about, ensure_ascii=False, indent=1) + "\n"])
        if folder.path(MANIFEST).is_file():
            shutil.copyfile(folder.path(MANIFEST), root / MANIFEST)
        return Staged(tuple(staged_files(root)), card, laid.composition.total["records"])


def publish(folder: BuildFolder, where: Destination, seed: int = 0, progress: Progress = silent) -> Published:
    """Return the commit on the Hub that holds the build's dataset; publishing the same build twice commits nothing new.

    Raises PublishError if there is no token, or the Hub does not take the dataset; else as `stage`.
    """
    hub = Hub(where)
    staged = stage(folder, where.repository, seed, progress)
    return hub.publish(staged.files, f"Publish {staged.records:,} records built by cfbuild")


def _records(folder: BuildFolder) -> Iterator[Record]:
    """Return an iterator over the build's records, each held against the schema."""
    return read_values(folder.require("records.jsonl"), conforming("record", decode_record))


def _rows_and_records(folder: BuildFolder) -> Iterator[tuple[Row, Record]]:
    """Return an iterator over the build's records with their rows, which `_records` has held against the schema."""
    return read_values(folder.require("records.jsonl"), lambda row: (row, decode_record(row)))


def _lay_out(folder: BuildFolder, root: Path, splits: Mapping[int, str], progress: Progress) -> _Laid:
    """Write the files of all configurations under `root`, which is deleted first; return those that have rows."""
    if root.exists():
        shutil.rmtree(root)
    records = [TableWriter(root, name, SPLITS, progress) for name in ("records", "prompts", *KINDS)]
    others = _other_languages(folder.manifest())
    languages: set[str] = set()
    counted = composition(_noting(_put_records(folder, records, splits), languages))
    translated = [TableWriter(root, f"records_{code}", SPLITS, progress) for code in others]
    for table, file in zip(translated, others.values(), strict=True):
        for row in _rows(folder.path(file)):
            table.add(splits[row["case_id"]], [record_row(row)])
    scored = _put_scores(folder, root, splits, progress)
    licences: set[str] = set()
    whole = [TableWriter(root, name, (FULL,), progress) for name in ("rejected", "references")]
    for table in whole:
        for row in _rows(folder.path(f"{table.name}.jsonl")):
            table.add(FULL, [row])
            if "licence" in row:
                licences.add(row["licence"].lower())
    tables = (records[0], *translated, *records[1:], _put_orders(folder, root, splits, progress), *scored, *whole)
    written = [table.finish() for table in tables]
    return _Laid([table for table in written if table.splits], counted, languages, licences)


def _put_scores(folder: BuildFolder, root: Path, splits: Mapping[int, str], progress: Progress) -> list[TableWriter]:
    """Write the scores of runs, and of models before any edit, but for records that are not the build's."""
    scores = TableWriter(root, "scores", SPLITS, progress)
    for run in finished_runs(folder):
        for row in _rows(run.path(CASES)):
            if row["case_id"] in splits:
                scores.add(splits[row["case_id"]], [score_row(row, run.name)])
    before = []
    for run in finished_bases(folder):
        before.append(TableWriter(root, f"pre_edit-{run.name}", SPLITS, progress))
        for row in _rows(run.path(LIKELIHOODS)):
            if row["case_id"] in splits:
                before[-1].add(splits[row["case_id"]], [row])
    return [scores, *before]


def _put_orders(folder: BuildFolder, root: Path, splits: Mapping[int, str], progress: Progress) -> TableWriter:
    """Write the orders of many edits, one of each split."""
    table = TableWriter(root, "multi", SPLITS, progress)
    for split in SPLITS:
        records = (record for _, record in _rows_and_records(folder) if splits[record.case_id] == split)
        for row in multi_rows(records):
            table.add(split, [row])
    return table


def _other_languages(manifest: Manifest) -> dict[str, str]:
    """Return the files of records in languages beside the first, by language."""
    return dict(list(record_files(manifest).items())[1:])


def _put_records(folder: BuildFolder, tables: Sequence[TableWriter], splits: Mapping[int, str]) -> Iterator[Record]:
    """Yield the build's records after putting each into the tables of records, of prompts and of groups."""
    whole, prompts, *groups = tables
    for row, record in _rows_and_records(folder):
        split = splits[record.case_id]
        whole.add(split, [record_row(row)])
        prompts.add(split, prompt_rows(record))
        for table in groups:
            table.add(split, group_rows(row, table.name))
        yield record


def _noting(records: Iterable[Record], languages: set[str]) -> Iterator[Record]:
    for record in records:
        languages.add(record.language)
        yield record


def _rows(path: Path) -> Iterator[Row]:
    if path.is_file():
        # A file of another language has the first one's schema: records.fr.jsonl.
        first = f"{path.name.partition('.')[0]}{path.suffix}"
        yield from read_values(path, conforming(SCHEMAS[first], dict))
