"""Completion in the shell: asked of a real bash, answered by the command line, without a heavy library."""

from __future__ import annotations

import json
import os
import pty
import select
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_cli import HEAVY

from cfbuild.cli import VERBS
from cfbuild.edit import EDITORS
from cfbuild.lm.families import PRESETS
from cfbuild.sources.catalogue import SOURCES

ROOT = Path(__file__).resolve().parents[1]
BASH = shutil.which("bash")
PROGRAM = """#!{python}
import sys
from cfbuild.cli import main
main()
"""
ASK = """
eval "$(_CFBUILD_COMPLETE=source_bash cfbuild)"
COMP_WORDS=({words})
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_cfbuild_completion cfbuild
printf '%s\\n' "${{COMPREPLY[@]}}"
"""

needs_bash = pytest.mark.skipif(BASH is None, reason="bash is not installed")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return an environment with a program `cfbuild` on its path, and a home of its own."""
    folder = tmp_path_factory.mktemp("bin")
    program = folder / "cfbuild"
    program.write_text(PROGRAM.format(python=sys.executable), encoding="utf-8")
    program.chmod(0o755)
    path = os.pathsep.join([str(folder), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "HOME": str(tmp_path_factory.mktemp("home")), "PYTHONPATH": str(ROOT)}


def bash(script: str, environment: dict[str, str]) -> str:
    """Return what a bash without start-up files prints."""
    words = [str(BASH), "--noprofile", "--norc", "-c", script]
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120, check=True).stdout


def completions(typed: str, environment: dict[str, str]) -> list[str]:
    """Return what bash completes the last word of `typed` to; a space at its end begins a new word."""
    words = [*shlex.split(typed), *([""] if typed.endswith(" ") else [])]
    return bash(ASK.format(words=shlex.join(words)), environment).split()


@needs_bash
@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("cfbuild ", list(VERBS)),
        ("cfbuild s", ["score-base", "sweep", "study", "show"]),
        ("cfbuild study ", ["make", "read"]),
        ("cfbuild study make --ra", ["--raters"]),
        ("cfbuild validate-and-score --editor ro", ["rome", "rome-fast"]),
        ("cfbuild validate-and-score -q -m ", list(PRESETS)),
        ("cfbuild compare --editors rome,memit,r", ["rome,memit,rome-fast"]),
        ("cfbuild fetch --source ", list(SOURCES)),
        ("cfbuild generate --relations P36,P137", ["P36,P1376"]),
        ("cfbuild sweep --dtype b", ["bfloat16"]),
        ("cfbuild train-editor ", ["mend", "ke"]),
        ("cfbuild validate-and-score --editor my.module:", []),
        ("cfbuild nothing-of-the-kind --ed", []),
    ],
)
def test_bash_completes_verbs_options_and_values(typed: str, expected: list[str], environment: dict[str, str]) -> None:
    assert completions(typed, environment) == expected


WHILE_COMPLETING = """
import json, os, sys
from cfbuild.cli import main
sys.argv = ["cfbuild"]
heavy = {heavy}
for words in json.loads(os.environ["COMPLETED"]):
    os.environ.update(COMP_WORDS="\\n".join(words), COMP_CWORD=str(len(words) - 1))
    print("words", *words)
    try:
        main()
    except SystemExit:
        pass
    print("loaded", *(name for name in heavy if name in sys.modules))
"""


def answers_in_one_process(word_lists: list[list[str]]) -> list[tuple[list[str], list[str]]]:
    """Return for each list of words what its last is completed to, and which heavy libraries are loaded by then."""
    code = WHILE_COMPLETING.format(heavy=HEAVY)
    given = {"_CFBUILD_COMPLETE": "complete_bash", "COMPLETED": json.dumps(word_lists), "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", code]
    shown = subprocess.run(words, env={**os.environ, **given}, capture_output=True, text=True, check=True).stdout
    parts = [part.splitlines() for part in shown.split("words ")[1:]]
    return [(part[1:-1], part[-1].split()[1:]) for part in parts]


def test_completing_loads_nothing_heavy() -> None:
    """Complete the options of every verb, and words that come from tables."""
    verbs = [["cfbuild", verb, *(["make"] if verb == "study" else []), "--"] for verb in VERBS]
    tables = [("compare", "--editors"), ("generate", "--groups"), ("fetch", "--relations"), ("export", "--format")]
    word_lists = [*verbs, *(["cfbuild", *words, ""] for words in tables)]
    found = answers_in_one_process(word_lists)
    assert len(found) == len(word_lists)
    for words, (completed, loaded) in zip(word_lists, found, strict=True):
        assert completed and not loaded, words
    for completed, _ in found[: len(verbs)]:
        assert {"--json", "--quiet", "--help"} <= {*completed}


@needs_bash
def test_the_key_completes_once_it_is_installed(environment: dict[str, str]) -> None:
    """Run what `--install-completion` writes: a new bash reads it, and the key Tab finishes a word."""
    home = Path(environment["HOME"])
    shown = bash("cfbuild --install-completion; true", environment)
    assert "bash completion installed" in shown
    assert str(home / ".bash_completions" / "cfbuild.sh") in (home / ".bashrc").read_text(encoding="utf-8")
    script = bash("cfbuild --show-completion; true", environment)
    assert script.strip() == (home / ".bash_completions" / "cfbuild.sh").read_text(encoding="utf-8").strip()
    steps = [("cfbuild doc\t", "cfbuild doctor "), ("--netw\t", "cfbuild doctor --network")]
    assert steps[-1][1] in typed_in_bash(steps, environment)


def typed_in_bash(steps: list[tuple[str, str]], environment: dict[str, str]) -> str:
    """Return what an interactive bash shows after each step's keys were typed and its text has appeared.

    Keys that come before bash's prompt are shown by the terminal first and completed later, so only the text that a key
    shall lead to says that bash is ready for the next one.
    """
    child, terminal = pty.fork()
    if child == 0:
        os.execve(str(BASH), ["bash", "--noprofile", "-i"], {**environment, "TERM": "dumb", "PS1": "$ "})
    shown, ends_at = "", time.monotonic() + 60
    try:
        for keys, expected in steps:
            os.write(terminal, keys.encode())
            while expected not in shown and time.monotonic() < ends_at:
                if select.select([terminal], [], [], 1)[0]:
                    shown += os.read(terminal, 4096).decode(errors="replace")
    finally:
        os.write(terminal, b"\x15exit\n")
        os.waitpid(child, 0)
        os.close(terminal)
    return shown


def test_words_of_a_list_are_completed_part_by_part() -> None:
    from cfbuild.option import COMMA_SEPARATED, WORD

    form = COMMA_SEPARATED.naming("rome", "rome-fast", "ft")
    assert form.completed("") == ["rome", "rome-fast", "ft"]
    assert form.completed("rome,r") == ["rome,rome-fast"]
    assert form.completed("ft,x") == []
    assert WORD.naming("auto").completed("cpu,a") == [] and WORD.completed("a") == []
    assert {*form.words()} < {*EDITORS}
