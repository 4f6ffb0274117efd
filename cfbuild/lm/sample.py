"""Seeded top-k sampling, many texts at once: a text depends on its own key, not on its neighbours."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from cfbuild.lm.batch import Batch, Past, additive_mask, left_padded
from cfbuild.lm.batching import halving
from cfbuild.lm.delta import Delta, overlay
from cfbuild.lm.forward import run
from cfbuild.lm.fused import fused_layers
from cfbuild.lm.model import Ids, LanguageModel
from cfbuild.lm.precision import widest
from cfbuild.progress import no_progress

TOP_K = 5
"""Most likely tokens that are drawn from, as for the paper's generations and context prefixes."""
ROWS_PER_BATCH = {"cpu": 160}
"""Texts written together: on 2 cores 160 took 0.7 times as long a text as 64."""
ACCELERATOR_ROWS_PER_BATCH = 512


@dataclass(frozen=True, slots=True)
class Opening:
    """A way to sample contexts: `count` texts of `tokens` tokens that begin with `text` (empty: from nothing)."""

    text: str
    tokens: int
    count: int = 1


OPENINGS = {
    "rome": (Opening("", 5, 10), Opening("", 10, 10)),
    "memit": tuple(Opening(word, 10) for word in ("The", "Therefore", "Because", "I", "You")),
}
"""The texts that papers put before a prompt, as released: ten of 5 tokens and ten of 10; one after each of 5 words."""


def generate(
    lm: LanguageModel,
    prompts: Sequence[Ids],
    keys: Sequence[str],
    total_tokens: int | Sequence[int],
    deltas: Sequence[Delta | None] | None = None,
    done: Callable[[int], None] = no_progress,
) -> list[str]:
    """Return each prompt continued to `total_tokens` tokens, prompt included, as text.

    `total_tokens` is one number for all prompts, or one each. Text i draws from `random.Random(keys[i])` alone and,
    where `deltas` are given, is written under `deltas[i]` (None: no change of weights). `done` gets the number of
    finished texts, those that are being written counted by how far they are.
    """
    totals = [total_tokens] * len(prompts) if isinstance(total_tokens, int) else total_tokens
    order = sorted(range(len(prompts)), key=lambda index: (len(prompts[index]), index))
    texts: dict[int, str] = {}
    rows = ROWS_PER_BATCH.get(lm.device.type, ACCELERATOR_ROWS_PER_BATCH)

    def work(part: Sequence[int]) -> list[str]:
        some = [deltas[index] for index in part] if deltas is not None else None
        drawn = _draw(
            lm,
            [prompts[i] for i in part],
            [keys[i] for i in part],
            [totals[i] for i in part],
            some,
            lambda count: done(len(texts) + count),
        )
        return [_decode(lm, prompts[i] + ids) for i, ids in zip(part, drawn, strict=True)]

    for start in range(0, len(order), rows):
        part = order[start : start + rows]
        texts.update(zip(part, halving(work, part), strict=True))
        done(len(texts))
    return [texts[index] for index in range(len(prompts))]


def sample_contexts(
    lm: LanguageModel,
    seed: int,
    openings: Sequence[Opening] = OPENINGS["rome"],
    done: Callable[[int], None] = no_progress,
) -> tuple[str, ...]:
    """Return texts to put before a prompt, each ending in a full stop and a space.

    done: gets the number of finished texts.
    """
    contexts: list[str] = []
    for opening in openings:
        start = lm.encode(opening.text) if opening.text else lm.starting_ids
        total = opening.tokens + len(lm.leading_ids if opening.text else start)
        keys = [f"{seed}:context:{opening.text}{opening.tokens}:{index}" for index in range(opening.count)]
        for text in generate(lm, [start] * opening.count, keys, total):
            plain = " ".join(text.replace("{", " ").replace("}", " ").split())
            contexts.append(f"{plain}. ")
        done(len(contexts))
    return tuple(contexts)


def sample_texts(
    lm: LanguageModel, seed: int, count: int, tokens: int, done: Callable[[int], None] = no_progress
) -> list[str]:
    """Return `count` texts of `tokens` tokens each, written from nothing; `done` is as in `generate`."""
    start = lm.starting_ids
    keys = [f"{seed}:text:{index}" for index in range(count)]
    return generate(lm, [start] * count, keys, len(start) + tokens, done=done)


def _decode(lm: LanguageModel, ids: Ids) -> str:
    text: str = lm.tokenizer.decode(ids, skip_special_tokens=True)
    return text


@torch.no_grad()
def _draw(
    lm: LanguageModel,
    prompts: Sequence[Ids],
    keys: Sequence[str],
    totals: Sequence[int],
    deltas: Sequence[Delta | None] | None,
    done: Callable[[int], None],
) -> list[Ids]:
    """Return the sampled ids of each prompt, as many as bring prompt i and its sample to `totals[i]` tokens.

    done: gets the number of texts that as many tokens would make as are sampled.
    """
    wanted = [max(0, total - len(prompt)) for total, prompt in zip(totals, prompts, strict=True)]
    draws = [random.Random(key) for key in keys]
    batch, real = left_padded(prompts, lm)
    past = Past(len(lm.layers), real.shape[1] + max(wanted))
    sampled: list[Tensor] = []
    with fused_layers(lm), overlay(lm, deltas) if deltas is not None else nullcontext():
        for step in range(max(wanted)):
            if step:
                batch = _next(lm, sampled[-1], real)
            hidden = run(lm, batch, past=past)[:, -1]
            past.length += batch.ids.shape[1]
            sampled.append(_pick(lm.logits(hidden), [draw.random() for draw in draws]))
            real = torch.cat((real, torch.ones_like(real[:, :1])), dim=1)
            done(len(prompts) * (step + 1) // max(wanted))
    columns = torch.stack(sampled, dim=1).tolist() if sampled else [[] for _ in prompts]
    return [tuple(row[:count]) for row, count in zip(columns, wanted, strict=True)]


def _next(lm: LanguageModel, tokens: Tensor, real: Tensor) -> Batch:
    """Return a batch of one token a row, the last of those that `real` [batch, past + 1] marks."""
    return Batch(tokens[:, None], real.sum(dim=1)[:, None] - 1, additive_mask(real[:, None, :], lm.dtype))


def _pick(logits: Tensor, draws: Sequence[float]) -> Tensor:
    """Return one of the TOP_K likeliest tokens of each row, by its draw in [0, 1): [batch, vocabulary] -> [batch]."""
    top = logits.topk(TOP_K, dim=-1)
    numbers = widest(logits.device)
    reached = top.values.to(numbers).softmax(dim=-1).cumsum(dim=-1)  # [batch, TOP_K]
    where = (reached < torch.tensor(draws, dtype=numbers, device=logits.device)[:, None]).sum(dim=-1)
    return top.indices.gather(1, where.clamp_max(TOP_K - 1)[:, None])[:, 0]
