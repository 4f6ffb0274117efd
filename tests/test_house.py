"""The house keeps its own limits: lengths, parameters, names that come once, a documented API."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "house.py"


def test_no_function_name_or_file_is_beyond_the_limits() -> None:
    ended = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout
