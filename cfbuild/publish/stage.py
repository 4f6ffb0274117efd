"""The dataset's files, laid out in a folder as they will be on the Hub. The same build gives the same bytes."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cfbuild.data import Record
from cfbuild.progress import Progress, Running, silent
from cfbuild.publish.columns import columns
from cfbuild.records.kinds import KINDS
from cfbuild.records.prompts import choices_of, prompts_of, stays_true
from cfbuild.store.codec import ANSWERS, IN_USE, OPTIONAL
from cfbuild.store.files import sha256_file
from cfbuild.store.jsonl import Row

ROWS_A_SHARD = 20_000
"""The most rows of a file: about 100 MB of records or 300 MB of scores, which the Hub's viewer can take."""
ROWS_A_GROUP = 1_000
"""Rows that a reader has to take in at once."""
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
    """A configuration of the dataset: its rows by split, in the order of the splits."""

    name: str
    rows: Mapping[str, Sequence[Row]]

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that have rows."""
        return tuple(split for split, rows in self.rows.items() if rows)

    def paths(self, split: str) -> list[str]:
        """Return the paths of a split's files in the repository, each of ROWS_A_SHARD rows at most."""
        count = -(-len(self.rows[split]) // ROWS_A_SHARD)
        return [f"data/{self.name}/{split}-{place:05d}-of-{count:05d}.parquet" for place in range(count)]


def write_tables(root: Path, tables: Iterable[Table], progress: Progress = silent) -> None:
    """Write the files of every split that has rows under `root`, which is deleted first."""
    if root.exists():
        shutil.rmtree(root)
    written = Running(progress)
    for table in tables:
        (root / "data" / table.name).mkdir(parents=True)
        for split in table.splits:
            for place, path in enumerate(table.paths(split)):
                rows = table.rows[split][place * ROWS_A_SHARD : (place + 1) * ROWS_A_SHARD]
                _write_shard(root / path, table.name, rows)
                written("rows laid out", len(rows), len(rows))


def _write_shard(path: Path, table: str, rows: Sequence[Row]) -> None:
    import pyarrow
    from pyarrow import parquet

    of_table = columns(table)
    made = pyarrow.Table.from_pylist([of_table.cells(row) for row in rows], schema=of_table.arrow())
    parquet.write_table(made, path, row_group_size=ROWS_A_GROUP)


def staged_files(root: Path) -> list[StagedFile]:
    """Return every file under `root`, sorted by path."""
    return [
        StagedFile(path.relative_to(root).as_posix(), path, path.stat().st_size, sha256_file(path))
        for path in sorted(root.rglob("*"))
        if path.is_file()
    ]


def score_row(row: Row, run: str) -> Row:
    """Return the row of a case with the run's name and every group of prompts, so that all rows have equal columns."""
    stages = {
        stage: row[stage] and {**{f"{group}_prompts": [] for group in SCORED}, **NOT_MEASURED, **row[stage]}
        for stage in ("pre", "post")
    }
    return {"case_id": row["case_id"], "run": run, **row, **stages}


def record_row(row: Row) -> Row:
    """Return a record's row for the configuration `records`, without the groups that are configurations too."""
    if "meta" not in row:
        return row
    return {**row, "meta": {key: value for key, value in row["meta"].items() if key != "groups"}}


def prompt_rows(record: Record) -> list[Row]:
    """Return the prompts of a record as rows of the configuration `prompts`: those that are scored, then the others.

    `answer` is the object that should be likelier after the edit.
    """
    about = {"case_id": record.case_id, "relation_id": record.relation, "subject": record.subject.label}
    about["language"] = record.language
    scored = [
        {
            **about,
            "kind": kind,
            "prompt": text,
            "target_new": new.label,
            "target_true": true.label,
            "choices": choices_of(kind, new, true),
            "answer": true.label if stays_true(kind) else new.label,
        }
        for kind, text, new, true in prompts_of(record)
    ]
    nothing = dict.fromkeys(("target_new", "target_true", "answer"))
    written = [{**about, "kind": "generation", "prompt": text, "choices": [], **nothing} for text in record.generation]
    return [*scored, *written]


def group_rows(row: Row, group: str) -> list[Row]:
    """Return the prompts of a record's group as rows of that group's configuration."""
    request = row["requested_rewrite"]
    about = {key: request[key] for key in ("prompt", "relation_id", "subject", "target_new", "target_true")}
    prompts = row.get("meta", {}).get("groups", {}).get(group, ())
    return [{"case_id": row["case_id"], "requested_rewrite": about, **one} for one in prompts]
