"""Measure how fast a dump is filtered: beside only unpacking it, and beside a plain version of the same filter.

    python scripts/make_dump.py --mb 3000 dump.nt.bz2
    python scripts/dump_speed.py --workers 2 dump.nt.bz2

Each way is run `--repeat` times in turn, and the fastest counts. CPU time is that of this process and its workers: on a
busy machine it tells more than the clock. `plain` is the bz2 or gzip module, line by line, a regular expression a line
of N-Triples or json.loads a line of JSON. All ways that find facts must find as many, or the script fails.
"""

from __future__ import annotations

import argparse
import bz2
import gzip
import json
import re
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cfbuild.facts.relations import ATTRIBUTES
from cfbuild.progress import silent
from cfbuild.sources.dump.packing import Unit, open_dump
from cfbuild.sources.dump.query import DumpQuery
from cfbuild.sources.dump.scan import read_dump
from cfbuild.templates import builtin
from cfbuild.text.codes import chain
from cfbuild.work import WorkerOptions, map_chunks

RELATIONS = tuple(sorted(builtin.relations(), key=lambda relation: int(relation[1:])))
"""The relations of a fetch without --relations."""


@dataclass(frozen=True)
class Unpack:
    """The job that only unpacks units, and returns the bytes of their text."""

    def open(self) -> Callable[[Unit], int]:
        return lambda unit: sum(map(len, unit.texts()))


def unpacked(path: Path, workers: int) -> int:
    """Return the bytes of the dump's text, unpacked by the units and processes that the filter has."""
    dump = open_dump(str(path), workers)
    with dump:
        return sum(map_chunks(Unpack(), dump.units(), WorkerOptions(workers=workers)))


def unpacked_by_library(path: Path, workers: int) -> int:
    """Return the bytes of the dump's text, unpacked by indexed_bzip2 or rapidgzip with a thread a worker."""
    if path.suffix == ".bz2":
        import indexed_bzip2 as library
    else:
        import rapidgzip as library
    stream = library.open(str(path), parallelization=workers)
    size = 0
    while part := stream.read(1 << 20):
        size += len(part)
    return size


def filtered(path: Path, workers: int) -> int:
    """Return the number of triples of the wanted relations that are found, redirects and names beside."""
    folder = Path(tempfile.mkdtemp(dir=path.parent))
    try:
        dump = open_dump(str(path), workers)
        query = DumpQuery(RELATIONS, ATTRIBUTES, chain("en"))
        with dump:
            extract, _ = read_dump(dump, query, folder, WorkerOptions(workers=workers), silent)
        return sum(int((extract.facts(int(one[1:]))["object"] >= 0).sum()) for one in RELATIONS)
    finally:
        shutil.rmtree(folder)


TRIPLE = re.compile(
    r"<http://www\.wikidata\.org/entity/(Q\d+)> <http://www\.wikidata\.org/prop/direct/(P\d+)> "
    r"(?:<http://www\.wikidata\.org/entity/(Q\d+)>|(_:\w+)) \.\n"
)
NAME = re.compile(
    r"<http://www\.wikidata\.org/entity/(Q\d+)> <http://www\.w3\.org/(?:2000/01/rdf-schema#label|2004/02/skos/core#"
    r'altLabel)> "(.*)"@(en|mul) \.\n'
)


def plain_lines(path: Path) -> Iterable[str]:
    """Yield the lines of the dump as text."""
    opener: Any = {".bz2": bz2.open, ".gz": gzip.open}.get(path.suffix, open)
    with opener(path, "rt", encoding="utf-8", errors="replace", newline="\n") as stream:
        yield from stream


def plain_truthy(path: Path) -> int:
    """Return the number of triples of the wanted relations, read line by line; names are kept as well."""
    relations, attributes, names, number = set(RELATIONS), set(ATTRIBUTES), [], 0
    for line in plain_lines(path):
        if match := TRIPLE.match(line):
            number += match[2] in relations
            if match[2] in attributes:
                names.append((match[1], match[2], match[3]))
        elif match := NAME.match(line):
            names.append(match.groups())
        if len(names) > 100_000:
            names.clear()
    return number


def plain_json(path: Path) -> int:
    """Return the number of truthy statements of the wanted relations, read line by line; names are kept as well."""
    names, number = [], 0
    for line in plain_lines(path):
        try:
            entity = json.loads(line.rstrip(",\n"))
        except ValueError:
            continue
        if entity.get("type") != "item" or "id" not in entity:
            continue
        names.append([entity[kind].get(code) for kind in ("labels", "aliases") for code in ("en", "mul")])
        for relation in RELATIONS:
            stated = entity["claims"].get(relation, ())
            best = "preferred" if any(one["rank"] == "preferred" for one in stated) else "normal"
            number += sum(one["rank"] == best and _is_stated(one["mainsnak"]) for one in stated)
        if len(names) > 100_000:
            names.clear()
    return number


def _is_stated(snak: dict[str, Any]) -> bool:
    if snak["snaktype"] != "value":
        return bool(snak["snaktype"] == "somevalue")
    value = snak["datavalue"]["value"]
    return isinstance(value, dict) and value.get("entity-type") == "item"


def cpu_s() -> float:
    """Return the CPU seconds of this process and of those that it waited for."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in spent)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("dump", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--ways", default="unpack,library,filter,plain", help="comma-separated")
    given = parser.parse_args()
    form = open_dump(str(given.dump)).form
    plain = plain_json if form == "json" else plain_truthy
    ways: dict[str, Callable[[], int]] = {
        "unpack": lambda: unpacked(given.dump, given.workers),
        "library": lambda: unpacked_by_library(given.dump, given.workers),
        "filter": lambda: filtered(given.dump, given.workers),
        "plain": lambda: plain(given.dump),
    }
    seconds: dict[str, list[tuple[float, float]]] = {}
    results: dict[str, int] = {}
    for _ in range(given.repeat):
        for name in given.ways.split(","):
            begun, before = time.perf_counter(), cpu_s()
            try:
                results[name] = ways[name]()
            except ImportError as error:
                print(f"{name}: {error}", file=sys.stderr)
                continue
            seconds.setdefault(name, []).append((time.perf_counter() - begun, cpu_s() - before))
    size = results.get("unpack") or results.get("library")
    best = {name: (min(one for one, _ in runs), min(one for _, one in runs)) for name, runs in seconds.items()}
    for name, (wall, spent) in best.items():
        rate = f", {size / wall / 1e6:.1f} MB/s, {size / spent / 1e6:.1f} MB/s of CPU time" if size else ""
        print(f"{name:8} {wall:8.1f} s, {spent:8.1f} s of CPU time{rate}")
    for name in ("unpack", "library", "plain"):
        if name in best and "filter" in best:
            print(f"filter's speed by {name}'s: {best[name][0] / best['filter'][0]:.2f} by the clock, ", end="")
            print(f"{best[name][1] / best['filter'][1]:.2f} by CPU time")
    if results.get("plain", results.get("filter")) != results.get("filter"):
        print(f"the filter finds {results['filter']} facts, the plain version {results['plain']}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
