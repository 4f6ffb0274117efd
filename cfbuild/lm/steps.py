"""Steps of writing texts: each row's last token goes through the model, and the row's next token is picked.

A step starts thousands of small kernels, which on a GPU takes longer than to run them. So there a step is recorded, as
a CUDA graph over buffers of fixed sizes, and replayed.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from cfbuild.lm.batch import Batch, Past, additive_mask
from cfbuild.lm.forward import run
from cfbuild.lm.model import LanguageModel
from cfbuild.lm.notices import log_once
from cfbuild.lm.precision import widest
from cfbuild.lm.products import parts_for_head
from cfbuild.lm.windows import window_of

TOP_K = 5
"""The number of most likely tokens that are drawn from, as in the ROME paper's generations and context prefixes."""


class Step(Protocol):
    """A step of writing for rows of texts, whose earlier tokens it knows."""

    def __call__(self, tokens: Tensor, numbers: Tensor | None) -> Tensor:
        """Return the tokens that follow `tokens`, both [rows], as `pick` chooses them by `numbers`."""
        ...

    def keep(self, rows: Tensor) -> Step:
        """Return a step for these of its rows; this step must not be used afterwards."""
        ...

    @property
    def share_that_leaves(self) -> float:
        """Return the share of ended rows from which on it is worth copying the past of the others."""
        ...


def step_for(lm: LanguageModel, past: Past, real: Tensor) -> Step:
    """Return the fastest kind of step on a model's device for rows that were read.

    past: their keys and values. real: [rows, width], false for fillers.
    """
    # A recorded step cannot tell that a row has become too long for the model; `run` refuses it.
    fits = past.capacity <= lm.max_tokens
    if lm.device.type == "cuda" and fits and window_of(lm.model.config) is None:
        return RecordedStep(lm, past, real)
    return GrowingStep(lm, past, real)


def tokens_after(lm: LanguageModel, states: Tensor, numbers: Tensor | None) -> Tensor:
    """Return the tokens that follow finished states [rows, d_model], as `pick` chooses them by `numbers`: [rows]."""
    parts = parts_for_head(lm, states)
    of_parts = [None] * len(parts) if numbers is None else torch.split(numbers, [len(part) for part in parts])
    return torch.cat([pick(lm.logits(part), own) for part, own in zip(parts, of_parts, strict=True)])


def pick(logits: Tensor, numbers: Tensor | None) -> Tensor:
    """Return one of the TOP_K likeliest tokens of each row: [rows, vocabulary] -> [rows].

    numbers: [rows], in [0, 1); each is compared with the tokens' cumulated probabilities. None takes the likeliest.
    """
    if numbers is None:
        return logits.argmax(dim=-1)
    top = logits.topk(TOP_K, dim=-1)
    reached = top.values.to(numbers.dtype).softmax(dim=-1).cumsum(dim=-1)  # [rows, TOP_K]
    place = (reached < numbers[:, None]).sum(dim=-1)
    return top.indices.gather(1, place.clamp_max(TOP_K - 1)[:, None])[:, 0]


class GrowingStep:
    """A step over keys and values that grow by a token: it reads as many as there are."""

    share_that_leaves = 1 / 8

    def __init__(self, lm: LanguageModel, past: Past, real: Tensor) -> None:
        self._lm, self._past, self._real = lm, past, real

    def __call__(self, tokens: Tensor, numbers: Tensor | None) -> Tensor:
        self._real = torch.cat((self._real, torch.ones_like(self._real[:, :1])), dim=1)
        positions = self._real.sum(dim=1)[:, None] - 1
        batch = Batch(tokens[:, None], positions, additive_mask(self._real[:, None, :], self._lm.dtype))
        hidden = run(self._lm, batch, past=self._past)[:, -1]
        self._past.length += 1
        return tokens_after(self._lm, hidden, numbers)

    def keep(self, rows: Tensor) -> GrowingStep:
        """Return a step for these of its rows."""
        self._past.select(rows)
        return GrowingStep(self._lm, self._past, self._real[rows])


class _FixedPast:
    """A past of fixed size: the buffers in full, zero behind the last token. The next token's go to column `at` [1]."""

    is_compileable = False

    def __init__(self, past: Past, device: torch.device) -> None:
        self._past = past
        self.at = torch.tensor([past.length], device=device)
        past.clear_unused()

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Return all keys and values of a layer, [rows, heads, capacity, d_head], the next token's included."""
        buffers = self._past.buffers(layer_idx)
        for buffer, new in zip(buffers, (keys, values), strict=True):
            buffer.index_copy_(2, self.at, new.to(buffer.dtype))
        return buffers[0].to(keys.dtype), buffers[1].to(values.dtype)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return the number of tokens of the past before the first step."""
        return self._past.length


class RecordedStep:
    """A step over tensors at fixed addresses: run once, then recorded, then replayed.

    If it cannot be recorded it is run each time, and that is logged.
    """

    share_that_leaves = 1 / 2

    def __init__(self, lm: LanguageModel, past: Past, real: Tensor) -> None:
        self._lm, self._past, self._fixed = lm, past, _FixedPast(past, real.device)
        rows, width = real.shape
        visible = torch.zeros(rows, 1, past.capacity, dtype=torch.bool, device=lm.device)
        visible[:, 0, :width] = real
        self._mask = additive_mask(visible, lm.dtype)
        self._positions = real.sum(dim=1)[:, None]
        self._tokens = torch.zeros(rows, dtype=torch.long, device=lm.device)
        self._numbers = torch.zeros(rows, dtype=widest(lm.device), device=lm.device)
        self._next = self._tokens
        self._real, self._runs = real, 0
        self._graph: Any = None

    def __call__(self, tokens: Tensor, numbers: Tensor | None) -> Tensor:
        self._tokens.copy_(tokens)
        if numbers is not None:
            self._numbers.copy_(numbers)
        if self._runs == 1 and self._lm.device.type == "cuda":
            self._record(numbers is not None)
        if self._graph is None:
            self._run(numbers is not None)
        else:
            self._graph.replay()
        self._runs += 1
        return self._next.clone()

    def keep(self, rows: Tensor) -> RecordedStep:
        """Return a step for these of its rows."""
        self._graph = None
        written = torch.ones(len(self._real), self._runs, dtype=torch.bool, device=self._lm.device)
        self._past.length += self._runs
        self._past.select(rows)
        return RecordedStep(self._lm, self._past, torch.cat((self._real, written), dim=1)[rows])

    def _run(self, draws: bool) -> None:
        self._mask.index_fill_(3, self._fixed.at, 0)
        with self._lm.lock:
            output = self._lm.base(
                input_ids=self._tokens[:, None],
                position_ids=self._positions,
                attention_mask=self._mask,
                use_cache=True,
                **{self._lm.past_argument: self._fixed},
            )
        logits = self._lm.logits(output.last_hidden_state[:, -1])
        self._next = pick(logits, self._numbers if draws else None)
        self._positions.add_(1)
        self._fixed.at.add_(1)

    def _record(self, draws: bool) -> None:
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self._run(draws)
        except RuntimeError as error:
            log_once(f"{self._lm.name}: steps of writing are not recorded, which is slower: {error}")
            return
        self._graph = graph
