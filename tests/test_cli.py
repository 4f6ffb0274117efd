"""The command line as a user meets it: help, versions, exit codes, messages."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from small_world import write_world
from typer.testing import CliRunner

from cfbuild import __version__
from cfbuild.cli import app
from cfbuild.store.folder import BuildFolder

COMMANDS = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]
HEAVY = (
    "torch",
    "transformers",
    "spacy",
    "datasets",
    "sklearn",
    "jsonschema",
    "requests",
    "urllib3",
    "numpy",
    "jinja2",
)


def run(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cfbuild", *words], capture_output=True, text=True, cwd=cwd, timeout=120, check=False
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"])
    assert shown.exit_code == 0
    assert f"cfbuild {command}" in shown.output and "Example" in shown.output


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_the_readme(command: str) -> None:
    assert f"cfbuild {command}" in (Path(__file__).parents[1] / "README.md").read_text()


def test_help_imports_nothing_heavy() -> None:
    code = f"import sys, cfbuild.cli; print([name for name in {HEAVY} if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_version() -> None:
    assert run("--version").stdout == f"cfbuild {__version__}\n"


def test_a_missing_input_names_the_verb_that_makes_it(tmp_path: Path) -> None:
    shown = run("generate", "--build", str(tmp_path / "nowhere"), "--no-filter")
    assert shown.returncode == 2 and "run `cfbuild fetch" in shown.stderr and "Traceback" not in shown.stderr


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("fetch", "--source", "nowhere"), 2, "nowhere"),
        (("fetch", "--source", "snapshot", "--relations", "P36;DROP"), 2, "P36;DROP"),
        (("fetch", "--relations", "P36"), 2, "contact"),
        (("generate", "--min-rank", "2"), 2, "min_rank"),
        (("validate-and-score", "--file", "no-such-file.json", "--validate-only"), 1, "no-such-file.json"),
    ],
)
def test_usage_errors_are_one_line_with_the_right_exit_code(
    words: tuple[str, ...], code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CFBUILD_CONTACT", raising=False)
    shown = run(*words, cwd=tmp_path)
    assert shown.returncode == code, shown.stderr
    assert message in shown.stderr and "Traceback" not in shown.stderr


def test_a_model_that_is_not_there_is_exit_code_4(tmp_path: Path) -> None:
    build = write_world(tmp_path / "build")
    shown = run("generate", "--build", str(build), "--model", "./no-such-model")
    assert shown.returncode == 4 and "no-such-model" in shown.stderr and "Traceback" not in shown.stderr


def test_generate_prints_a_summary_as_text_and_as_json(tmp_path: Path) -> None:
    words = ("generate", "--build", str(write_world(tmp_path / "build")), "--no-filter", "--limit", "12")
    shown = run(*words)
    assert shown.returncode == 0 and "12 records kept" in shown.stdout and "not filtered" in shown.stdout
    again = run(*words, "--json", "--quiet")
    made = json.loads(again.stdout)
    assert made["kept"] == 12 and again.stderr == ""
    lines = shown.stdout.splitlines()
    table = lines[lines.index("neighborhood prompts  records  dropped") + 1 :][: len(made["neighbors"])]
    assert [tuple(line.split()) for line in table] == [
        (number, str(counts["records"]), str(counts["dropped"])) for number, counts in made["neighbors"].items()
    ]
    assert made["neighbors"]["10"]["records"] == 12
    assert lines[-1].startswith("o* shares a class with the true object in 0 of 12 records")
    more = run(*words, "--min-neighbors", "11", "--restart")
    assert "0 records kept" in more.stdout
    assert "(fewer than 11; --min-neighbors sets the minimum)" in more.stdout


def test_validate_only_prints_every_violation_with_its_place(tmp_path: Path, counterfact_sample: Path) -> None:
    shown = run("validate-and-score", "--file", str(counterfact_sample), "--validate-only", cwd=tmp_path)
    lines = shown.stdout.splitlines()
    assert shown.returncode == 1
    assert [line.split(": ", 1)[1].split(" ", 3)[2] for line in lines] == [
        "/pararel_idx:",
        "/attribute_prompts:",
        "/generation_prompts:",
        "/paraphrase_prompts/0:",
    ]
    assert all("got" in line and "expected" in line for line in lines)
    assert "4 violations in 2 of 3 rows" in shown.stderr


def test_a_build_in_use_is_refused_by_name(tmp_path: Path) -> None:
    build = write_world(tmp_path / "build")
    with BuildFolder(build).lock("generate"):
        shown = run("generate", "--build", str(build), "--no-filter")
    assert shown.returncode == 2 and "in use by cfbuild generate, process" in shown.stderr
