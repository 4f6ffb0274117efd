"""`cfbuild show` and `cfbuild report`, as typed."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from scored_build import records, write_run, write_scored
from typer.testing import CliRunner

from cfbuild.cli import app
from cfbuild.cli.report import print_scores
from cfbuild.errors import BuildStateError, ConfigError, DataError
from cfbuild.pipeline.report import report
from cfbuild.store.folder import BuildFolder
from cfbuild.store.jsonl import read_rows
from cfbuild.store.runs import finished_runs, new_run
from cfbuild.text.safe import visible

if TYPE_CHECKING:
    from click.testing import Result


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> BuildFolder:
    return write_scored(tmp_path_factory.mktemp("show") / "build", records(24, hostile=True))


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> BuildFolder:
    """Return a build whose records two runs scored."""
    return write_scored(tmp_path_factory.mktemp("show") / "compared", records(24), runs=("rome", "ft"))


def invoked(build: BuildFolder, *words: str, verb: str = "show") -> Result:
    result = CliRunner().invoke(app, [verb, "--build", str(build.root), *words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def typed(build: BuildFolder, *words: str) -> str:
    return invoked(build, *words).stdout


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


def after(build: BuildFolder, run: str, case: int) -> float:
    """NLL of o* after the edit of the case that stands at this place."""
    rows = [row for _, row in read_rows(build.path(f"runs/{run}/cases.jsonl"))]
    return float(rows[case]["post"]["rewrite_prompts"][0]["target_new_nll"])


def test_the_scores_shown_are_those_of_the_run_and_it_is_named(compared: BuildFolder) -> None:
    assert after(compared, "rome", 3) != after(compared, "ft", 3)
    for run, others, words in (("ft", "rome", ()), ("ft", "rome", ("--run", "ft")), ("rome", "ft", ("--run", "rome"))):
        result = invoked(compared, "--case", "3", *words)
        assert f"> {100 * math.exp(-after(compared, run, 3)):>5.1f}%" in result.stdout
        assert f"P(true) before > after   run {run}\n" in result.stdout
        assert f"scores are of the run {run}; --run shows another: {others}" in result.stderr
        row = json.loads(typed(compared, "--case", "3", "--json", *words))
        assert row["run"] == row["case"]["editor"] == run


def test_the_only_run_needs_no_choice(build: BuildFolder) -> None:
    result = invoked(build, "--case", "3")
    assert "   run rome\n" in result.stdout and "--run" not in result.stderr


def test_a_run_that_is_not_there_is_an_error_that_names_those_that_are(compared: BuildFolder, tmp_path: Path) -> None:
    with pytest.raises(BuildStateError, match=r"has no run 'memit'; it has ft, rome"):
        typed(compared, "--run", "memit")
    with pytest.raises(BuildStateError, match=r"has no run 'rome'; it has none"):
        typed(write_scored(tmp_path / "b", records(3), scored=False), "--run", "rome")
    with pytest.raises(ConfigError, match="--run and --rejected"):
        typed(compared, "--run", "ft", "--rejected")


def test_an_earlier_builds_run_has_its_editors_name(tmp_path: Path) -> None:
    earlier = write_scored(tmp_path / "b", records(24), earlier=True)
    assert typed(earlier, "--run", "rome", "--case", "3").count("   run rome\n") == 1
    write_run(new_run(earlier, "rome"), records(24), "rome", note="newer")
    names = [run.name for run in finished_runs(earlier)]
    assert names == ["rome", "rome-earlier"]
    made = json.loads(invoked(earlier, "--json", verb="report").stdout)
    assert [row["run"] for row in made["rows"]] == [None, *names]
    assert [("newer" in row["signature"]) for row in made["rows"][1:]] == [True, False]


def test_report_writes_the_page(build: BuildFolder, tmp_path: Path) -> None:
    result = invoked(build, verb="report")
    assert result.stdout.splitlines()[-1] == str(build.path("report.html")) and build.path("report.html").is_file()
    bare = write_scored(tmp_path / "b", records(3), scored=False)
    assert invoked(bare, verb="report").stdout.strip() == str(bare.path("report.html"))


def test_report_prints_the_table_of_all_runs(compared: BuildFolder) -> None:
    lines = invoked(compared, verb="report").stdout.splitlines()
    for run in ("ft", "rome"):
        figures = json.loads(compared.path(f"runs/{run}/report.json").read_text())["figures"]["post"]
        row = next(line for line in lines if f" {run} " in line).replace("*", " ").replace("!", " ")
        for name in ("S", "ES", "EM", "PS", "PM", "NS", "NM", "GE", "RS"):
            assert f" {figures[name]['mean']:.1f} ± {figures[name]['half_width_95']:.1f} " in row
    names = [line.split()[1] for line in lines if " ± " in line and " 24 " in line]
    assert names == ["unedited", "ft", "rome"] * 2


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_the_table_fits_a_terminal_with_every_figure_whole(
    compared: BuildFolder, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cfbuild.cli.shared.WIDE", width)
    table = report(compared).table
    print_scores(table)
    lines = capsys.readouterr().out.splitlines()[: -len(table.remarks)]
    assert max(map(len, lines[1:])) <= width and "…" not in "".join(lines)
    lines = [line.replace("*", " ").replace("!", " ") for line in lines]
    for row in table.rows:
        for figure in row.figures.values():
            assert any(f" {figure.mean:.1f} " in line for line in lines)
            assert any(f"± {figure.half_width:.1f} " in line for line in lines)


def test_report_as_json_is_the_table_and_the_pages_place(compared: BuildFolder) -> None:
    made = json.loads(invoked(compared, "--json", verb="report").stdout)
    assert made["page"] == str(compared.path("report.html")) and made["left_out"] == []
    assert [row["run"] for row in made["rows"]] == [None, "ft", "rome"]
    written = json.loads(compared.path("runs/ft/report.json").read_text())
    assert made["rows"][1]["figures"] == written["figures"]["post"] and made["rows"][1]["without_edit"] == 1
    assert made["rows"][0]["figures"] == written["figures"]["pre"]


def test_a_report_that_is_none_is_named(tmp_path: Path) -> None:
    folder = write_scored(tmp_path / "b", records(3))
    folder.path("runs/rome/report.json").write_text('{"signature": "x", "settings": {}, "cases": 3}')
    with pytest.raises(DataError, match=r"runs/rome/report\.json: this is not a report"):
        invoked(folder, verb="report")


LIGHT = """
import sys
from typer.testing import CliRunner
from cfbuild.cli import app
for words in sys.argv[2:]:
    result = CliRunner().invoke(app, [*words.split(), "--build", sys.argv[1]], catch_exceptions=False)
    assert result.exit_code == 0, result.output
print([name for name in ("torch", "transformers") if name in sys.modules])
"""


def test_looking_exporting_and_publishing_load_no_torch(compared: BuildFolder) -> None:
    verbs = ("show", "show --json", "show --rejected", "report", "export", "publish someone/some-name --dry-run")
    command = [sys.executable, "-c", LIGHT, str(compared.root), *verbs]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
