"""Print random records of a build as a person reads them: `read_records.py BUILD [--limit 50] [--relation P36]`.

Each record comes with the classes of its subject and targets, what the build's facts say of the subject, and every
prompt with its answers: `=` the true object, `*` the new one. The same build and seed print the same records.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from cfbuild.data import Record, Target
from cfbuild.errors import CfbuildError, ConfigError
from cfbuild.facts.graph import FactGraph
from cfbuild.facts.relations import INSTANCE_OF, RELATIONS
from cfbuild.records.factset import read_facts
from cfbuild.records.prompts import prompts_of
from cfbuild.store.codec import decode_record
from cfbuild.store.folder import BuildFolder
from cfbuild.store.jsonl import read_values
from cfbuild.text.safe import visible


def chosen(records: Iterable[Record], limit: int, seed: int, relation: str | None) -> list[Record]:
    """Return at most `limit` random records of `relation` (None: of any), in the order of the file."""
    fitting = [one for one in records if relation in (None, one.relation)]
    places = random.Random(f"{seed}:read").sample(range(len(fitting)), min(limit, len(fitting)))
    return [fitting[place] for place in sorted(places)]


def lines(record: Record, graph: FactGraph) -> Iterator[str]:
    """Yield the lines of a record."""
    known = RELATIONS.get(record.relation)
    yield f"== case {record.case_id}  {record.relation}{f' ({known.name})' if known else ''}"
    parts = ("subject", record.subject), ("true  =", record.target_true), ("new   *", record.target_new)
    yield from (f"   {name}  {_described(target, graph)}" for name, target in parts)
    yield f"   facts    {'; '.join(_facts(record.subject.id, graph)) or 'none'}"
    last = None
    for group, text, new, true in prompts_of(record):
        if group != last:
            yield f" {group}"
            last = group
        yield f"   {text}  = {true.label}  * {new.label}"
    yield " generation"
    yield from (f"   {prompt} ..." for prompt in record.generation)


def _described(target: Target, graph: FactGraph) -> str:
    classes = ", ".join(graph.label(one) or one for one in graph.attributes(target.id, INSTANCE_OF))
    others = ", ".join(graph.names(target.id)[1:4])
    return f"{target.label} ({target.id}; {classes or 'of no known class'}{f'; also {others}' if others else ''})"


def _facts(subject: str, graph: FactGraph) -> Iterator[str]:
    """Yield every fact about an item, with its rank and dates where they are known."""
    for relation in graph.relations:
        for fact in graph.statements(subject, relation):
            dates = f"from {fact.start}" if fact.start else "", f"to {fact.end}" if fact.end else ""
            more = ", ".join(part for part in (fact.rank, *dates) if part)
            yield f"{relation} {graph.label(fact.object) or fact.object}{f' ({more})' if more else ''}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("build", type=Path, help="a build folder that generate has written into")
    parser.add_argument("--limit", type=int, default=50, help="how many records [default: 50]")
    parser.add_argument("--seed", type=int, default=0, help="which ones [default: 0]")
    parser.add_argument("--relation", help="of this relation only, such as P36")
    given = parser.parse_args()
    if given.limit < 1:
        parser.error(f"--limit is {given.limit}; expected at least 1")
    try:
        rows = read_values(BuildFolder(given.build).require("records.jsonl"), decode_record)
        records = chosen(rows, given.limit, given.seed, given.relation)
        if not records:
            raise ConfigError(f"{given.build} has no record{f' of {given.relation}' if given.relation else ''}")
        known = read_facts(given.build, records[0].language)
    except CfbuildError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    graph = FactGraph(known.facts, known.entities, known.language)
    for record in records:
        print("\n".join(visible(line) for line in lines(record, graph)), end="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
