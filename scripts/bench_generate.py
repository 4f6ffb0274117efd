"""Measure `generate` without a model: records a second of a core, and the most memory that it takes.

    python scripts/bench_generate.py                        # the bundled facts, and four times as many subjects
    python scripts/bench_generate.py --build build          # the facts of a build, which stays as it is
    python scripts/bench_generate.py --against ../earlier   # another checkout in the same run, and whether bytes agree

Seconds are the process's user CPU time with reading and writing, start of Python and imports included; of several runs,
which alternate between the checkouts, the least. Memory is the process's peak. Exits with 1 if bytes differ.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FILES = ("facts.jsonl", "entities.jsonl", "templates.jsonl", "manifest.json")
MADE = ("records.jsonl", "rejected.jsonl", "references.jsonl")
COPIES = (1, 4)
RUN = """
import json, resource, sys
from pathlib import Path
from cfbuild.pipeline.generate import GenerateOptions, generate
from cfbuild.store.folder import BuildFolder
made = generate(BuildFolder(Path(sys.argv[1])), GenerateOptions())
used = resource.getrusage(resource.RUSAGE_SELF)
status = Path("/proc/self/status")
lines = dict(line.split(":", 1) for line in status.read_text().splitlines()) if status.exists() else {}
peak = int(lines["VmHWM"].split()[0]) if lines else used.ru_maxrss
print(json.dumps({"facts": made.facts, "kept": made.kept, "user_s": used.ru_utime, "peak_mb": peak / 1024}))
"""


def main() -> None:
    """Print a line for each set of facts and checkout."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=Path, help="a fetched build; the bundled facts if not given")
    parser.add_argument("--against", type=Path, help="another checkout of the project")
    parser.add_argument("--runs", type=int, default=3, help="runs of each, of which the least counts")
    given = parser.parse_args()
    checkouts = [ROOT] + ([given.against.resolve()] if given.against else [])
    same = True
    with tempfile.TemporaryDirectory() as scratch:
        inputs = [given.build] if given.build else [_copied(Path(scratch) / str(count), count) for count in COPIES]
        for facts in inputs:
            found = [_measured(facts, checkouts, Path(scratch)) for _ in range(given.runs)]
            best = [
                min((run[place] for run in found), key=lambda run: run["user_s"]) for place in range(len(checkouts))
            ]
            for checkout, run in zip(checkouts, best, strict=True):
                print(f"{_line(run)}: {checkout.name}")
            if len(best) > 1:
                equal = best[0]["bytes"] == best[1]["bytes"]
                same = same and equal
                print(
                    f"        {best[1]['user_s'] / best[0]['user_s']:.2f}x, {'same bytes' if equal else 'BYTES DIFFER'}"
                )
    sys.exit(0 if same else 1)


def _line(run: dict[str, Any]) -> str:
    rate, each = run["kept"] / run["user_s"], 1024 * run["peak_mb"] / run["facts"]
    made = f"{run['facts']:7} facts, {run['kept']:7} records, {run['user_s']:7.2f} s user, {rate:6.0f} records/s"
    return f"{made}, {run['peak_mb']:5.0f} MB at most, {each:5.1f} KB a fact"


def _measured(facts: Path, checkouts: list[Path], scratch: Path) -> list[dict[str, Any]]:
    """Return what a run of each checkout on these facts took and made."""
    found = []
    for checkout in checkouts:
        build = scratch / "build"
        shutil.rmtree(build, ignore_errors=True)
        build.mkdir()
        for name in FILES:
            if (facts / name).exists():
                shutil.copy(facts / name, build / name)
        run = subprocess.run(
            [sys.executable, "-c", RUN, str(build)],
            env={**os.environ, "PYTHONPATH": str(checkout)},
            cwd=checkout,
            check=True,
            stdout=subprocess.PIPE,
        )
        made = {name: (build / name).read_bytes() for name in MADE}
        found.append({**json.loads(run.stdout), "bytes": made})
    return found


def _copied(root: Path, count: int) -> Path:
    """Return the folder with the bundled facts, `count` copies of each subject (numbered) and the same objects."""
    sys.path.insert(0, str(ROOT))
    from cfbuild.data import Entity, Fact
    from cfbuild.records.factset import snapshot
    from cfbuild.store import codec, jsonl

    given = snapshot()
    known = {one.id: one for one in given.entities}
    facts: list[Fact] = list(given.facts)
    entities: dict[str, Entity] = dict(known)
    for copy in range(1, count):
        for fact in given.facts:
            subject = f"Q{copy}{fact.subject[1:].zfill(12)}"
            label = f"{known[fact.subject].labels[given.language]} {copy}"
            # What other facts say of it is kept; it is never an object.
            entities[subject] = replace(known[fact.subject], id=subject, labels={given.language: label}, aliases={})
            facts.append(replace(fact, subject=subject))
    root.mkdir()
    jsonl.write_jsonl(root / "facts.jsonl", map(codec.encode_fact, facts))
    jsonl.write_jsonl(root / "entities.jsonl", map(codec.encode_entity, entities.values()))
    jsonl.write_jsonl(root / "templates.jsonl", map(codec.encode_template, given.templates))
    return root


if __name__ == "__main__":
    main()
