"""Likelihoods: scoring before and after an edit, and the rank of o* among many objects."""

from __future__ import annotations

from functools import partial

from benchmarks import plain
from benchmarks.agreement import different, nlls
from benchmarks.bench import Bench, Row, mean
from cfbuild.lm.likelihood import Question, score
from cfbuild.lm.load import load
from cfbuild.store.codec import decode_entity, decode_fact
from cfbuild.store.jsonl import read_values

POOL = 128
"""Objects of the ranking."""


def scoring(bench: Bench) -> Row:
    far = max(
        abs(theirs - ours)
        for case, both in zip(bench.spread(bench.exact_cases.result), bench.plain_scores, strict=True)
        for stage, table in zip((case.pre, case.post), both.result, strict=True)
        for theirs, ours in zip((nll for pair in table for nll in pair), nlls(stage), strict=True)
    )
    return Row(
        "scoring before and after, float32",
        mean(bench.plain_scores),
        bench.exact_cases.seconds / bench.many,
        4,
        f"NLLs of {bench.few} records equal within {far:.1e} nats (limit 1e-3)",
        far < 1e-3,
        bench.many,
    )


def scoring_narrow(bench: Bench) -> Row:
    lm = load(bench.lm.name, device=str(bench.lm.device), dtype="bfloat16")
    narrow = bench.cases(bench.exact.result, lm)
    share = different(bench.exact_cases.result, narrow.result)
    return Row(
        "scoring before and after, bfloat16",
        mean(bench.plain_scores),
        narrow.seconds / bench.many,
        10,
        f"{100 * share:.2f}% of decisions different (limit 0.5%)",
        share <= 0.005,
        bench.many,
    )


def ranking(bench: Bench) -> Row:
    objects = {fact.object for fact in read_values(bench.world.folder.path("facts.jsonl"), decode_fact)}
    entities = read_values(bench.world.folder.path("entities.jsonl"), decode_entity)
    pool = sorted({entity.labels["en"] for entity in entities if entity.id in objects and "en" in entity.labels})[:POOL]
    prompts = [record.rewrite for record in bench.records]
    theirs = [
        bench.timed("baseline ranking", partial(plain.rank, bench.lm, text, pool)) for text in bench.spread(prompts)
    ]
    continuations = tuple(map(bench.lm.continuation, pool))
    ours = bench.timed(
        "ranking", lambda: score(bench.lm, [Question(bench.lm.encode(text), continuations) for text in prompts])
    )
    far = max(
        abs(nll - likelihood.nll_nats)
        for one, answers in zip(theirs, bench.spread(ours.result), strict=True)
        for nll, likelihood in zip(one.result, answers, strict=True)
    )
    return Row(
        f"rank of o* among {len(pool)} objects",
        mean(theirs),
        ours.seconds / len(prompts),
        20,
        f"NLLs equal within {far:.1e} nats (limit 1e-3)",
        far < 1e-3,
        len(prompts),
    )
