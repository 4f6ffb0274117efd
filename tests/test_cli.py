"""The command line as a user meets it: help, versions, exit codes, messages."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from scored_build import records, write_scored
from small_world import write_world
from typer.testing import CliRunner

from cfbuild import __version__
from cfbuild.cli import VERBS, app, command
from cfbuild.cli.shared import OutputOptions
from cfbuild.errors import ConfigError
from cfbuild.lm.selection import ModelOptions
from cfbuild.option import options_of
from cfbuild.store.folder import BuildFolder

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


def parts(verb: Any) -> list[Any]:
    """Return a command's parts, each with options of its own; the command itself where it has none."""
    return list(getattr(verb, "commands", {}).values()) or [verb]


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_has_help_with_an_example(verb: str) -> None:
    shown = CliRunner().invoke(app, [verb, "--help"])
    assert shown.exit_code == 0
    assert f"cfbuild {verb}" in shown.output and "Example" in shown.output


def test_the_parts_of_a_command_have_help_with_examples_of_their_own() -> None:
    for part in ("make", "read"):
        shown = CliRunner().invoke(app, ["study", part, "--help"])
        assert shown.exit_code == 0 and f"cfbuild study {part}" in shown.output and "--json" in shown.output
        assert f"cfbuild study {'read' if part == 'make' else 'make'} " not in shown.output
    shown = run("study", "raed")
    assert shown.returncode == 2 and "No such command" in shown.stderr and "read" in shown.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_is_in_the_readme(verb: str) -> None:
    assert f"cfbuild {verb}" in (Path(__file__).parents[1] / "README.md").read_text()


@pytest.mark.parametrize("verb", VERBS)
def test_the_list_of_commands_says_what_their_help_says_first(verb: str) -> None:
    assert command(verb).help.splitlines()[0] == VERBS[verb]
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "250"})
    assert shown.exit_code == 0 and VERBS[verb] in shown.output


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_has_the_shared_options(verb: str) -> None:
    """Look for `--build` (but for two builds or none), `--json`, `--quiet`; if for one about models, for all such."""
    flags = {flag for part in parts(command(verb)) for one in part.params for flag in one.opts}
    build = set() if verb in ("diff", "apply", "doctor") else {"--build", "-b"}
    assert flags >= build | {flag for one in options_of(OutputOptions) for flag in one.flags}
    about_model = {flag for one in options_of(ModelOptions) for flag in one.flags}
    # score-base takes several models, each by one name.
    assert "--device" not in flags or flags >= about_model or verb == "score-base"


def test_an_unknown_command_is_refused_with_the_nearest() -> None:
    shown = run("exprt")
    assert shown.returncode == 2 and "No such command" in shown.stderr and "export" in shown.stderr


def test_help_imports_nothing_heavy_and_no_command() -> None:
    code = "import sys\nfrom cfbuild.cli import app\napp(['--help'], standalone_mode=False)\n"
    own = [f"cfbuild.cli.{verb.replace('-', '_')}" for verb in VERBS]
    found = f"print([name for name in {[*HEAVY, *own]} if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code + found], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_command_imports_nothing_heavy(verb: str) -> None:
    code = f"import sys\nfrom cfbuild.cli import app\napp(['{verb}', '--help'], standalone_mode=False)\n"
    found = f"print([name for name in {HEAVY} if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code + found], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines()[-1] == "[]"


NEEDS_NO_MODEL = {
    "report": (),
    "show": ("--sample", "2"),
    "show --rejected": (),
    "export": (),
    "publish": ("someone/mine", "--dry-run"),
    "validate-and-score": ("--validate-only",),
}


@pytest.mark.parametrize("verb", NEEDS_NO_MODEL)
def test_a_quiet_command_writes_its_result_and_nothing_else(verb: str, scored: Path) -> None:
    words = [*verb.split(), *NEEDS_NO_MODEL[verb], "--build", str(scored)]
    shown = CliRunner().invoke(app, [*words, "-q", "--json"], catch_exceptions=False)
    assert shown.exit_code == 0 and shown.stderr == ""
    values = shown.stdout.splitlines() if verb.startswith("show") else [shown.stdout]
    assert all(json.loads(value) for value in values if value)


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a build with two runs, so that `show` has something to note."""
    return write_scored(tmp_path_factory.mktemp("scored") / "build", records(5), runs=("rome", "ft")).root


def test_export_prints_its_result_as_json_and_is_quiet(tmp_path: Path) -> None:
    build = str(write_world(tmp_path / "build"))
    assert run("generate", "--build", build, "--no-filter", "--limit", "6", "-q").stderr == ""
    shown = run("export", "--build", build, "--format", "easyedit", "--json", "-q")
    given = json.loads(shown.stdout)
    assert (given["records"], given["format"], shown.stderr) == (6, "easyedit", "")
    assert len(json.loads(Path(given["file"]).read_text())) == 6


def test_the_version_is_printed() -> None:
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


def test_a_missing_model_ends_with_exit_code_4(tmp_path: Path) -> None:
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
    every = run(*words[:-2], "--restart")
    assert "(fewer than 10; --min-neighbors sets the minimum)" in every.stdout
    more = run(*words, "--min-neighbors", "11", "--restart")
    assert more.returncode == ConfigError.exit_code
    assert "min_neighbors is 11 and neighborhood is 10" in more.stderr


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


def test_a_build_in_use_is_refused_with_the_name_of_its_verb(tmp_path: Path) -> None:
    build = write_world(tmp_path / "build")
    with BuildFolder(build).lock("generate"):
        shown = run("generate", "--build", str(build), "--no-filter")
    assert shown.returncode == 2 and "in use by cfbuild generate, process" in shown.stderr
