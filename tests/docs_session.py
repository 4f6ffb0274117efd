"""Runs the code blocks of the documentation, each page's in their order in a folder of its own, against stand-ins.

Run as a program by test_docs.py, with the Hub's address and token in the environment: it reads the pages' blocks as
JSON and writes what became of each. `cfbuild` lines go to the real command line in this process, so that torch is
loaded once; other shell lines go to bash; Python is executed. Wikidata is the endpoint given on the command line.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

from scored_build import records, write_scored
from typer.testing import CliRunner
from updated_world import write_both

from cfbuild.cli import app
from cfbuild.sources.endpoints import DEFAULT, ENDPOINTS


def prepare(page: str) -> None:
    """Make what a page takes for granted: the demo's build with its scores."""
    if page in ("tutorial.md", "publish.md"):
        write_scored(Path("build/demo"), records(12))
    if page == "study.md":
        write_scored(Path("build/demo"), records(60), runs=("rome", "ft-l"))
    if page == "updates.md":
        write_both(Path(), ("build-2025", "build-2026"))


def commands(block: str) -> Iterator[str]:
    """Yield the commands of a shell block: continued lines joined, here-documents with the command that reads them."""
    lines = iter(block.replace("\\\n", " ").splitlines())
    for line in lines:
        end = re.search(r"<<'(\w+)'", line)
        if end:
            body = [line]
            for more in lines:
                body.append(more)
                if more == end[1]:
                    break
            yield "\n".join(body)
        elif line.strip() and not line.startswith("#"):
            yield line


def words_of(command: str) -> tuple[dict[str, str], list[str]]:
    """Return the variables before a command, and its words without the comment after it."""
    words = shlex.split(command, comments=True)
    given: dict[str, str] = {}
    while words and re.match(r"[A-Z_]+=", words[0]):
        name, _, value = words.pop(0).partition("=")
        given[name] = value
    return given, words


def run_shell(block: str) -> None:
    for command in commands(block):
        given, words = ({}, []) if "<<" in command else words_of(command)
        if not words or words[0] != "cfbuild":
            subprocess.run(["bash", "-euo", "pipefail", "-c", command], check=True, timeout=60)
            continue
        if "PYTHONPATH" in given:
            sys.path.insert(0, str(Path(given["PYTHONPATH"]).resolve()))
        shown = CliRunner().invoke(app, words[1:], catch_exceptions=False)
        if shown.exit_code:
            raise RuntimeError(f"{command}: exit code {shown.exit_code}\n{shown.output[-2000:]}")


def main() -> None:
    given = json.load(sys.stdin)
    ENDPOINTS[DEFAULT] = given["endpoint"]
    root, results = Path(given["root"]), {}
    for page, blocks in given["pages"].items():
        folder = root / page
        folder.mkdir()
        os.chdir(folder)
        prepare(page)
        names: dict[str, object] = {}
        for number, (language, block) in enumerate(blocks):
            try:
                exec(block, names) if language == "python" else run_shell(block)
                results[f"{page}:{number}"] = ""
            except (Exception, SystemExit):  # noqa: BLE001 - whatever a block does, it is reported
                results[f"{page}:{number}"] = traceback.format_exc()[-4000:]
                break
    given_back = Path(given["root"]) / "results.json"
    given_back.write_text(json.dumps(results), encoding="utf-8")


if __name__ == "__main__":
    main()
