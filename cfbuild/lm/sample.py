"""Texts by seeded top-k sampling, and greedy answers that end by themselves, many at once.

A text depends on its own key, not on the texts that are written with it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor

from cfbuild.lm.batch import Packing, Past, left_padded
from cfbuild.lm.batching import halving
from cfbuild.lm.delta import Delta, overlay
from cfbuild.lm.forward import packing_layers, run_packed
from cfbuild.lm.fused import fused_layers
from cfbuild.lm.model import Ids, LanguageModel
from cfbuild.lm.precision import widest
from cfbuild.lm.steps import step_for, tokens_after
from cfbuild.progress import no_progress

ROWS_PER_BATCH, ACCELERATOR_ROWS_PER_BATCH = {"cpu": 320}, 512
"""Texts written together, by kind of device and on any other, if the memory has room: those of a chunk of records."""


@dataclass(frozen=True, slots=True)
class Opening:
    """A way to sample contexts: `count` texts of `tokens` tokens that begin with `text`, which may be empty."""

    text: str
    tokens: int
    count: int = 1


OPENINGS = {
    "rome": (Opening("", 5, 10), Opening("", 10, 10)),
    "memit": tuple(Opening(word, 10) for word in ("The", "Therefore", "Because", "I", "You")),
}
"""The texts that the papers' code puts before a prompt: ten of 5 tokens and ten of 10; one for each of five words."""


def generate(
    lm: LanguageModel,
    prompts: Sequence[Ids],
    keys: Sequence[str],
    total_tokens: int | Sequence[int],
    deltas: Sequence[Delta | None] | None = None,
    done: Callable[[int], None] = no_progress,
) -> list[str]:
    """Return each prompt continued to `total_tokens` tokens, prompt included, as text.

    total_tokens: a number for all prompts, or a number for each. Text i draws from `random.Random(keys[i])` alone and,
    if `deltas` are given, is written under `deltas[i]` (None: no change of weights). done: gets the number of finished
    texts, to which those that are being written count in part.
    """
    totals = [total_tokens] * len(prompts) if isinstance(total_tokens, int) else total_tokens
    own_deltas = [None] * len(prompts) if deltas is None else deltas
    rows = [
        _TextPlan(prompt, max(0, total - len(prompt)), delta, key)
        for prompt, total, delta, key in zip(prompts, totals, own_deltas, keys, strict=True)
    ]
    return _write_all(lm, rows, None, done)


def answer(
    lm: LanguageModel,
    prompts: Sequence[Ids],
    most_tokens: int,
    has_ended: Callable[[str], bool],
    deltas: Sequence[Delta | None],
    done: Callable[[int], None] = no_progress,
) -> list[str]:
    """Return each prompt continued by greedy decoding until it ends, prompt included, as text.

    It ends with a token by which the model ends texts, when `has_ended` is true of the text behind the prompt, or after
    `most_tokens` tokens. Prompt i is continued under `deltas[i]`; `done` is as in `generate`.
    """
    rows = [_TextPlan(prompt, most_tokens, delta) for prompt, delta in zip(prompts, deltas, strict=True)]
    return _write_all(lm, rows, has_ended, done)


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
    """Return `count` texts of `tokens` tokens each, without a prompt; `done` is as in `generate`."""
    start = lm.starting_ids
    keys = [f"{seed}:text:{index}" for index in range(count)]
    return generate(lm, [start] * count, keys, len(start) + tokens, done=done)


@dataclass(frozen=True, slots=True)
class _TextPlan:
    """A text to write: its prompt, the most tokens behind it, its change of weights, and the key of its draws.

    Without a key the likeliest token is taken each time.
    """

    prompt: Ids
    most_tokens: int
    delta: Delta | None = None
    key: str | None = None


def _write_all(
    lm: LanguageModel, rows: Sequence[_TextPlan], has_ended: Callable[[str], bool] | None, done: Callable[[int], None]
) -> list[str]:
    """Return each row's text, prompt included; rows of similar length are written together."""
    order = sorted(range(len(rows)), key=lambda index: (len(rows[index].prompt), index))
    texts: dict[int, str] = {}
    most_rows = ROWS_PER_BATCH.get(lm.device.type, ACCELERATOR_ROWS_PER_BATCH)

    def write(batch: Sequence[int]) -> list[str]:
        batch_rows = [rows[index] for index in batch]
        added = _write(lm, batch_rows, has_ended, lambda count: done(len(texts) + count))
        return [_decode(lm, row.prompt + ids) for row, ids in zip(batch_rows, added, strict=True)]

    tokens = max((len(row.prompt) + row.most_tokens for row in rows), default=0)
    while len(texts) < len(order):
        batch = order[len(texts) :][: lm.room.texts(most_rows, tokens)]
        texts.update(zip(batch, halving(write, batch, lm.room), strict=True))
        done(len(texts))
    return [texts[index] for index in range(len(rows))]


def _decode(lm: LanguageModel, ids: Sequence[int]) -> str:
    text: str = lm.tokenizer.decode(ids, skip_special_tokens=True)
    return text


@torch.no_grad()
def _write(
    lm: LanguageModel, rows: Sequence[_TextPlan], has_ended: Callable[[str], bool] | None, done: Callable[[int], None]
) -> list[Ids]:
    """Return the ids behind each prompt, at most the row's `most_tokens`.

    done: gets the number of texts that the tokens read and written so far would make.
    """
    width, steps = max(len(row.prompt) for row in rows), max(row.most_tokens for row in rows)
    layers = count(1)

    def read() -> None:
        done(len(rows) * width * next(layers) // (len(lm.layers) * (width + steps)))

    numbers = _numbers(lm, rows, steps)
    running, written = list(range(len(rows))), _Written(lm, rows, has_ended)
    with fused_layers(lm), ExitStack() as changes:
        past, hidden, real = _read_prompts(lm, rows, width + steps, read)
        changes.enter_context(overlay(lm, [row.delta for row in rows]))
        next_tokens, tokens = step_for(lm, past, real), tokens_after(lm, hidden, numbers[0] if numbers else None)
        for step in range(1, steps + 1):
            done(len(rows) * (width + step - 1) // (width + steps))
            unended = written.add(running, tokens)
            if not unended or step == steps:
                break
            if len(unended) <= len(running) * (1 - next_tokens.share_that_leaves):  # go on without those that ended
                kept = torch.tensor(unended, device=lm.device)
                running, tokens, next_tokens = (
                    [running[place] for place in unended],
                    tokens[kept],
                    next_tokens.keep(kept),
                )
                numbers = numbers and [of_step[kept] for of_step in numbers]
                changes.close()
                changes.enter_context(overlay(lm, [rows[index].delta for index in running]))
            tokens = next_tokens(tokens, numbers[step] if numbers else None)
    return [ids[: row.most_tokens] for row, ids in zip(rows, written.ids(), strict=True)]


def _numbers(lm: LanguageModel, rows: Sequence[_TextPlan], steps: int) -> list[Tensor] | None:
    """Return the numbers in [0, 1) by which tokens are drawn, [rows] for each step; None for rows without keys."""
    draws = [random.Random(row.key) for row in rows if row.key is not None]
    if not draws:
        return None
    table = [[draw.random() for _ in range(steps)] for draw in draws]
    return list(torch.tensor(table, dtype=widest(lm.device), device=lm.device).T.unbind())


def _read_prompts(
    lm: LanguageModel, rows: Sequence[_TextPlan], capacity: int, passed: Callable[[], None]
) -> tuple[Past, Tensor, Tensor]:
    """Return the prompts' past, the finished states of their last tokens [rows, d_model], and their mask [rows, width].

    capacity: tokens that the past has room for. passed: is called for each layer. Equal prompts under the same change
    are read once.
    """
    places: dict[tuple[Ids, int], int] = {}
    place_of = [places.setdefault((row.prompt, id(row.delta)), len(places)) for row in rows]
    distinct = [rows[place_of.index(place)] for place in range(len(places))]
    batch, real = left_padded([row.prompt for row in distinct], lm)
    packing = Packing.of(real)
    with overlay(lm, [row.delta for row in distinct]):
        past = Past(len(lm.layers), capacity, packing_layers(lm) if lm.device.type == "cpu" else ())
        ends = run_packed(lm, batch, packing, real.sum(dim=1).cumsum(dim=0) - 1, past=past, passed=passed)
    past.length += real.shape[1]
    if len(distinct) == len(rows):
        return past, ends, real
    spread = torch.tensor(place_of, device=lm.device)
    past.select(spread)
    return past, ends[spread], real[spread]


class _Written:
    """The tokens that are written behind the prompts of rows, and the rows that have ended."""

    def __init__(self, lm: LanguageModel, rows: Sequence[_TextPlan], has_ended: Callable[[str], bool] | None) -> None:
        self._lm = lm
        self._has_ended = has_ended
        self._ends = _ending_ids(lm) if has_ended else frozenset()
        self._most_tokens = [row.most_tokens for row in rows]
        self._rows: list[list[int]] = [[] for _ in rows]
        self._unread: list[tuple[Sequence[int], Tensor]] = []
        self._steps = 0
        self._ended: set[int] = set()

    def add(self, running: Sequence[int], tokens: Tensor) -> Sequence[int]:
        """Note a token of each `running` row; return the places, in `running`, of the rows that have not ended."""
        self._unread.append((running, tokens))
        self._steps += 1
        if self._has_ended is not None:  # else tokens stay on the device until all are there
            self._read()
        return [
            place
            for place, index in enumerate(running)
            if index not in self._ended and self._most_tokens[index] > self._steps
        ]

    def ids(self) -> list[Ids]:
        """Return the tokens of each row."""
        self._read()
        return list(map(tuple, self._rows))

    def _read(self) -> None:
        for running, tokens in self._unread:
            for index, token in zip(running, tokens.tolist(), strict=True):
                if index not in self._ended:
                    self._rows[index].append(token)
                    if self._is_end(index):
                        self._ended.add(index)
        self._unread.clear()

    def _is_end(self, index: int) -> bool:
        if self._has_ended is None:
            return False
        return self._rows[index][-1] in self._ends or self._has_ended(_decode(self._lm, self._rows[index]))


def _ending_ids(lm: LanguageModel) -> frozenset[int]:
    """Return the tokens by which a model ends a text: the tokenizer's, and those of the model's generation settings."""
    settings = getattr(lm.model, "generation_config", None)
    named = getattr(settings, "eos_token_id", None)
    ids = named if isinstance(named, list) else [named]
    return frozenset(token for token in (lm.tokenizer.eos_token_id, *ids) if token is not None)
