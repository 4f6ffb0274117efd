"""Measure what facts and records cost as their number grows: seconds and memory, from facts to files and the page.

    python scripts/bench_scale.py                                  # 10,000, 30,000 and 100,000 facts, in this process
    python scripts/bench_scale.py --facts 1500000 --workers 2      # what a million records take
    python scripts/bench_scale.py --steps generate,publish --keep build/scale

Facts are made, seeded: people with a birthplace, a citizenship, a language, an occupation and so on, the objects by
Zipf, and more of them the more facts there are (Heaps: about the facts to the power of 0.6). CPU seconds are user and
system time of a step and of its workers; on a busy machine they tell more than the clock. Memory is the most that the
step's own process and its largest worker took. A step is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

RELATIONS = {
    "P19": ("Q515", 0.8),
    "P20": ("Q515", 0.4),
    "P27": ("Q6256", 0.8),
    "P69": ("Q3918", 0.4),
    "P103": ("Q34770", 0.4),
    "P106": ("Q28640", 0.8),
    "P140": ("Q9174", 0.2),
    "P413": ("Q1781513", 0.2),
}
"""Relations, the class of their objects, and the share of people with such a fact."""
EACH = sum(share for _, share in RELATIONS.values())
"""Facts of a person."""
SYLLABLES = tuple(f"{one}{other}" for one in "bdfghklmnprst" for other in "aeio")
STEPS = ("generate", "audit", "publish", "report")


def word(number: int) -> str:
    """Return the word of a number: another one for each."""
    text = SYLLABLES[number % len(SYLLABLES)]
    while number := number // len(SYLLABLES):
        text += SYLLABLES[number % len(SYLLABLES)]
    return (text + "n").capitalize()


def people(count: int) -> Iterator[tuple[int, Random]]:
    for number in range(count):
        yield 10_000_000 + number, Random(number)


def write_facts(root: Path, count: int) -> int:
    """Write facts, entities and templates of about `count` facts into the folder `root`; return their number."""
    from cfbuild.data import Entity, Fact
    from cfbuild.store import codec, jsonl
    from cfbuild.templates import builtin

    root.mkdir(parents=True, exist_ok=True)
    subjects = round(count / EACH)
    objects = {one: max(60, round((share * subjects) ** 0.6)) for one, (_, share) in RELATIONS.items()}
    first = {one: 1_000_000 * (place + 1) for place, one in enumerate(RELATIONS)}
    sums = {one: list(accumulate(1 / (rank + 1) for rank in range(number))) for one, number in objects.items()}
    made = 0

    def facts_of(relation: str) -> Iterator[Any]:
        nonlocal made
        share = RELATIONS[relation][1]
        for number, _ in people(subjects):
            random = Random(f"{relation}:{number}")
            if random.random() < share:
                made += 1
                (value,) = random.choices(range(objects[relation]), cum_weights=sums[relation])
                yield Fact(relation, f"Q{number}", f"Q{first[relation] + value}", source="made")

    def entities() -> Iterator[Any]:
        for relation, (kind, _) in RELATIONS.items():
            for value in range(objects[relation]):
                number = first[relation] + value
                label = f"{word(number * 31 % 9_999_991)} {word(value)}"
                yield Entity(f"Q{number}", {"en": label}, attributes={"P31": (kind,)}, sitelinks=9)
        for number, random in people(subjects):
            name = f"{word(number % 999_983)} {word(number * 7_919 % 10_000_019)}"
            aliases = {"en": (f"{name} {word(random.randrange(10**6))}",)} if random.random() < 0.3 else {}
            yield Entity(f"Q{number}", {"en": name}, aliases, {"P31": ("Q5",)}, sitelinks=3)

    facts = (fact for relation in RELATIONS for fact in facts_of(relation))
    jsonl.write_jsonl(root / "facts.jsonl", map(codec.encode_fact, facts))
    jsonl.write_jsonl(root / "entities.jsonl", map(codec.encode_entity, entities()))
    templates = [one for relation in RELATIONS for one in builtin.templates(relation)]
    jsonl.write_jsonl(root / "templates.jsonl", map(codec.encode_template, templates))
    return made


def generate(root: Path, workers: int) -> int:
    """Make the records; return their number."""
    from cfbuild.pipeline.generate import GenerateOptions
    from cfbuild.pipeline.generate import generate as make
    from cfbuild.store.folder import BuildFolder

    return make(BuildFolder(root), GenerateOptions(workers=workers, restart=True)).kept


def audit(root: Path, workers: int) -> int:
    """Audit the records; return the number of faulty ones."""
    from cfbuild.pipeline.audit import AuditOptions
    from cfbuild.pipeline.audit import audit as look

    return look(AuditOptions(root / "records.jsonl", workers=workers)).faulty


def publish(root: Path, workers: int) -> int:
    """Lay out the dataset; return the number of its files."""
    from cfbuild.pipeline.publish import stage
    from cfbuild.store.folder import BuildFolder
    from cfbuild.work import WorkerOptions

    return len(stage(BuildFolder(root), "someone/made", workers=WorkerOptions(workers=workers)).files)


def report(root: Path, workers: int) -> int:
    """Write the page; return its bytes."""
    from cfbuild.pipeline.report import report
    from cfbuild.store.folder import BuildFolder

    return report(BuildFolder(root)).page.stat().st_size


DO: dict[str, Callable[[Path, int], int]] = {
    "generate": generate,
    "audit": audit,
    "publish": publish,
    "report": report,
}


def measured(step: str, root: Path, workers: int) -> dict[str, Any]:
    """Return what a step gave and took, in a process of its own."""
    begun = time.perf_counter()
    command = [sys.executable, __file__, "--do", step, "--keep", str(root), "--workers", str(workers)]
    run = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, stdout=subprocess.PIPE)
    return {**json.loads(run.stdout), "wall_s": time.perf_counter() - begun}


def do(step: str, root: Path, workers: int) -> dict[str, Any]:
    """Do a step in this process; return its result and what it took."""
    result = DO[step](root, workers)
    own, others = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {
        "result": result,
        "cpu_s": own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime,
        "own_mb": own.ru_maxrss / 1024,
        "worker_mb": others.ru_maxrss / 1024,
    }


def main() -> None:
    """Print a line for each number of facts and step."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--facts", default="10000,30000,100000", help="comma-separated numbers of facts")
    parser.add_argument("--steps", default=",".join(STEPS), help="comma-separated, of: " + ", ".join(STEPS))
    parser.add_argument("--workers", type=int, default=1, help="of generate, audit and publish")
    parser.add_argument("--keep", type=Path, help="a folder for the builds, which stay there")
    parser.add_argument("--do", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.do:
        print(json.dumps(do(given.do, given.keep, given.workers)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        for count in map(int, given.facts.split(",")):
            root = (given.keep or Path(scratch)) / str(count)
            facts = write_facts(root, count)
            made = root / "records.jsonl"
            records = made.read_bytes().count(b"\n") if made.exists() else 0
            for step in given.steps.split(","):
                found = measured(step, root, given.workers)
                records = found["result"] if step == "generate" else records
                print(_line(step, facts, records, found), flush=True)


def _line(step: str, facts: int, records: int, found: dict[str, Any]) -> str:
    each = 1000 * found["cpu_s"] / max(1, records)
    return (
        f"{facts:9,} facts, {records:9,} records: {step:8} {found['cpu_s']:8.1f} s of CPU, {found['wall_s']:8.1f} s, "
        f"{each:6.2f} ms a record, {found['own_mb']:6.0f} MB, a worker {found['worker_mb']:6.0f} MB, "
        f"gave {found['result']:,}"
    )


if __name__ == "__main__":
    main()
