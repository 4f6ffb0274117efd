"""Print what the false objects of records are like: `check_false_objects.py BUILD [RECORDS ...] [--model NAME]`.

BUILD has the facts. RECORDS are files of records of these facts, its records.jsonl if none is given. A line a file says
how often o* shares a class with the true object: one of its own (P31), or any by P31 and P279 of the build's facts,
without the bundled table. With a model it also says how often o* is among the model's ten likeliest continuations of
its kind (the pool of today's code, and o*), after the rewrite prompt and after the paraphrases without their prefix.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cfbuild.data import Record
from cfbuild.facts.graph import FactGraph
from cfbuild.facts.relations import INSTANCE_OF, SUBCLASS_OF
from cfbuild.filter.context import Rules
from cfbuild.records.factset import read_facts
from cfbuild.records.pools import Pools
from cfbuild.store.codec import decode_record
from cfbuild.store.jsonl import read_values

if TYPE_CHECKING:
    from cfbuild.lm.model import LanguageModel

FIRST = 10


def closure(item: str, graph: FactGraph) -> set[str]:
    """Everything that the facts say the item is, by P31 and P279."""
    found: set[str] = set()
    front = {*graph.attributes(item, INSTANCE_OF), *graph.attributes(item, SUBCLASS_OF)}
    while front - found:
        found |= front
        front = {above for one in front for above in graph.attributes(one, SUBCLASS_OF)}
    return found


def shared(records: Sequence[Record], graph: FactGraph) -> str:
    """Return the share of records whose objects share a class, of those of which both have classes."""
    own = anyhow = known = 0
    for record in records:
        true, new = record.target_true.id, record.target_new.id
        if closure(true, graph) and closure(new, graph):
            known += 1
            own += not set(graph.attributes(true, INSTANCE_OF)).isdisjoint(graph.attributes(new, INSTANCE_OF))
            anyhow += not closure(true, graph).isdisjoint(closure(new, graph))
    if not known:
        return "no classes known"
    return f"a class of its own {own / known:.1%}, any class {anyhow / known:.1%} of {known:,} with known classes"


def first(records: Sequence[Record], graph: FactGraph, lm: LanguageModel) -> str:
    """Return the share of prompts after which o* is among the likeliest of its kind."""
    from cfbuild.lm.likelihood import Question, score

    pools = Pools(graph, Rules().min_pool)
    answered: list[tuple[str, int]] = []
    questions = []
    for record in records:
        pool = list(pools.pool(record.relation, record.target_true.id))
        if record.target_new.label not in {target.label for target in pool}:
            pool.append(record.target_new)
        place = next(place for place, target in enumerate(pool) if target.label == record.target_new.label)
        continuations = tuple(lm.continuation(target.label) for target in pool)
        for kind, prompts in (("rewrite", [record.rewrite]), ("paraphrase", [one.clean for one in record.paraphrases])):
            for prompt in prompts:
                answered.append((kind, place))
                questions.append(Question(lm.encode(prompt), continuations))
    started, hits = time.monotonic(), dict[str, list[bool]]()
    for (kind, place), answers in zip(answered, score(lm, questions), strict=True):
        mine = answers[place].nll_nats
        hits.setdefault(kind, []).append(sum(one.nll_nats < mine for one in answers) < FIRST)
    took = (time.monotonic() - started) / len(questions)
    shares = ", ".join(f"{sum(found) / len(found):.1%} of {len(found)} {kind}s" for kind, found in hits.items())
    sizes = sorted(len(question.continuations) for question in questions)
    return f"among the {FIRST} likeliest in {shares}; median pool {sizes[len(sizes) // 2]}, {took:.2f} s a prompt"


def sample(records: Iterable[Record], count: int | None) -> list[Record]:
    """Return a seeded sample in the file's order, or all."""
    whole = list(records)
    if count is None or count >= len(whole):
        return whole
    return [whole[place] for place in sorted(random.Random(0).sample(range(len(whole)), count))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path)
    parser.add_argument("records", type=Path, nargs="*")
    parser.add_argument("--model", help="ask this model too, such as smollm2-135m")
    parser.add_argument("--count", type=int, help="ask the model about so many records of each file")
    given = parser.parse_args()
    facts = read_facts(given.build)
    graph = FactGraph(facts.facts, facts.entities, facts.language)
    lm = None
    if given.model:
        from cfbuild.lm.load import load

        lm = load(given.model)
    for path in given.records or [given.build / "records.jsonl"]:
        records = list(read_values(path, decode_record))
        print(f"{path}: {len(records):,} records; {shared(records, graph)}")
        if lm is not None:
            print(f"  {first(sample(records, given.count), graph, lm)}")


if __name__ == "__main__":
    main()
