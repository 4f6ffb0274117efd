"""The script that prints records as a person reads them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from small_world import write_world

from cfbuild.data import Record
from cfbuild.pipeline.generate import GenerateOptions, generate
from cfbuild.records.prompts import prompts_of
from cfbuild.store import codec, jsonl
from cfbuild.store.folder import BuildFolder

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "read_records.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> BuildFolder:
    folder = BuildFolder(write_world(tmp_path_factory.mktemp("build")))
    generate(folder, GenerateOptions())
    return folder


def read(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True, check=False)


def heads(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("== case ")]


def test_it_prints_every_text_of_the_chosen_records(folder: BuildFolder) -> None:
    ended = read(folder.root, "--limit", 3, "--relation", "P937")
    assert (ended.returncode, ended.stderr, len(heads(ended.stdout))) == (0, "", 3)
    records = {one.case_id: one for one in jsonl.read_values(folder.path("records.jsonl"), codec.decode_record)}
    shown: list[Record] = [records[int(head.split()[2])] for head in heads(ended.stdout)]
    assert {one.relation for one in shown} == {"P937"}
    for record in shown:
        for text in (*(text for _, text, *_ in prompts_of(record)), *record.generation):
            assert f"   {text} " in ended.stdout
        assert f"= {record.target_true.label}  * {record.target_new.label}" in ended.stdout
        assert f"P937 {record.target_true.label}" in ended.stdout


def test_the_seed_chooses(folder: BuildFolder) -> None:
    texts = [read(folder.root, "--limit", 5, "--seed", seed).stdout for seed in (1, 1, 2)]
    assert texts[0] == texts[1] and heads(texts[0]) != heads(texts[2])


def test_what_cannot_be_read_is_said(folder: BuildFolder, tmp_path: Path) -> None:
    for arguments, code, message in (
        ((folder.root, "--relation", "P36"), 1, "has no record of P36"),
        ((tmp_path,), 1, "cfbuild generate"),
        ((folder.root, "--limit", 0), 2, "expected at least 1"),
    ):
        ended = read(*arguments)
        assert ended.returncode == code and message in ended.stderr and "Traceback" not in ended.stderr
