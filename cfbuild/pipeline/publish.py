"""`cfbuild publish`: the build as a dataset, written to `publish/` and, but for a dry run, committed to the Hub."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from cfbuild.errors import DataError
from cfbuild.pipeline.rebuild import rebuild
from cfbuild.progress import Progress, Running, silent
from cfbuild.publish.card import CardInput, make_card, make_citation
from cfbuild.publish.columns import columns
from cfbuild.publish.croissant import NAME as CROISSANT
from cfbuild.publish.croissant import make_croissant
from cfbuild.publish.hub import Destination, Hub, Published
from cfbuild.publish.split import SPLITS, Splits, split_by_subject
from cfbuild.publish.stage import FULL, ROWS_A_GROUP, StagedFile, Table, TableWriter, staged_files
from cfbuild.publish.table_chunks import PROMPTS, RECORDS, CardCounts, MakeTables, Source, line_chunks, subjects
from cfbuild.records.aligned import record_files
from cfbuild.records.kinds import KINDS
from cfbuild.records.multi import PlannedEdits
from cfbuild.score.matrix import finished_matrices
from cfbuild.score.scored import scored_runs
from cfbuild.store.files import write_atomic
from cfbuild.store.folder import MANIFEST, BuildFolder
from cfbuild.store.jsonl import write_json
from cfbuild.store.manifest import Manifest
from cfbuild.store.runs import BASE, CASES, LIKELIHOODS, finished_runs
from cfbuild.work import ALONE, WorkerOptions, map_chunks

VERB = "publish"
STAGED = "publish"
"""The folder in the build that has the dataset's files."""
ORDERS = "multi"
"""The configuration of orders in which many edits are made on one model."""
WHOLE = ("rejected", "references")
"""The configurations that are not divided into splits."""


@dataclass(frozen=True, slots=True)
class Staged:
    """A dataset as it would be on the Hub: its files, the card's text, and the number of records."""

    files: tuple[StagedFile, ...]
    card: str
    records: int


def stage(
    folder: BuildFolder,
    repository: str,
    seed: int = 0,
    progress: Progress = silent,
    workers: WorkerOptions = ALONE,
) -> Staged:
    """Write the dataset of a build into `publish/`, as it will be on the Hub; return it. No network is used.

    repository: OWNER/NAME on the Hub. seed: of the division into splits. workers: they change no byte.
    Raises BuildStateError if there are no records or a file differs from the manifest's digest, ConfigError for a name
    that is not OWNER/NAME, DataError for a row that breaks its schema, and as `map_chunks`.
    """
    Destination(repository)
    workers.check_workers()
    root = folder.path(STAGED)
    with folder.lock(VERB):
        folder.refuse_changed()
        try:
            tables, counted = _lay_out(folder, root, seed, Running(progress), workers)
        except OverflowError as error:
            raise DataError(f"{folder.root}: a number does not fit a column of 64 bits ({error})") from error
        given = _card_input(folder, repository, tables, counted)
        card = make_card(given)
        write_atomic(root / "README.md", [card])
        write_atomic(root / "CITATION.cff", [make_citation(repository)])
        croissant = make_croissant(given, staged_files(root))
        write_json(root / CROISSANT, croissant)
        if folder.path(MANIFEST).is_file():
            shutil.copyfile(folder.path(MANIFEST), root / MANIFEST)
        return Staged(tuple(staged_files(root)), card, given.composition.total["records"])


def publish(
    folder: BuildFolder,
    where: Destination,
    seed: int = 0,
    progress: Progress = silent,
    workers: WorkerOptions = ALONE,
) -> Published:
    """Commit the build's dataset to the Hub; return the commit. The same build published twice commits nothing new.

    Raises PublishError if there is no token or the Hub refuses the dataset, and as `stage`.
    """
    hub = Hub(where)
    staged = stage(folder, where.repository, seed, progress, workers)
    return hub.publish(staged.files, f"Publish {staged.records:,} records built by cfbuild")


def _card_input(folder: BuildFolder, repository: str, tables: list[Table], counted: CardCounts) -> CardInput:
    manifest = folder.manifest()
    return CardInput(
        repository=repository,
        manifest=manifest,
        tables=tables,
        composition=counted.tally.composition(),
        reports={run.name: run.report for run in scored_runs(folder)},
        languages=sorted({*counted.languages, *_other_languages(manifest)}),
        matrices=finished_matrices(folder),
        licences=sorted(counted.licences),
        rebuild=rebuild(manifest.verbs),
    )


def _lay_out(
    folder: BuildFolder, root: Path, seed: int, progress: Progress, workers: WorkerOptions
) -> tuple[list[Table], CardCounts]:
    """Write the files of all configurations under `root`, which is emptied first; return the ones with rows."""
    sources = list(_sources(folder))
    splits = _split(sources[0], seed, progress)
    if root.exists():
        shutil.rmtree(root)
    tables = {
        name: TableWriter(root, name, (FULL,) if name in WHOLE else SPLITS, progress) for name in _tables(sources)
    }
    counted = CardCounts()
    for made in map_chunks(MakeTables(), chain.from_iterable(map(line_chunks, sources)), workers):
        counted.take_in(made.counted)
        for name, rows in made.tables.items():
            tables[name].add(rows, None if name in WHOLE else splits)
    _put_orders(tables[ORDERS], counted.edits, splits)
    written = [table.finish() for table in tables.values()]
    return [table for table in written if table.splits], counted


def _sources(folder: BuildFolder) -> Iterator[Source]:
    """Yield the files of the build that have rows to publish, its records first."""
    yield Source(RECORDS, "record", folder.require("records.jsonl"))
    for code, file in _other_languages(folder.manifest()).items():
        yield Source(f"{RECORDS}_{code}", "record", folder.path(file))
    for run in finished_runs(folder):
        yield Source("scores", "cases", run.path(CASES), run.name)
    for run in finished_runs(folder, BASE):
        yield Source(f"pre_edit-{run.name}", "pre_edit", run.path(LIKELIHOODS))
    for name in WHOLE:
        yield Source(name, name, folder.path(f"{name}.jsonl"))


def _tables(sources: Iterable[Source]) -> list[str]:
    """Return the names of the configurations in the order of the card: records, what is made of them, the rest."""
    names = list(dict.fromkeys(source.table for source in sources))
    count = sum(name.startswith(RECORDS) for name in names)
    return [*names[:count], PROMPTS, *KINDS, ORDERS, *names[count:]]


def _split(source: Source, seed: int, progress: Progress) -> Splits:
    def read() -> Iterator[tuple[int, str]]:
        for chunk in line_chunks(source):
            names = subjects(chunk)
            progress("subjects read", len(names), len(names))
            yield from names

    return split_by_subject(read(), seed)


def _put_orders(table: TableWriter, edits: PlannedEdits, splits: Splits) -> None:
    places = splits.places(edits.case_ids)
    for place in range(len(SPLITS)):
        rows = edits.rows((places == place).nonzero()[0].tolist())
        while group := list(islice(rows, ROWS_A_GROUP)):
            table.add(columns(ORDERS).table(group), splits)


def _other_languages(manifest: Manifest) -> dict[str, str]:
    """Return the build's files of records by language, without the first language's."""
    return dict(list(record_files(manifest).items())[1:])
