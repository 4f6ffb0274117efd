"""Publishing and reporting many records: few in memory at a time, by several processes with the same bytes.

Memory is counted in values that are alive, not measured. The script that measures it makes the same facts every time.
"""

from __future__ import annotations

import gc
import hashlib
import json
import multiprocessing
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scored_build import case, record, records, write_scored
from typer.testing import CliRunner

from cfbuild.audit.validate import read_records
from cfbuild.cli import app
from cfbuild.data import CaseScore, Record, Target
from cfbuild.errors import DataError
from cfbuild.pipeline.publish import stage
from cfbuild.pipeline.report import report
from cfbuild.publish import stage as staging
from cfbuild.publish import table_chunks
from cfbuild.publish.split import split_by_subject
from cfbuild.publish.table_chunks import CardCounts, LineChunk, Source, subjects
from cfbuild.records import composition
from cfbuild.score.metrics import CaseValues
from cfbuild.store.codec import decode_record, encode_record
from cfbuild.store.folder import BuildFolder
from cfbuild.store.jsonl import dump_row, read_lines, read_rows, write_jsonl
from cfbuild.views.page import shown
from cfbuild.work import WorkerOptions

ROOT = Path(__file__).resolve().parents[1]
NAME = "someone/many"


def test_the_script_measures_every_step(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "bench_scale.py"), "--facts", "900", "--keep", str(tmp_path)]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True, encoding="utf-8").stdout
    steps = re.findall(r"^ +(\d+) facts, +(\d+) records: (\w+) .* gave ([\d,]+)$", found, flags=re.MULTILINE)
    assert [step for _, _, step, _ in steps] == ["generate", "audit", "publish", "report"], found
    facts, made = int(steps[0][0]), int(steps[0][1])
    assert 800 < facts < 1000 and 100 < made == int(steps[0][3])
    assert steps[1][3] == "0"  # the audit finds nothing
    rows = [path.read_bytes().count(b"\n") for path in (tmp_path / "900").glob("re[cj]*.jsonl")]
    assert sum(rows) == facts


# ---------------------------------------------------------------------------------------------------------- publishing


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_chunks, "LINES", 4)
    monkeypatch.setattr(staging, "ROWS_A_GROUP", 4)


@pytest.fixture
def build(tmp_path: Path) -> BuildFolder:
    return write_scored(tmp_path / "build", [record(number, entity=number // 2) for number in range(60)])


@pytest.fixture
def nothing_alive() -> Iterator[None]:
    """Leave out of `alive` what is there already: a process of many tests has millions of objects."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def alive(kind: type) -> int:
    """Return the number of objects of a type that were made since `nothing_alive`."""
    return sum(type(one) is kind for one in gc.get_objects())


def digests(folder: BuildFolder) -> dict[str, str]:
    root = folder.path("publish")
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


@pytest.mark.usefixtures("small_chunks")
def test_workers_change_no_byte_of_what_is_published(build: BuildFolder, caplog: pytest.LogCaptureFixture) -> None:
    """Nor does a killed one, whose chunk is laid out again."""
    card = stage(build, NAME).card
    alone = digests(build)
    kills = iter(range(1))

    def kill(task: str, done: int, total: int | None) -> None:
        if task == "rows laid out" and next(kills, None) is not None:
            multiprocessing.active_children()[0].kill()

    staged = stage(build, NAME, progress=kill, workers=WorkerOptions(workers=2))
    assert digests(build) == alone and staged.card == card and len(alone) > 15
    assert sum("done again" in one.message for one in caplog.records) == 1


def test_the_command_has_workers(build: BuildFolder) -> None:
    words = ["publish", NAME, "--build", str(build.root), "--dry-run", "--json", "--quiet"]
    alone, several = (CliRunner().invoke(app, [*words, *more]).stdout for more in ((), ("--workers", "2")))
    assert json.loads(alone) == json.loads(several)


@pytest.mark.parametrize("lines", [1, 7, 1_000])
def test_the_length_of_chunks_changes_no_byte(build: BuildFolder, lines: int, monkeypatch: pytest.MonkeyPatch) -> None:
    stage(build, NAME)
    whole = digests(build)
    monkeypatch.setattr(table_chunks, "LINES", lines)
    stage(build, NAME)
    assert digests(build) == whole


@pytest.mark.usefixtures("small_chunks", "nothing_alive")
def test_publishing_holds_a_chunk_of_the_records(build: BuildFolder) -> None:
    most = 0

    def look(task: str, done: int, total: int | None) -> None:
        nonlocal most
        most = max(most, alive(Record))

    stage(build, NAME, progress=look)
    assert most <= 2 * table_chunks.LINES  # all 60 would be alive if they were held


def test_what_is_kept_of_a_record_is_small_and_of_a_prompt_that_comes_again_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(composition, "MANY", 100)
    counted, many = CardCounts(), CardCounts()
    for number in range(500):
        counted.add(record(number))
        many.add(replace(record(7), case_id=number))
    tally, again = (len(pickle.dumps(one.tally)) for one in (counted, many))
    prompts = sum(value for item, value in counted.tally.composition().total.items() if item != "records")
    assert tally < 2 * 8 * prompts + 20_000 and again < tally / 4
    assert len(pickle.dumps(counted.edits)) < 200 * 500


@pytest.mark.parametrize("text", ["", "\U0001f600\x00\u2028", "Q5"])
@pytest.mark.parametrize("meta", [True, False])
def test_subjects_are_those_of_a_strict_reading(tmp_path: Path, text: str, meta: bool) -> None:
    rows = [encode_record(replace(one, subject=Target(text and one.subject.id, text))) for one in records(3)]
    if not meta:
        del rows[1]["meta"]
    path = tmp_path / "records.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    chunk = LineChunk(Source("records", "record", path), list(read_lines(path)))
    strict = [(one.case_id, one.subject.id or one.subject.label) for one in map(decode_record, rows)]
    assert subjects(chunk) == strict


@pytest.mark.parametrize(("number", "error"), [("2.5", DataError), ('"2"', DataError), (str(1 << 63), OverflowError)])
def test_what_is_no_case_id_is_refused_as_by_a_strict_reading(
    tmp_path: Path, number: str, error: type[Exception]
) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text(dump_row(encode_record(record(2))).replace('"case_id":2', f'"case_id":{number}', 1), "utf-8")
    chunk = LineChunk(Source("records", "record", path), list(read_lines(path)))
    with pytest.raises(error):
        split_by_subject(subjects(chunk), 0)


def test_a_broken_row_is_named_by_its_line(build: BuildFolder) -> None:
    path = build.path("records.jsonl")
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    broken = json.loads(lines[41])
    broken["paraphrase_prompts"] = "none"
    path.write_text("".join([*lines[:41], dump_row(broken) + "\n", *lines[42:]]), encoding="utf-8")
    entry = build.manifest().entry("generate")
    build.finish("generate", entry.config, {name: file.rows for name, file in entry.files.items()}, entry.counted)
    for workers in (1, 2):
        with pytest.raises(DataError, match=r"records\.jsonl:42: /paraphrase_prompts"):
            stage(build, NAME, workers=WorkerOptions(workers=workers))


# ----------------------------------------------------------------------------------------------------------- reporting


def listed_in(page: Path) -> list[int]:
    (index,) = re.findall(r'<script[^>]*id="index"[^>]*>(.*?)</script>', page.read_text("utf-8"), flags=re.DOTALL)
    found: list[int] = json.loads(index)["case"]
    return found


def test_the_list_of_many_records_is_the_same_sample_however_they_are_read(
    build: BuildFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shown, "MOST_LISTED", 7)
    streamed = report(build).page.read_bytes()
    assert report(build).page.read_bytes() == streamed
    assert report(build, read=read_records(build.path("records.jsonl"))).page.read_bytes() == streamed
    every = [row["case_id"] for _, row in read_rows(build.path("records.jsonl"))]
    assert listed_in(build.path("report.html")) == [every[place * 60 // 7] for place in range(7)]


def test_the_sample_is_even_over_the_records_that_are_valid(
    build: BuildFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shown, "MOST_LISTED", 7)
    rows = [encode_record(one) for one in records(40)]
    for row in rows[10:20]:
        row["generation_prompts"] = 5
    write_jsonl(tmp_path / "faulty.jsonl", rows)
    bare = BuildFolder(tmp_path / "bare")
    bare.root.mkdir()
    page = report(bare, tmp_path / "faulty.jsonl").page
    valid = [row["case_id"] for place, row in enumerate(rows) if not 10 <= place < 20]
    assert listed_in(page) == [valid[place * 30 // 7] for place in range(7)]
    bare.path("records.jsonl").write_bytes((tmp_path / "faulty.jsonl").read_bytes())
    with pytest.raises(DataError, match="generation_prompts"):
        report(bare)


@pytest.mark.usefixtures("nothing_alive")
def test_reporting_holds_few_records_and_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shown, "MOST_LISTED", 7)
    monkeypatch.setattr(shown, "CASES_AT_ONCE", 5)
    most = {Record: 0, CaseScore: 0}

    def looked_at(made: Iterator[Any]) -> Iterator[Any]:
        for item in made:
            for kind, count in most.items():
                most[kind] = max(count, alive(kind))
            yield item

    found = shown.show_records(looked_at(record(number) for number in range(60)), 60)
    cases = shown.ShownCases(looked_at(case(record(number)) for number in range(60)), found.case_ids)
    assert found.count == 60 and len(cases.columns()["fault"]) == 7 and len(list(cases.blocks())) == 1
    assert most[Record] <= 3 and most[CaseScore] <= 2 * 5 + 1


def test_the_values_of_cases_take_eight_bytes_a_figure() -> None:
    cases = [case(record(number)) for number in range(300)]
    few, many = CaseValues.of(cases[:100]), CaseValues.of(cases)
    grown = len(pickle.dumps(many)) - len(pickle.dumps(few))
    assert grown <= 200 * 8 * (1 + len(many.values)) + 1_000
