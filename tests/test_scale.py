"""The script that measures what facts and records cost: it makes what it says, and the same facts every time."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_the_script_measures_every_step(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "bench_scale.py"), "--facts", "900", "--keep", str(tmp_path)]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True, encoding="utf-8").stdout
    steps = re.findall(r"^ +(\d+) facts, +(\d+) records: (\w+) .* gave (\d+)$", shown, flags=re.MULTILINE)
    assert [step for _, _, step, _ in steps] == ["generate", "audit", "publish"], shown
    facts, records = int(steps[0][0]), int(steps[0][1])
    assert 800 < facts < 1000 and 100 < records == int(steps[0][3])
    assert steps[1][3] == "0"  # the audit finds nothing
    rows = [path.read_bytes().count(b"\n") for path in (tmp_path / "900").glob("re[cj]*.jsonl")]
    assert sum(rows) == facts
