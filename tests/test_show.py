"""`cfbuild show` and `cfbuild report`, as typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scored_build import records, write_scored
from typer.testing import CliRunner

from cfbuild.cli import app
from cfbuild.errors import BuildStateError, ConfigError
from cfbuild.store.folder import BuildFolder
from cfbuild.text.safe import visible


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> BuildFolder:
    return write_scored(tmp_path_factory.mktemp("show") / "build", records(24, hostile=True))


def typed(build: BuildFolder, *words: str) -> str:
    result = CliRunner().invoke(app, ["show", "--build", str(build.root), *words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_controls_become_visible() -> None:
    assert visible("a\x1b[2J\u202eb\x9b\r\n\ttab") == "a[U+001B][2J[U+202E]b[U+009B][U+000D]\n\ttab"
    assert visible("Ünï שלום 北京 👩‍👩‍👧") == "Ünï שלום 北京 👩‍👩‍👧"


def test_every_record_is_shown_without_controls(build: BuildFolder) -> None:
    text = typed(build)
    assert text.count("\ncase ") == 23
    assert not {"\x1b", "\x9b", "\x07", "\u202e", "\u2066"} & set(text)
    assert "[U+001B][31mred" in text


def test_one_case(build: BuildFolder) -> None:
    text = typed(build, "--case", "17")
    assert text.startswith("case 17  P36  ") and "P(o*) before > after" in text
    assert "neighborhood" in text and "after " in text


def test_a_case_whose_edit_failed_says_why(build: BuildFolder) -> None:
    assert "no edit: the edit is not finite" in typed(build, "--case", "19")


def test_a_relation_and_a_sample_that_repeats(build: BuildFolder) -> None:
    assert typed(build, "--relation", "P36").count("  P36  ") == 6
    sample = typed(build, "--sample", "5")
    assert sample.count("P(o*) before") == 5 and typed(build, "--sample", "5") == sample
    assert typed(build, "--sample", "5", "--seed", "1") != sample


def test_json_rows(build: BuildFolder) -> None:
    rows = [json.loads(line) for line in typed(build, "--relation", "P19", "--json").splitlines()]
    assert len(rows) == 6 and all(row["case"]["case_id"] == row["case_id"] for row in rows)
    assert json.loads(typed(build, "--rejected", "--case", "9000", "--json"))["rule"] == "object-in-subject"


def test_rejects(build: BuildFolder) -> None:
    text = typed(build, "--rejected")
    assert text.count("unknown-fact") == 8 and "\x1b" not in text


def test_nothing_chosen_is_an_error_that_says_what_there_is(build: BuildFolder) -> None:
    with pytest.raises(ConfigError, match="none of 24 rows has relation P40; there are rows of P19, P36, P103, P937"):
        typed(build, "--relation", "P40")
    with pytest.raises(ConfigError, match="sample is 0"):
        typed(build, "--sample", "0")


def test_an_empty_folder_names_the_verb_that_fills_it(tmp_path: Path) -> None:
    with pytest.raises(BuildStateError, match="cfbuild generate"):
        typed(BuildFolder(tmp_path))


def test_report_writes_the_page(build: BuildFolder) -> None:
    result = CliRunner().invoke(app, ["report", "--build", str(build.root)], catch_exceptions=False)
    assert result.stdout.strip() == str(build.path("report.html")) and build.path("report.html").is_file()
