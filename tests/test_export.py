"""Exported files, read as the readers of each project read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from scored_build import records, write_scored
from typer.testing import CliRunner

from cfbuild.audit.validate import violations
from cfbuild.cli import app
from cfbuild.errors import ConfigError
from cfbuild.pipeline.export import ExportOptions, export_records
from cfbuild.publish.formats import EXPORTERS, LOC_MARK
from cfbuild.store.codec import decode_record
from cfbuild.store.folder import BuildFolder
from cfbuild.store.schema import load_schema

RECORDS = records(12, hostile=True)


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> BuildFolder:
    return write_scored(tmp_path_factory.mktemp("export") / "build", RECORDS, scored=False)


def exported(build: BuildFolder, name: str) -> list[dict[str, Any]]:
    path, count = export_records(build, ExportOptions(name))
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    assert len(rows) == count == len(RECORDS)
    return rows


@pytest.mark.parametrize("name", EXPORTERS)
def test_every_row_fits_the_formats_schema(build: BuildFolder, name: str) -> None:
    schema = load_schema(f"export-{name}")
    Draft202012Validator.check_schema(schema)
    for row in exported(build, name):
        Draft202012Validator(schema).validate(row)


def test_counterfact_comes_back_as_the_same_records(build: BuildFolder) -> None:
    rows = exported(build, "counterfact")
    assert list(violations(build.path("export/counterfact.json"))) == []
    for row, record in zip(rows, RECORDS, strict=True):
        again = decode_record(row)
        assert (again.rewrite, again.target_new, again.target_true) == (
            record.rewrite,
            record.target_new,
            record.target_true,
        )
        assert [one.text for one in again.paraphrases] == [one.text for one in record.paraphrases]
        assert [one.text for one in again.neighborhood] == [one.text for one in record.neighborhood]
        assert again.generation == record.generation and "meta" not in row


def test_a_reader_of_counterfact(build: BuildFolder) -> None:
    # How the released evaluation reads a row: by these keys, formatting the prompt with the subject.
    for row in exported(build, "counterfact"):
        asked = row["requested_rewrite"]
        assert asked["prompt"].format(asked["subject"]) and " " + asked["target_new"]["str"]
        assert isinstance(row["pararel_idx"], int)
        assert all(isinstance(row[f"{group}_prompts"], list) for group in ("paraphrase", "neighborhood", "attribute"))


def test_a_reader_of_zsre(build: BuildFolder) -> None:
    for row, record in zip(exported(build, "zsre"), RECORDS, strict=True):
        assert LOC_MARK in row["loc"] and row["alt"] != "" and row["subject"] in row["src"]
        assert row["src"].replace(row["subject"], "{}") == record.prompt.text
        assert row["cond"].split(" >> ")[0] == row["answers"][0]


def test_a_reader_of_easyedit(build: BuildFolder) -> None:
    rows = exported(build, "easyedit")
    asked = {key: [row[key] for row in rows] for key in ("prompt", "target_new", "ground_truth", "subject")}
    assert all(subject in prompt for subject, prompt in zip(asked["subject"], asked["prompt"], strict=True))
    assert asked["target_new"] == [record.target_new.label for record in RECORDS]


def test_a_reader_of_knowedit(build: BuildFolder) -> None:
    for row, record in zip(exported(build, "knowedit"), RECORDS, strict=True):
        locality = {kind: [one["prompt"] for one in some] for kind, some in row["locality"].items()}
        assert locality == {"Relation_Specificity": [one.text for one in record.neighborhood], "Forgetfulness": []}
        assert row["portability"]["Logical_Generalization"][0]["ground_truth"] == [[record.target_new.label]]


def test_a_reader_of_mquake(build: BuildFolder) -> None:
    for row, record in zip(exported(build, "mquake"), RECORDS, strict=True):
        asked = row["requested_rewrite"][0]
        assert asked["prompt"].replace("{}", asked["subject"]) == row["questions"][0] == record.rewrite
        assert row["new_single_hops"][0]["answer"] == asked["target_new"]["str"] == row["new_answer"]
        assert row["orig"]["triples"] == [[record.subject.id, record.relation, record.target_true.id]]


def test_the_command(build: BuildFolder, tmp_path: Path) -> None:
    out = tmp_path / "mine.json"
    words = ["export", "--build", str(build.root), "--format", "zsre", "--out", str(out)]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert "12 records in the format zsre" in result.stdout and len(json.loads(out.read_text(encoding="utf-8"))) == 12


def test_a_format_that_does_not_exist(build: BuildFolder, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected one of counterfact, easyedit"):
        export_records(build, ExportOptions("csv"))
    with pytest.raises(ConfigError, match="is not a folder"):
        export_records(build, ExportOptions("zsre", tmp_path / "no" / "x.json"))
