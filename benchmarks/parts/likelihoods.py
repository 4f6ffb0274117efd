"""Likelihoods: scoring before and after an edit, and the rank of o* among many objects."""

from __future__ import annotations

from functools import partial

from benchmarks import plain
from benchmarks.agreement import different, nlls
from benchmarks.shared import Row, SharedMeasurements, mean
from cfbuild.lm.likelihood import Question, score
from cfbuild.lm.load import load
from cfbuild.store.codec import decode_entity, decode_fact
from cfbuild.store.jsonl import read_values

POOL = 128
"""Objects of the ranking."""


def scoring(shared: SharedMeasurements) -> Row:
    far = max(
        abs(theirs - ours)
        for case, both in zip(shared.spread(shared.exact_cases.result), shared.plain_scores, strict=True)
        for stage, table in zip((case.pre, case.post), both.result, strict=True)
        for theirs, ours in zip((nll for pair in table for nll in pair), nlls(stage), strict=True)
    )
    return Row(
        "scoring before and after, float32",
        mean(shared.plain_scores),
        shared.exact_cases.seconds / shared.many,
        4,
        f"NLLs of {shared.few} records equal within {far:.1e} nats (limit 1e-3)",
        far < 1e-3,
        shared.many,
    )


def scoring_narrow(shared: SharedMeasurements) -> Row:
    lm = load(shared.lm.name, device=str(shared.lm.device), dtype="bfloat16")
    narrow = shared.cases(shared.exact.result, lm)
    share = different(shared.exact_cases.result, narrow.result)
    return Row(
        "scoring before and after, bfloat16",
        mean(shared.plain_scores),
        narrow.seconds / shared.many,
        10,
        f"{100 * share:.2f}% of decisions different (limit 0.5%)",
        share <= 0.005,
        shared.many,
    )


def ranking(shared: SharedMeasurements) -> Row:
    objects = {fact.object for fact in read_values(shared.world.folder.path("facts.jsonl"), decode_fact)}
    entities = read_values(shared.world.folder.path("entities.jsonl"), decode_entity)
    pool = sorted({entity.labels["en"] for entity in entities if entity.id in objects and "en" in entity.labels})[:POOL]
    prompts = [record.rewrite for record in shared.records]
    theirs = [
        shared.timed("baseline ranking", partial(plain.rank, shared.lm, text, pool)) for text in shared.spread(prompts)
    ]
    continuations = tuple(map(shared.lm.continuation, pool))
    ours = shared.timed(
        "ranking", lambda: score(shared.lm, [Question(shared.lm.encode(text), continuations) for text in prompts])
    )
    far = max(
        abs(nll - likelihood.nll_nats)
        for plain_ranks, answers in zip(theirs, shared.spread(ours.result), strict=True)
        for nll, likelihood in zip(plain_ranks.result, answers, strict=True)
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
