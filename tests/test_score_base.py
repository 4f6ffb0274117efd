"""Scores before any edit: what a run has before its edits, kept, resumed and published by model; and `multi`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
from jsonschema import Draft202012Validator
from scored_build import record, records, write_scored
from typer.testing import CliRunner

from cfbuild.cli import app
from cfbuild.data import Record, Target
from cfbuild.edit.editor import Edit
from cfbuild.errors import BuildStateError, ConfigError
from cfbuild.lm.model import LanguageModel
from cfbuild.pipeline.publish import stage
from cfbuild.pipeline.score_base import BaseOptions, base_name, score_base
from cfbuild.records.multi import SIZES, PlannedEdits, free_of_conflicts
from cfbuild.score.cases import score_cases
from cfbuild.score.metrics import aggregate
from cfbuild.store.folder import BuildFolder
from cfbuild.store.jsonl import Row, read_rows
from cfbuild.store.schema import load_schema

RECORDS = records(7)


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return tiny.make("gpt2")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BuildFolder:
    monkeypatch.setattr("cfbuild.score.passes.CASES_AT_ONCE", 2)
    return write_scored(tmp_path / "build", RECORDS, scored=False)


def test_rows_are_what_a_run_has_before_its_edits(folder: BuildFolder, lm: LanguageModel) -> None:
    made = score_base(folder, BaseOptions(), lm)
    rows = [row for _, row in read_rows(Path(made.file))]
    for row in rows:
        Draft202012Validator(load_schema("pre_edit")).validate(row)
    cases = score_cases(lm, RECORDS, [Edit((one.case_id,), None) for one in RECORDS], "none")
    for case in cases:
        for kind, scores in case.pre.prompts.items():
            found = [row for row in rows if (row["case_id"], row["kind"]) == (case.case_id, kind)]
            expected = [(row["target_new_nll"], row["target_true_nll"]) for row in found]
            for (new, true), score in zip(expected, scores, strict=True):
                assert (new, true) == pytest.approx((score.target_new_nll, score.target_true_nll), abs=1e-4)
    assert made.figures.keys() == aggregate(cases, "pre").keys() and made.prompts == len(rows)
    assert made.figures["ES"].mean == pytest.approx(aggregate(cases, "pre")["ES"].mean)


def test_an_interrupted_run_goes_on_to_the_same_bytes(folder: BuildFolder, lm: LanguageModel, tmp_path: Path) -> None:
    whole = score_base(write_scored(tmp_path / "other", RECORDS, scored=False), BaseOptions(), lm)

    def stop(task: str, done: int, total: int | None) -> None:
        if task == "records" and done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_base(folder, BaseOptions(), lm, stop)
    seen: list[int] = []
    made = score_base(
        folder, BaseOptions(), lm, lambda task, done, total: seen.append(done) if task == "records" else None
    )
    assert min(seen) > 4 and Path(made.file).read_bytes() == Path(whole.file).read_bytes()
    seen.clear()
    again = score_base(folder, BaseOptions(), lm, lambda *given: seen.append(1))
    assert again == made and not seen
    with pytest.raises(BuildStateError, match="other settings"):
        score_base(folder, BaseOptions(limit=3), lm)
    assert score_base(folder, BaseOptions(limit=3, restart=True), lm).prompts < made.prompts


def test_the_names_of_models_and_what_is_refused() -> None:
    assert base_name("openai-community/gpt2-xl", "15ea56dee5df4983c59b2538573817e1667135e2") == "gpt2-xl-15ea56de"
    assert base_name("my model!", "folder:abcdef0123") == "my-model-abcdef01"
    with pytest.raises(ConfigError, match="each once"):
        BaseOptions(("gpt2", "gpt2"))
    with pytest.raises(ConfigError, match="limit"):
        BaseOptions(limit=0)


def test_each_model_is_a_configuration_of_the_dataset(folder: BuildFolder, lm: LanguageModel) -> None:
    from pyarrow import parquet

    made = score_base(folder, BaseOptions(), lm)
    staged = stage(folder, "someone/set")
    name = f"pre_edit-{base_name(lm.name, lm.revision)}"
    files = [one for one in staged.files if one.path.startswith(f"data/{name}/")]
    rows = [row for one in files for row in parquet.read_table(one.source).to_pylist()]
    assert sorted(map(str, rows)) == sorted(str(row) for _, row in read_rows(Path(made.file)))
    assert f"config_name: {name}" in staged.card


def test_the_command(folder: BuildFolder, lm: LanguageModel, tmp_path: Path) -> None:
    lm.model.save_pretrained(tmp_path / "model")
    lm.tokenizer.save_pretrained(tmp_path / "model")
    words = ["score-base", "--build", str(folder.root), "--models", str(tmp_path / "model"), "--device", "cpu"]
    shown = CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False)
    (made,) = json.loads(shown.stdout)
    assert made["figures"]["ES"]["cases"] == len(RECORDS) and made["prompts"] == len(RECORDS) * 23
    assert "before any edit: ES" in CliRunner().invoke(app, words, catch_exceptions=False).stdout


def test_no_two_of_the_order_are_about_one_fact_in_either_direction() -> None:
    capital = replace(record(1, relation="P36"), target_new=Target("Q77", "Elsewhere"))
    again = replace(capital, case_id=2, target_new=Target("Q78", "Nowhere"))
    inverse = replace(record(3, relation="P1376"), subject=Target("Q77", "Elsewhere"))
    free = replace(inverse, case_id=4, subject=Target("Q79", "Somewhere"))
    assert [one.case_id for one in free_of_conflicts([capital, again, inverse, free])] == [1, 4]


def multi_rows(ordered: Iterable[Record]) -> list[Row]:
    """Return the rows of the order of these records, put together from two parts."""
    parts = PlannedEdits(), PlannedEdits()
    for number, edited in enumerate(ordered):
        parts[number > 3].add(edited)
    parts[0].take_in(parts[1])
    return list(parts[0].rows(range(len(parts[0].case_ids))))


def test_batches_of_the_order() -> None:
    ordered = records(1_203)
    rows = list(multi_rows(ordered))
    assert [row["place"] for row in rows] == list(range(len(rows))) and len(rows) > 1_000
    for size in SIZES:
        assert all(row[f"batch_{size}"] == row["place"] // size for row in rows)
    assert {row["case_id"] for row in rows} <= {one.case_id for one in ordered}
    assert [row["case_id"] for row in rows] != sorted(row["case_id"] for row in rows)
    assert list(multi_rows(reversed(ordered))) == rows, "the order depends on the seed alone"
    edited = replace(
        record(5_000),
        neighborhood=tuple(replace(one, entity=record(5_001).subject.id) for one in record(5_000).neighborhood),
    )
    made = [row for row in multi_rows([edited, record(5_001, relation=edited.relation)]) if row["case_id"] == 5_000]
    assert made[0]["neighbors_edited"] == len(edited.neighborhood)
