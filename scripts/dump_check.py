"""Fetch a made dump, killed again and again, and hold every fact and name against what the dump's maker wrote down.

    python scripts/make_dump.py --mb 3000 --expected expected.jsonl dump.nt.bz2
    python scripts/dump_check.py --kills 20 --workers 1,2 dump.nt.bz2 expected.jsonl

For each number of workers the dump is fetched into a build of its own; the fetch is killed (SIGKILL, with its workers)
`--kills` times, each time after another number of seconds, `--within` at most. Exits with 1 if a fact or a name is
missing, wrong or too many, or if the builds differ in a byte.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from random import Random
from typing import Any

from cfbuild.facts.relations import ATTRIBUTES

ROOT = Path(__file__).resolve().parents[1]
FACT = ("relation_id", "subject_id", "object_id")
COMPARED = ("facts.jsonl", "entities.jsonl")


def fetch(dump: Path, build: Path, relations: str, workers: int, most_seconds: float | None) -> bool:
    """Fetch a dump into a build; return False if the fetch was killed because it took `most_seconds`."""
    command = [sys.executable, "-m", "cfbuild", "fetch", "--source", "dump", "--dump", str(dump), "--quiet"]
    command += ["--build", str(build), "--relations", relations, "--workers", str(workers)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        code = process.wait(most_seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return False
    if code:
        raise SystemExit(f"cfbuild fetch ended with exit code {code}")
    return True


def killed_fetch(dump: Path, build: Path, relations: str, workers: int, kills: Sequence[float]) -> None:
    """Fetch a dump into a build by fetches of which each but the last is killed after so many seconds."""
    begun = time.perf_counter()
    for kill, seconds in enumerate(kills):
        if fetch(dump, build, relations, workers, seconds):
            raise SystemExit(f"the fetch ended after {kill} kills: take a larger dump, or kill --within fewer seconds")
        units = len(list((build / "progress" / "fetch" / "dump").glob("0*.npz")))
        print(f"killed {kill + 1} times after {time.perf_counter() - begun:.0f} s, {units} units finished", flush=True)
    fetch(dump, build, relations, workers, None)
    print(f"{workers} workers: fetched after {time.perf_counter() - begun:.0f} s", flush=True)


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file of JSON lines."""
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def wrong_facts(expected: Path, build: Path) -> Iterator[str]:
    """Yield a message for each place at which the build's facts are not the expected ones, in their order."""
    described = (
        tuple(row[name] for name in ("relation", "subject", "object")) for row in rows(expected) if "relation" in row
    )
    found = (tuple(row[name] for name in FACT) for row in rows(build / "facts.jsonl"))
    for number, (expected_fact, fact) in enumerate(zip_longest(described, found), 1):
        if expected_fact != fact:
            yield f"fact {number}: expected {expected_fact}, found {fact}"


def wrong_names(expected: Path, build: Path) -> Iterator[str]:
    """Yield a message for each item of the build whose labels, aliases or attributes are not the expected ones."""
    described = {row["id"]: row for row in rows(expected) if "id" in row}
    for row in rows(build / "entities.jsonl"):
        item = described.get(row["id"], {})
        for part in ("labels", "aliases", "attributes"):
            named = {
                name: value for name, value in item.get(part, {}).items() if part != "attributes" or name in ATTRIBUTES
            }
            if row[part] != named:
                yield f"{row['id']}: expected {part} {named}, found {row[part]}"


def first(messages: Iterable[str]) -> list[str]:
    """Return the first five messages, and how many more there are."""
    found = list(messages)
    return found[:5] + ([f"and {len(found) - 5} more"] if len(found) > 5 else [])


def main() -> int:
    """Fetch with each number of workers; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("dump", type=Path)
    parser.add_argument("expected", type=Path, help="what make_dump.py wrote by --expected")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--within", type=float, default=6, help="most seconds after which a fetch is killed")
    parser.add_argument("--workers", default="1,2", help="comma-separated numbers of workers, a build each")
    given = parser.parse_args()
    relations = ",".join(sorted({row["relation"] for row in rows(given.expected) if "relation" in row}))
    digests: dict[str, set[str]] = {name: set() for name in COMPARED}
    with tempfile.TemporaryDirectory(dir=given.dump.parent) as scratch:
        for workers in map(int, given.workers.split(",")):
            build = Path(scratch) / str(workers)
            random = Random(workers)
            kills = [random.uniform(1, given.within) for _ in range(given.kills)]
            killed_fetch(given.dump, build, relations, workers, kills)
            wrong = first(wrong_facts(given.expected, build)) + first(wrong_names(given.expected, build))
            if wrong:
                print("\n".join(wrong))
                return 1
            counts = [sum(1 for _ in rows(build / name)) for name in COMPARED]
            print(f"{workers} workers: {counts[0]:,} facts and {counts[1]:,} items, all as expected", flush=True)
            for name, found in digests.items():
                found.add(hashlib.sha256((build / name).read_bytes()).hexdigest())
    if any(len(found) > 1 for found in digests.values()):
        print("the builds differ")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
