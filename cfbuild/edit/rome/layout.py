"""Records laid out for an optimisation: every text cut where the edit acts, and all below that run once.

A text is cut at the edit's token, which is its subject's last unless `TOKENS` says another. What comes before it gives
keys and values, once; the few tokens from there on are run up to the edited layer, once; a step runs the layers above,
over those tokens, for many records together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile

import torch
from torch import Tensor

from cfbuild.lm.batch import Batch, Packing, Past, additive_mask, left_padded, pad
from cfbuild.lm.batching import token_budget
from cfbuild.lm.forward import Trace, remember, replay_packed, trace_below
from cfbuild.lm.hooks import projection_output
from cfbuild.lm.model import Ids, LanguageModel

SHARE_OF_BUDGET = {"float32": 0.22, "bfloat16": 0.155}
"""A step keeps activations for the backward pass, so its batches are this much smaller than those that only score: the
more so beside the weights' copies that products in bfloat16 take."""
EVEN_TRIES = 8
"""Limits tried, from an even share up to the budget, for as many batches of more even cost."""
PAST_WORTH_OF_A_TOKEN = 8
"""Earlier tokens whose keys and values take as much memory as one token's activations."""
LOGITS_IN_TOKENS = 1
"""Tokens whose activations take as much memory as one token's logits."""


@dataclass(frozen=True, slots=True)
class CutText:
    """A text cut at the edit's token: `past` before it, `rest` from it on, `targets` predicted at its end."""

    past: Ids
    rest: Ids
    targets: Ids


@dataclass(frozen=True, slots=True)
class Plan:
    """A record's rows: the bare prompt first, one a context, and last the essence row."""

    index: int
    rows: tuple[CutText, ...]

    @property
    def width(self) -> int:
        return max(len(row.rest) for row in self.rows)

    @property
    def cost(self) -> float:
        """The record's share of a batch's budget, in tokens: for its own, its earlier keys and values, its logits."""
        return sum(len(row.rest) + len(row.past) / PAST_WORTH_OF_A_TOKEN + LOGITS_IN_TOKENS for row in self.rows)


@dataclass(frozen=True, slots=True)
class Reads:
    """The tokens at which a batch's losses are read, counted through the batch's real tokens.

    The first `len(targets)` should each predict its target: `records[i]` is the record it belongs to, `shares[i]` its
    weight in that record's mean. The others are the records' essence rows.
    """

    tokens: Tensor
    targets: Tensor
    records: Tensor
    shares: Tensor


@dataclass(frozen=True, slots=True)
class _Past:
    """Keys and values before the edits' tokens; real: [rows, past], in any columns."""

    layers: Past
    real: Tensor

    @property
    def lengths(self) -> Tensor:
        """The number of earlier tokens of each row, [rows]."""
        return self.real.sum(dim=1)

    def select(self, rows: Tensor) -> _Past:
        """Return the past of these rows; do not use this one afterwards."""
        self.layers.select(rows)
        return _Past(self.layers, self.real[rows])

    def extended(self, lm: LanguageModel, texts: Sequence[Ids]) -> _Past:
        """Return the past with the tokens of a text added to each row; texts may be empty."""
        if not any(texts):
            return self
        batch, real = left_padded(texts, lm, self.real)
        with torch.no_grad():
            remember(lm, batch, real, self.layers)
        return _Past(self.layers, torch.cat((self.real, real), dim=1))


@dataclass(frozen=True, slots=True)
class Layout:
    """Records laid out and traced together; row r of record i is row i * rows_per_record + r."""

    plans: tuple[Plan, ...]
    past: _Past | None
    traced: Trace
    packing: Packing
    below: Tensor  # [T, d_model]: the traced input of the first layer that a step runs, real tokens only
    reads: Reads
    keys: Tensor  # [records, rows_per_record, d_in]: W's input at the edit's token
    outputs: Tensor  # [records, rows_per_record, d_model]: W's output there

    @property
    def rows_per_record(self) -> int:
        return len(self.plans[0].rows)

    @property
    def firsts(self) -> Tensor:
        """The edit's token of each row, counted through the real tokens, [rows]."""
        rows = torch.arange(self.packing.rows, device=self.below.device)
        return self.packing.source[rows * self.packing.width]

    @property
    def states(self) -> Tensor:
        """The input of the first layer that a step runs, there: [records, rows_per_record, d_model]."""
        return self.below[self.firsts].view(len(self.plans), self.rows_per_record, -1)


def encode_at(lm: LanguageModel, token: str, prompt: str, subject: str, context: str = "") -> tuple[Ids, int]:
    """Return the tokens of a context and a prompt with its subject, and the index of the one that `token` names.

    token: a key of TOKENS. After a subject with which the prompt ends, the first token after it is its last one, as
    released. The last token is the prompt's own, never a filler or a target's.
    """
    ids, first, last = lm.subject_span(prompt, subject, context)
    end = len(ids) - 1
    at = {"subject_first": first, "subject_last": last, "subject_first_after_last": min(last + 1, end), "last": end}
    return ids, at[token]


def in_batches(lm: LanguageModel, plans: Sequence[Plan], products: str) -> list[list[Plan]]:
    """Return plans in batches of like width, as few as the budget allows and of costs as even as that leaves them.

    `products` is the number format of the products. A batch of what is left over would take more time for each of its
    few records than the others do.
    """
    ordered = sorted(plans, key=lambda plan: (plan.width, plan.index))
    budget = token_budget(lm, SHARE_OF_BUDGET[products], len(lm.layers))
    fewest = _cut(ordered, budget)
    even = min(budget, sum(plan.cost for plan in plans) / max(len(fewest), 1))
    limits = (even + (budget - even) * i / EVEN_TRIES for i in range(EVEN_TRIES))
    evener = (parts for parts in (_cut(ordered, limit) for limit in limits) if len(parts) == len(fewest))
    return next(evener, fewest)


def _cut(plans: Sequence[Plan], limit: float) -> list[list[Plan]]:
    """Return plans, in order, in parts that cost up to `limit`; a plan that costs more is a part by itself."""
    parts: list[list[Plan]] = []
    left = 0.0
    for plan in plans:
        if plan.cost > left:
            parts.append([])
            left = limit
        parts[-1].append(plan)
        left -= plan.cost
    return parts


def lay_out(lm: LanguageModel, layer: int, start: int, plans: tuple[Plan, ...]) -> Layout:
    """Return records laid out: what comes before the edits' tokens is kept, what comes from there on is traced.

    `layer` is the edited one, `start` the first that a step runs.
    """
    return _trace_rest(lm, layer, start, plans, _remember_past(lm, plans))


def keep(lm: LanguageModel, layer: int, layout: Layout, records: Sequence[int]) -> Layout:
    """Return the layout of some of its records, by place; do not use the old one afterwards."""
    each = layout.rows_per_record
    rows = torch.tensor([record * each + row for record in records for row in range(each)], device=lm.device)
    past = layout.past.select(rows) if layout.past else None
    return _trace_rest(lm, layer, layout.traced.start, tuple(layout.plans[i] for i in records), past)


def _remember_past(lm: LanguageModel, plans: Sequence[Plan]) -> _Past | None:
    """Return the keys and values before the edits' tokens, or None if there is no token before.

    What a row begins with in every record, which is its context, is run once for all of them.
    """
    texts = [[row.past for row in plan.rows] for plan in plans]
    shared = [_common_start(row) for row in zip(*texts, strict=True)]
    own = [text[len(start) :] for record in texts for start, text in zip(shared, record, strict=True)]
    room = max(map(len, shared)) + max(map(len, own)) + max(plan.width for plan in plans)
    nothing = torch.zeros(len(shared), 0, dtype=torch.bool, device=lm.device)
    past = _Past(Past(len(lm.layers), room), nothing).extended(lm, shared)
    past = past.select(torch.arange(len(shared), device=lm.device).repeat(len(plans))).extended(lm, own)
    return past if past.layers.length else None


def _common_start(texts: Sequence[Ids]) -> Ids:
    columns = takewhile(lambda tokens: len(set(tokens)) == 1, zip(*texts, strict=False))
    return tuple(tokens[0] for tokens in columns)


def _trace_rest(lm: LanguageModel, layer: int, start: int, plans: tuple[Plan, ...], past: _Past | None) -> Layout:
    """Return the layout of records run up to the edited layer, and no further."""
    rows = [row for plan in plans for row in plan.rows]
    ids, real = pad([row.rest for row in rows], lm)
    steps = torch.arange(ids.shape[1], device=lm.device)
    causal = torch.ones(len(steps), len(steps), dtype=torch.bool, device=lm.device).tril().expand(len(rows), -1, -1)
    batch = Batch(ids, steps.expand(len(rows), -1), None)
    if past is not None:
        visible = torch.cat((past.real[:, None, :].expand(-1, len(steps), -1), causal), dim=2)
        batch = Batch(ids, past.lengths[:, None] + steps, additive_mask(visible, lm.dtype))
    seen: dict[str, Tensor] = {}

    def look(inputs: Tensor, outputs: Tensor) -> Tensor:
        seen["keys"] = inputs.reshape(*ids.shape, -1)[:, 0]
        seen["outputs"] = outputs.reshape(*ids.shape, -1)[:, 0]
        return outputs

    with projection_output(lm, layer, look):
        traced = trace_below(lm, batch, start, layer + 1, past=past.layers if past else None)
    by_record = {name: value.reshape(len(plans), len(rows) // len(plans), -1) for name, value in seen.items()}
    packing = Packing.of(real)
    below = packing.pack(traced.below)
    return Layout(plans, past, traced, packing, below, _reads(lm, plans), by_record["keys"], by_record["outputs"])


def _add_first(hidden: Tensor, delta: Tensor) -> Tensor:
    """Return states [rows, width, d_model] plus `delta` [records, d_model] in the first column of a record's rows."""
    shift = delta.repeat_interleave(len(hidden) // len(delta), dim=0)[:, None].to(hidden.dtype)
    return torch.cat((hidden[:, :1] + shift, hidden[:, 1:]), dim=1)


def with_added(lm: LanguageModel, layer: int, layout: Layout, delta: Tensor) -> Tensor:
    """Return the finished states at the tokens that are read, [tokens, d_model].

    `delta` [records, d_model] is added to W's output at the edits' tokens.
    """
    traced, packing, at = layout.traced, layout.packing, layout.reads.tokens
    if traced.start > layer:
        moved = layout.below.index_add(0, layout.firsts, delta.repeat_interleave(layout.rows_per_record, dim=0))
        return replay_packed(lm, traced, packing, moved, at)

    def add(_: Tensor, outputs: Tensor) -> Tensor:
        return _add_first(outputs.reshape(packing.rows, packing.width, -1), delta).reshape(outputs.shape)

    with projection_output(lm, layer, add):
        return replay_packed(lm, traced, packing, layout.below, at)


def _reads(lm: LanguageModel, plans: Sequence[Plan]) -> Reads:
    """Return the tokens that losses read; a record's essence row has no targets and is read at its first token."""
    scored = len(plans[0].rows) - 1
    rows = [(record, row) for record, plan in enumerate(plans) for row in plan.rows]
    starts = [0, *accumulate(len(row.rest) for _, row in rows)]
    table = [
        (end - len(row.targets) + i, token, record, 1 / (scored * len(row.targets)))
        for end, (record, row) in zip(starts[1:], rows, strict=True)
        for i, token in enumerate(row.targets)
    ]
    tokens, *columns = zip(*table, strict=True)
    essence = (start for start, (_, row) in zip(starts, rows, strict=False) if not row.targets)
    return Reads(*(torch.tensor(column, device=lm.device) for column in ((*tokens, *essence), *columns)))
