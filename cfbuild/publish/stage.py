"""The dataset's files, laid out in a folder as they will be on the Hub. The same build gives the same bytes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cfbuild.records.groups import GROUPS
from cfbuild.store.files import sha256_file
from cfbuild.store.jsonl import Row

ROWS_A_SHARD = 20_000
"""The most rows of a file: about 100 MB of records or 300 MB of scores, which the Hub's viewer can take."""
FULL = "full"
"""The only split of configurations that have no train and test."""
SCORED = ("rewrite", "paraphrase", "neighborhood", "attribute", *GROUPS)
"""Groups of prompts that have scores."""


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


def write_tables(root: Path, tables: Iterable[Table]) -> None:
    """Write `data/CONFIG/SPLIT-00000-of-00001.parquet` and so on for every split that has rows; delete `root` first."""
    import datasets

    if root.exists():
        shutil.rmtree(root)
    quiet = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        for table in tables:
            features = FEATURES[table.name]()
            folder = root / "data" / table.name
            folder.mkdir(parents=True)
            for split in table.splits:
                rows = list(table.rows[split])
                count = -(-len(rows) // ROWS_A_SHARD)
                for place in range(count):
                    rows_of_shard = rows[place * ROWS_A_SHARD : (place + 1) * ROWS_A_SHARD]
                    shard = datasets.Dataset.from_list(rows_of_shard, features=features)
                    shard.to_parquet(folder / f"{split}-{place:05d}-of-{count:05d}.parquet")
    finally:
        if quiet:
            datasets.enable_progress_bars()


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
        stage: row[stage] and {**{f"{group}_prompts": [] for group in SCORED}, **row[stage]}
        for stage in ("pre", "post")
    }
    return {"case_id": row["case_id"], "run": run, **row, **stages}


def record_row(row: Row) -> Row:
    """Return a record's row for the configuration `records`, without the groups that are configurations too."""
    if "meta" not in row:
        return row
    return {**row, "meta": {key: value for key, value in row["meta"].items() if key != "groups"}}


def group_rows(row: Row, group: str) -> list[Row]:
    """Return the prompts of a record's group as rows of that group's configuration."""
    request = row["requested_rewrite"]
    about = {key: request[key] for key in ("prompt", "relation_id", "subject", "target_new", "target_true")}
    prompts = row.get("meta", {}).get("groups", {}).get(group, ())
    return [{"case_id": row["case_id"], "requested_rewrite": about, **one} for one in prompts]


# ------------------------------------------------------------------------------------------------------ column types


def _records() -> Any:
    from datasets import Features, Json, List, Value

    text = Value("string")
    target = {"str": text, "id": text}
    prompt = {"entity": text, "template": text}
    return Features(
        {
            "case_id": Value("int64"),
            "pararel_idx": Value("int64"),
            "requested_rewrite": {
                "prompt": text,
                "relation_id": text,
                "target_new": target,
                "target_true": target,
                "subject": text,
            },
            **{f"{kind}_prompts": List(text) for kind in ("paraphrase", "neighborhood", "attribute", "generation")},
            "meta": {
                **dict.fromkeys(("subject_id", "language", "source", "template_origin"), text),
                "paraphrases": List({"prefix": text, "clean": text, "template": text}),
                "neighborhood": List(prompt),
                "attribute": List(prompt),
                "shared_class": {"id": text, "steps": Value("int64"), "fallback": text},
                # Keys are names of models, so they cannot be columns. The library reads floats of such columns to 15
                # digits; the build's rounding to 6 decimals needs fewer.
                "scores": Json(),
            },
        }
    )


def _group() -> Any:
    from datasets import Features, Value

    text = Value("string")
    target = {"str": text, "id": text}
    rewrite = {"prompt": text, "relation_id": text, "subject": text, "target_new": target, "target_true": target}
    return Features(
        {
            "case_id": Value("int64"),
            "requested_rewrite": rewrite,
            "prompt": text,
            "target_new": target,
            "target_true": target,
            **dict.fromkeys(("entity", "relation_id", "template"), text),
        }
    )


def _references() -> Any:
    from datasets import Features, Value

    names = ("relation_id", "object_id", "entity_id", "name", "text", "title", "revision", "url", "licence")
    return Features({name: Value("int64" if name == "revision" else "string") for name in names})


def _rejected() -> Any:
    from datasets import Features, Json, Value

    names = ("case_id", "relation_id", "subject_id", "object_id", "subject", "object", "rule")
    columns = {name: Value("int64" if name == "case_id" else "string") for name in names}
    return Features({**columns, "measured": Json()})


def _scores() -> Any:
    from datasets import Features, Json, List, Value

    number, truth = Value("float64"), Value("bool")
    prompt = {
        "target_new_nll": number,
        "target_true_nll": number,
        "target_new_argmax": truth,
        "target_true_argmax": truth,
    }
    stage = {
        **{f"{group}_prompts": List(prompt) for group in SCORED},
        "generations": List(Value("string")),
        **dict.fromkeys(("generation_entropy", "reference_score", "mentions_target_new"), number),
    }
    text = Value("string")
    return Features(
        {
            "case_id": Value("int64"),
            **dict.fromkeys(("run", "relation_id", "editor", "fault"), text),
            "edit": Json(),
            "pre": stage,
            "post": stage,
        }
    )


FEATURES: Mapping[str, Callable[[], Any]] = {
    "records": _records,
    **dict.fromkeys(GROUPS, _group),
    "scores": _scores,
    "rejected": _rejected,
    "references": _references,
}
"""All possible configurations, the default first, with the types of their columns."""
