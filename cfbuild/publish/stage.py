"""The dataset's files, written to a folder as they will be on the Hub. The same build gives the same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cfbuild.progress import Progress, silent
from cfbuild.publish.columns import columns
from cfbuild.publish.split import DRAWN, Splits
from cfbuild.records.kinds import KINDS
from cfbuild.store.codec import ANSWERS, IN_USE, OPTIONAL
from cfbuild.store.files import sha256_file
from cfbuild.store.jsonl import Row

SHARD_BYTES = 128 << 20
"""Bytes after which a file ends: some 150,000 records or four million prompts. The Hub advises files below 5 GB, and
processes share the reading file by file."""
ROWS_A_GROUP = 1_000
"""Rows that a reader has to read at once, and that are kept in memory before they are written."""
FULL = "full"
"""The only split of configurations that have no train and test."""
SCORED = ("rewrite", "paraphrase", "neighborhood", "attribute", *KINDS)
"""Groups of prompts that have scores."""
NOT_MEASURED: Row = {f"{group}{ANSWERS}": [] for group in ("rewrite", "paraphrase")} | dict.fromkeys(
    (*IN_USE, *OPTIONAL)
)
"""The columns of answers and figures in rows of a run that has none of them."""


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A file to publish: its path in the repository, its path here (`source`), its size in bytes and its digest."""

    path: str
    source: Path
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Table:
    """A written configuration of the dataset: its numbers of rows and of files by split, in the order of splits."""

    name: str
    rows: Mapping[str, int]
    files: Mapping[str, int]

    @property
    def splits(self) -> tuple[str, ...]:
        """Return the splits that have rows."""
        return tuple(split for split, rows in self.rows.items() if rows)

    def paths(self, split: str) -> list[str]:
        """Return the paths of a split's files in the repository."""
        count = self.files[split]
        return [f"data/{self.name}/{split}-{place:05d}-of-{count:05d}.parquet" for place in range(count)]


class TableWriter:
    """A writer of a configuration, `name`, in all of its splits; few rows are in memory at a time.

    root: the folder that is like the repository.
    """

    def __init__(self, root: Path, name: str, splits: Sequence[str], progress: Progress = silent) -> None:
        self.name = name
        self._root = root
        self._splits = {split: _Shards(root / "data" / name, name, split, progress) for split in splits}

    def add(self, rows: Any, splits: Splits | None = None) -> None:
        """Add the rows of an Arrow table, each to the split of its case id, if it has one. splits: None for FULL."""
        if splits is None:
            self._splits[FULL].add(rows)
            return
        places = splits.places(rows["case_id"])
        for split, shards in self._splits.items():
            shards.add(rows.filter(places == DRAWN.index(split)))

    def finish(self) -> Table:
        """Return the table, with all of its files in place under their names."""
        for shards in self._splits.values():
            shards.close()
        rows = {split: shards.rows for split, shards in self._splits.items()}
        table = Table(self.name, rows, {split: len(shards.paths) for split, shards in self._splits.items()})
        for split, shards in self._splits.items():
            for written, path in zip(shards.paths, table.paths(split), strict=True):
                written.rename(self._root / path)
        return table


class _Shards:
    """A writer of a split's files. They get their names at the end, as these contain the number of files."""

    def __init__(self, folder: Path, table: str, split: str, progress: Progress) -> None:
        self.rows = 0
        self.paths: list[Path] = []
        self._folder = folder
        self._split = split
        self._schema = columns(table).arrow
        self._progress = progress
        self._waiting: Any = self._schema.empty_table()
        self._sink: Any = None
        self._writer: Any = None

    def add(self, rows: Any) -> None:
        import pyarrow

        waiting = pyarrow.concat_tables([self._waiting, rows])
        while len(waiting) >= ROWS_A_GROUP:
            self._write(waiting.slice(0, ROWS_A_GROUP))
            waiting = waiting.slice(ROWS_A_GROUP)
        self._waiting = waiting

    def close(self) -> None:
        """Write the rows that wait for more, and end the last file."""
        if len(self._waiting):
            self._write(self._waiting)
        if self._writer is not None:
            self._end_file()

    def _write(self, group: Any) -> None:
        if self._writer is None:
            self._begin_file()
        # The lengths of a table's pieces decide where pages and files end, so they are combined.
        self._writer.write_table(group.combine_chunks(), ROWS_A_GROUP)
        self.rows += len(group)
        self._progress("rows laid out", len(group), len(group))
        if self._sink.tell() >= SHARD_BYTES:
            self._end_file()

    def _begin_file(self) -> None:
        import pyarrow
        from pyarrow import parquet

        self._folder.mkdir(parents=True, exist_ok=True)
        self.paths.append(self._folder / f"{self._split}-{len(self.paths):05d}.parquet")
        self._sink = pyarrow.OSFile(str(self.paths[-1]), "wb")
        self._writer = parquet.ParquetWriter(self._sink, self._schema)

    def _end_file(self) -> None:
        self._writer.close()
        self._sink.close()
        self._writer = None


def staged_files(root: Path) -> list[StagedFile]:
    """Return every file in the folder `root` and below it, sorted by path."""
    return [
        StagedFile(path.relative_to(root).as_posix(), path, path.stat().st_size, sha256_file(path))
        for path in sorted(root.rglob("*"))
        if path.is_file()
    ]


def score_row(row: Row, run: str) -> Row:
    """Return a case's row for the configuration `scores`, with all of its columns. run: the run's name."""
    stages = {
        stage: row[stage] and {**{f"{group}_prompts": [] for group in SCORED}, **NOT_MEASURED, **row[stage]}
        for stage in ("pre", "post")
    }
    return {"case_id": row["case_id"], "run": run, **row, **stages}
