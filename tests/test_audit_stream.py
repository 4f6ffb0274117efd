"""The audit of files larger than memory: in chunks, by any number of workers, with the same bytes as in one go."""

from __future__ import annotations

import json
import os
import signal
import threading
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
from planted import FAULTS, clean_rows, clean_world, planted

from cfbuild.audit import survey
from cfbuild.audit.findings import JudgedRow
from cfbuild.errors import ConfigError, DataError
from cfbuild.pipeline import audit as pipeline
from cfbuild.pipeline.audit import AuditOptions, JudgeRows, audit
from cfbuild.store import jsonl
from cfbuild.store.schema.located import Piece

Row = dict[str, Any]
MOST_BYTES = 200
"""A row of a file may take so much memory of an audit: digests of its case id, its edit and what it shows."""


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """Return rows with a fault of each kind, and pairs far apart that have a case id or an edit in common."""
    clean = clean_rows(*clean_world(), 60)
    faulty = [planted(row, plant) for row, (_, plant) in zip(clean, FAULTS, strict=False)]
    again = {**clean[-1], "case_id": clean[0]["case_id"]}
    return [*faulty, *clean[len(faulty) : -1], again, clean[-1], {**clean[-1], "case_id": 10**9}]


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "CHUNK_ROWS", 7)


def written(path: Path, rows: Sequence[Row], form: str = "lines") -> Path:
    if form == "lines":
        jsonl.write_jsonl(path, rows)
    else:
        value = rows if form == "array" else {f"row {number}": row for number, row in enumerate(rows)}
        path.write_text(json.dumps(value), encoding="utf-8")
    return path


def results(file: Path, **options: Any) -> tuple[str, bytes, bytes]:
    """Return the summary, the cleaned file and the changes of an audit."""
    fixed = file.with_name("fixed")
    summary = audit(AuditOptions(file, fix=fixed, **options))
    return json.dumps(asdict(summary)), fixed.read_bytes(), fixed.with_name("fixed.changes.jsonl").read_bytes()


@pytest.mark.parametrize("form", ["lines", "array", "object"])
def test_the_same_bytes_whatever_the_chunks_and_the_workers(
    tmp_path: Path, rows: list[Row], form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path / "rows.json", rows, form)
    whole = results(file)
    monkeypatch.setattr(survey, "CHUNK_ROWS", 7)
    assert results(file) == whole
    assert results(file, workers=2) == whole
    if form != "lines":  # indented as a document that is written in one go
        text = whole[1].decode()
        assert text == jsonl.dump_indented(json.loads(text)) + "\n"


@dataclass(frozen=True)
class Mortal(JudgeRows):
    """Judges rows; the first chunk kills the first worker that has it."""

    def open(self) -> Callable[[Sequence[Piece]], list[JudgedRow]]:
        judged = super().open()
        mark = self.options.file.with_name("died")

        def do(pieces: Sequence[Piece]) -> list[JudgedRow]:
            if not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return judged(pieces)

        return do


def test_a_killed_worker_changes_no_byte(
    tmp_path: Path, rows: list[Row], small_chunks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path / "rows.jsonl", rows)
    whole = results(file)
    monkeypatch.setattr(pipeline, "JudgeRows", Mortal)
    assert results(file, workers=2) == whole and (tmp_path / "died").exists()


def edit(number: int, **changes: Any) -> Row:
    return {"case_id": number, "prompt": f"S{number} is", "subject": f"S{number}", "target_new": "x", **changes}


@pytest.mark.parametrize(
    ("rule", "changes"),
    [("duplicate-case-id", {"case_id": 1.0}), ("conflicting-edits", {"subject": "S1", "prompt": "S1 is"})],
)
@pytest.mark.parametrize("form", ["lines", "array"])
def test_a_fault_of_two_rows_is_found_whatever_lies_between(
    tmp_path: Path, small_chunks: None, rule: str, changes: Row, form: str
) -> None:
    far = [*(edit(number) for number in range(1, 40)), edit(40, **changes)]
    summary = audit(AuditOptions(written(tmp_path / "rows.json", far, form)))
    (found,) = summary.rules.items()
    assert found[0] == rule and (found[1].faults, summary.faulty) == (1, 1)
    assert "line 1" in found[1].examples[0].got or "again" in found[1].examples[0].got


def row_about(number: int, paraphrases: Sequence[str], neighbors: Sequence[str] = ()) -> Row:
    name = f"Kim Ode{number}"
    rewrite = {"subject": name, "prompt": "The tongue of {} is", "relation_id": "P103"}
    targets = {"target_true": {"str": "Welsh", "id": "Q9309"}, "target_new": {"str": "Thai", "id": "Q9217"}}
    return {
        "case_id": number,
        "requested_rewrite": {**rewrite, **targets},
        "paraphrase_prompts": [text.format(name) for text in paraphrases],
        "neighborhood_prompts": list(neighbors),
        "attribute_prompts": [],
        "generation_prompts": [],
    }


def test_a_template_is_learned_from_rows_in_other_chunks(tmp_path: Path, small_chunks: None) -> None:
    templates = ["{} speaks natively", "{}, who grew up speaking"]
    read = row_about(0, (), [text.format("Ann Lee") for text in templates])
    rest = [row_about(number, ()) for number in range(1, 30)]
    shown = [row_about(99, templates), row_about(100, templates)]
    alone = audit(AuditOptions(written(tmp_path / "alone.jsonl", [read, *rest, shown[0]])))
    assert alone.rules == {}  # what one row shows may be a prefix that was cut in the wrong place
    apart = audit(AuditOptions(written(tmp_path / "apart.jsonl", [read, shown[0], *rest, shown[1]])))
    assert {rule: entry.guesses for rule, entry in apart.rules.items()} == {"repeated-entity": 1}


def peak(path: Path, count: int, **options: Any) -> int:
    """Return the most memory of an audit of `count` rows of 4 kB, in bytes."""
    file = path / f"{count}.jsonl"
    jsonl.write_jsonl(file, (edit(number, note=f"{number:>4000}") for number in range(count)))
    tracemalloc.start()
    try:
        assert audit(AuditOptions(file, **options)).rows == count
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("cleaned", [False, True])
def test_memory_grows_by_a_few_bytes_a_row(tmp_path: Path, small_chunks: None, cleaned: bool) -> None:
    fix = {"fix": tmp_path / "fixed"} if cleaned else {}
    peak(tmp_path, 100, **fix)  # what is made once, such as compiled patterns
    few, many = (peak(tmp_path, count, **fix) for count in (400, 2000))
    assert many - few < 1600 * MOST_BYTES


def test_a_file_that_changes_between_the_passes_is_refused(tmp_path: Path) -> None:
    file, fixed = written(tmp_path / "rows.jsonl", [edit(1), edit(2)]), tmp_path / "fixed"

    def change(task: str, done: int, total: int | None) -> None:
        if task == "rows read" and total is not None:
            written(file, [edit(1), edit(1)])

    with pytest.raises(DataError, match="changed while it was read"):
        audit(AuditOptions(file, fix=fixed), change)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl"]


def test_a_pipe_is_audited_like_a_file(tmp_path: Path, rows: list[Row]) -> None:
    file, pipe = written(tmp_path / "rows.jsonl", rows), tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(file.read_bytes(),))
    writer.start()
    assert audit(AuditOptions(pipe)) == audit(AuditOptions(file))
    writer.join()


def test_zero_workers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="workers is 0"):
        AuditOptions(tmp_path / "a", workers=0)
