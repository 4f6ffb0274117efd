"""The documentation names every command, and its commands for the demo build run as they stand."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from scored_build import records, write_scored
from typer.main import get_command
from typer.testing import CliRunner

from cfbuild.cli import app

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
COMMANDS = sorted(get_command(app).commands)  # type: ignore[attr-defined]


def _shell(name: str) -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", (DOCS / name).read_text(encoding="utf-8"), flags=re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_documented(command: str) -> None:
    text = (DOCS / "commands.md").read_text(encoding="utf-8")
    assert f"| `cfbuild {command}` |" in text
    shown = CliRunner().invoke(app, [command, "--help"], catch_exceptions=False).stdout
    assert "Example" in shown


def test_no_command_is_documented_that_does_not_exist() -> None:
    for path in (*DOCS.glob("*.md"), ROOT / "README.md"):
        text = path.read_text(encoding="utf-8")
        code = [*re.findall(r"```\w*\n(.*?)```", text, flags=re.DOTALL), *re.findall(r"`([^`\n]+)`", text)]
        named = {name for block in code for name in re.findall(r"^cfbuild ([a-z][a-z-]+)", block, flags=re.MULTILINE)}
        assert named <= set(COMMANDS), path.name


def test_the_tutorials_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_scored(Path("build/demo"), records(12))
    lines = _shell("tutorial.md")
    assert len(lines) == 10
    for line in lines:
        words = shlex.split(line)
        assert words[0] == "cfbuild"
        CliRunner().invoke(app, words[1:], catch_exceptions=False)


def test_the_formats_page_is_made_from_the_schemas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import make_formats

    assert make_formats.PAGE.read_text(encoding="utf-8") == make_formats.page(), "run python scripts/make_formats.py"


def test_links_lead_to_files() -> None:
    for path in (*DOCS.glob("*.md"), ROOT / "README.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_every_test_that_the_table_of_faults_names_is_there() -> None:
    text = (DOCS / "faults.md").read_text(encoding="utf-8")
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", text)
    assert {f"| {number} |" for number in range(1, 23)} <= set(re.findall(r"^\| \d+ \|", text, flags=re.MULTILINE))
    for line in text.splitlines():
        assert not re.match(r"\| \d+ \|", line) or "::test_" in line
    for file, test in named:
        source = (ROOT / "tests" / file).read_text(encoding="utf-8")
        assert re.search(rf"^def {test}\(", source, flags=re.MULTILINE), f"{file}::{test}"
