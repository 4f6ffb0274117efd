"""The house keeps its own limits: lengths, parameters, names that come once, a documented API."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "house.py"


def test_no_function_name_or_file_is_beyond_the_limits() -> None:
    ended = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout


def test_the_drawing_of_the_rooms_is_that_of_the_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import draw_rooms

    assert draw_rooms.PICTURE.read_text(encoding="utf-8") == draw_rooms.picture(), "run python scripts/draw_rooms.py"
