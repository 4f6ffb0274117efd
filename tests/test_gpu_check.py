"""The check of an accelerator runs where there is none, and needs few packages."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "gpu_check.py"
WITHOUT = ("requests", "jsonschema", "typer", "rich", "datasets", "spacy", "sklearn")
RUN = f"""
import runpy, sys
sys.modules.update(dict.fromkeys({WITHOUT!r}))
sys.argv = {[str(SCRIPT), "--device", "cpu", "--families", "gpt2", "--shapes", "tiny", "--out"]!r} + sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.long
def test_the_check_of_a_device_runs_on_the_cpu_without_most_packages(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", RUN, str(tmp_path / "gpu.json")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    assert found["missing packages"] == list(WITHOUT)
    assert found["bytes"] == {"gpt2": {"a second run": True, "texts by recorded steps": True, "halved batches": True}}
    assert found["agreement"]["gpt2"]["rome"] == 0, "the CPU beside itself"
    assert 0 < found["agreement"]["gpt2"]["float32 on the device from float64"] < 1e-4
    tiny = found["speed"]["tiny, float32"]
    rates = ("s an edit", "records scored before and after, a second", "tokens a second")
    assert all(tiny[name] > 0 and tiny[f"{name}, plain"] > 0 for name in rates)
    assert 0 < tiny["edits' share of the peak of products"] < 1 and tiny["peak memory, GB"] > 0
