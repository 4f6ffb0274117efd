"""Measure `cfbuild diff` on two builds whose changes are planted: seconds, memory, and whether each change is found.

python scripts/bench_diff.py --facts 1000000
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from changed_world import NEW_DAY, OLD_DAY, planted  # noqa: E402
from small_world import item, templates, write_build  # noqa: E402

from cfbuild.store.folder import BuildFolder  # noqa: E402

FACTS_A_PAIR = 1.31
"""Facts of the older fetch for each planted change, nearly."""


def write_builds(root: Path, facts: int, seed: int) -> Counter[str]:
    """Write an older and a newer build of about so many facts each; return the planted changes by kind."""
    old, new, changes = planted(seed, round(facts / FACTS_A_PAIR))
    for name, rows, day in (("old", old, OLD_DAY), ("new", new, NEW_DAY)):
        folder = BuildFolder(write_build(root / name, rows, [item(1, "One")], templates("P551")))
        folder.finish("fetch", {"statements": True, "language": "en"}, {}, {"today": day})
        print(f"{name}: {len(rows):,} facts", flush=True)
    return Counter(change.kind for change in changes)


def main() -> int:
    """Print the seconds and the memory of the comparison; return 1 if it finds other changes than planted."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--facts", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        expected = write_builds(root, given.facts, given.seed)
        begun = time.perf_counter()
        command = [sys.executable, "-m", "cfbuild", "diff", str(root / "old"), str(root / "new"), "--json", "--quiet"]
        shown = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
        seconds = time.perf_counter() - begun
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{seconds:.1f} s, {used.ru_utime + used.ru_stime:.1f} s of CPU, {used.ru_maxrss / 1024:,.0f} MB")
    found = {kind: number for kind, number in json.loads(shown)["kinds"].items() if number}
    print(f"changes found: {found}")
    if found != expected:
        print(f"planted: {dict(expected)}")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
