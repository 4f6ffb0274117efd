"""Records laid out so that a step of an optimisation runs as little of the model as it can.

Each text is cut at the edit's token, by default the subject's last one. The tokens before it run once, for their keys
and values. Those from it on run once up to the edited layer. A step runs them through the layers above, for many
records together.
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
"""The share of a scoring batch's tokens that fits a step, by number format: a step keeps activations for its backward
pass, and products in bfloat16 also copies of the weights."""
EVEN_TRIES = 8
"""The number of limits tried, from an even share up to the budget, to even out the costs of batches."""
PAST_WORTH_OF_A_TOKEN = 8
"""The number of earlier tokens whose keys and values take as much memory as one token's activations."""
LOGITS_IN_TOKENS = 1
"""The number of tokens whose activations take as much memory as one token's logits."""


@dataclass(frozen=True, slots=True)
class CutText:
    """A text cut at the edit's token: `past` before it, `rest` from it on; its last tokens should predict `targets`."""

    past: Ids
    rest: Ids
    targets: Ids


@dataclass(frozen=True, slots=True)
class Plan:
    """The rows of request `index`: the bare prompt, the prompt after each context, and last the essence prompt."""

    index: int
    rows: tuple[CutText, ...]

    @property
    def width(self) -> int:
        """Return the most tokens of a row from the edit's token on."""
        return max(len(row.rest) for row in self.rows)

    @property
    def cost(self) -> float:
        """Return the memory that the record takes in a step, in tokens' activations."""
        return sum(len(row.rest) + len(row.past) / PAST_WORTH_OF_A_TOKEN + LOGITS_IN_TOKENS for row in self.rows)


@dataclass(frozen=True, slots=True)
class Reads:
    """The tokens at which a batch's losses are read, by their index among the batch's real tokens.

    The first `len(targets)` of them should predict `targets`: token i belongs to the record `records[i]` and has the
    weight `shares[i]` in its mean. The others are those of the essence prompts, a record each.
    """

    tokens: Tensor
    targets: Tensor
    records: Tensor
    shares: Tensor


@dataclass(frozen=True, slots=True)
class _Past:
    """The keys and values of the tokens before the edits' tokens; real: [rows, past], True for tokens of the row."""

    layers: Past
    real: Tensor

    @property
    def lengths(self) -> Tensor:
        """Return the number of earlier tokens of each row, [rows]."""
        return self.real.sum(dim=1)

    def select(self, rows: Tensor) -> _Past:
        """Return the past of the rows [n], whose memory it takes over: do not use `self` afterwards."""
        self.layers.select(rows)
        return _Past(self.layers, self.real[rows])

    def extended(self, lm: LanguageModel, texts: Sequence[Ids]) -> _Past:
        """Return the past with a text, which may be empty, added to each row."""
        if not any(texts):
            return self
        batch, real = left_padded(texts, lm, self.real)
        with torch.no_grad():
            remember(lm, batch, real, self.layers)
        return _Past(self.layers, torch.cat((self.real, real), dim=1))


@dataclass(frozen=True, slots=True)
class Layout:
    """Records laid out together; row r of record i is row i * rows_per_record + r."""

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
        """Return the number of a record's rows."""
        return len(self.plans[0].rows)

    @property
    def firsts(self) -> Tensor:
        """Return the index of each row's edit token among the real tokens, [rows]."""
        rows = torch.arange(self.packing.rows, device=self.below.device)
        return self.packing.source[rows * self.packing.width]

    @property
    def states(self) -> Tensor:
        """Return the input at the edits' tokens of the first layer that a step runs, [records, rows_per_record, d]."""
        return self.below[self.firsts].view(len(self.plans), self.rows_per_record, -1)


def encode_at(lm: LanguageModel, token: str, prompt: str, subject: str, context: str = "") -> tuple[Ids, int]:
    """Return the tokens of a context and a prompt about a subject, and the index of the one that `token` names.

    token: a key of TOKENS. Where the prompt ends with the subject, the token after it is its last one, as released.
    """
    ids, first, last = lm.subject_span(prompt, subject, context)
    end = len(ids) - 1
    at = {"subject_first": first, "subject_last": last, "subject_first_after_last": min(last + 1, end), "last": end}
    return ids, at[token]


def even_batches(lm: LanguageModel, plans: Sequence[Plan], products: str) -> list[list[Plan]]:
    """Return plans in as few batches as the memory allows, each of like widths, and of about even costs.

    products: the number format of matrix products. Costs are evened out because a small last batch would be slow.
    """
    ordered = sorted(plans, key=lambda plan: (plan.width, plan.index))
    budget = token_budget(lm, SHARE_OF_BUDGET[products], len(lm.layers))
    fewest = _cut(ordered, budget)
    even = min(budget, sum(plan.cost for plan in plans) / max(len(fewest), 1))
    limits = (even + (budget - even) * i / EVEN_TRIES for i in range(EVEN_TRIES))
    as_few = (batches for batches in (_cut(ordered, limit) for limit in limits) if len(batches) == len(fewest))
    return next(as_few, fewest)


def _cut(plans: Sequence[Plan], limit: float) -> list[list[Plan]]:
    """Return plans, in order, in batches that cost up to `limit`; a plan that costs more is a batch by itself."""
    batches: list[list[Plan]] = []
    budget_left = 0.0
    for plan in plans:
        if plan.cost > budget_left:
            batches.append([])
            budget_left = limit
        batches[-1].append(plan)
        budget_left -= plan.cost
    return batches


def lay_out(lm: LanguageModel, layer: int, start: int, plans: tuple[Plan, ...]) -> Layout:
    """Return the layout of records for an edit of `layer` whose steps run the layers from `start` on."""
    return _trace_rest(lm, layer, start, plans, _remember_past(lm, plans))


def keep(lm: LanguageModel, layer: int, layout: Layout, records: Sequence[int]) -> Layout:
    """Return the layout of `records`, by index; it takes over the memory of `layout`, which must not be used again."""
    each = layout.rows_per_record
    rows = torch.tensor([record * each + row for record in records for row in range(each)], device=lm.device)
    past = layout.past.select(rows) if layout.past else None
    return _trace_rest(lm, layer, layout.traced.start, tuple(layout.plans[i] for i in records), past)


def _remember_past(lm: LanguageModel, plans: Sequence[Plan]) -> _Past | None:
    """Return the keys and values before the edits' tokens, or None if there is no token before them.

    What a row begins with in every record, which is its context, runs once for all of them.
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
    """Return the layout of records after a run, with `past`, up to the edited layer."""
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


def with_added(lm: LanguageModel, layer: int, layout: Layout, delta: Tensor) -> Tensor:
    """Return the finished states at the tokens that are read, [tokens, d_model], under a change of W's output.

    delta: [records, d_model], added to the output at the edits' tokens.
    """
    traced, packing, at = layout.traced, layout.packing, layout.reads.tokens
    if traced.start > layer:
        moved = layout.below.index_add(0, layout.firsts, delta.repeat_interleave(layout.rows_per_record, dim=0))
        return replay_packed(lm, traced, packing, moved, at)

    def add(_: Tensor, outputs: Tensor) -> Tensor:
        hidden = outputs.reshape(packing.rows, packing.width, -1)
        shift = delta.repeat_interleave(len(hidden) // len(delta), dim=0)[:, None].to(hidden.dtype)
        return torch.cat((hidden[:, :1] + shift, hidden[:, 1:]), dim=1).reshape(outputs.shape)

    with projection_output(lm, layer, add):
        return replay_packed(lm, traced, packing, layout.below, at)


def _reads(lm: LanguageModel, plans: Sequence[Plan]) -> Reads:
    """Return the tokens at which losses are read; an essence prompt has no targets and is read at its first token."""
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
