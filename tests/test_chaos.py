"""A few kills of every verb, and a small soak; `make chaos` has many."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import soak

TESTS = Path(__file__).parent


@pytest.mark.long
def test_every_verb_survives_kills_at_random_moments() -> None:
    path = f"{TESTS.parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    shown = subprocess.run(
        [sys.executable, str(TESTS / "chaos.py"), "2"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        timeout=300,
        check=False,
    )
    assert shown.returncode == 0, shown.stdout + shown.stderr
    verbs = ("fetch", "generate", "validate-and-score", "publish", "export", "audit --fix")
    assert shown.stdout.splitlines() == [f"{verb}: 2 kills, 0 losses" for verb in verbs]


def test_a_fetch_is_right_through_a_proxy_that_fails_one_request_in_five(tmp_path: Path) -> None:
    report = soak.soak(2_000, tmp_path)
    assert report.startswith("2000 facts") and "; 1 runs; " in report
