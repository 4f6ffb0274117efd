"""Rows of tokens as tensors: padded batches, packed real tokens, masks, and the keys and values of a past."""

from __future__ import annotations

from collections.abc import Container, Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from cfbuild.lm.model import Ids, LanguageModel


@dataclass(frozen=True, slots=True)
class Batch:
    """Padded rows. ids, positions: [batch, width]; mask: additive [batch, 1, width, past + width], or None for causal.

    None is right only where fillers follow the tokens, which causal attention never sees.
    """

    ids: Tensor
    positions: Tensor
    mask: Tensor | None


@dataclass(frozen=True, eq=False)
class Packing:
    """The T real tokens of padded rows, which are all that is computed.

    real: [T], the place of each in the flattened rows, ascending. source: [rows * width], which of the T is at each
    place; a filler has a token of its row. mask: [rows, width], false for fillers. Where rows begin alike, a token may
    be in several of them. derived: tensors that layers compute from the packing and share during a pass.

    Example: the rows (a b) and (c, filler) have real (0, 1, 2) and source (0, 1, 2, 2).
    """

    rows: int
    width: int
    real: Tensor
    source: Tensor
    mask: Tensor
    derived: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    @staticmethod
    def of(mask: Tensor) -> Packing:
        """Return the packing in which no token is in several rows; mask: [rows, width], false for fillers."""
        rows, width = mask.shape
        real = mask.flatten().nonzero().flatten()
        last = mask.cumsum(dim=1).clamp_min_(1)  # a row's first token fills the places of fillers before it
        before = mask.sum(dim=1).cumsum(dim=0) - mask.sum(dim=1)
        source = (before[:, None] + last - 1).clamp_max_(len(real) - 1).flatten()
        return Packing(rows, width, real, source, mask)

    @staticmethod
    def full(rows: int, width: int, device: torch.device) -> Packing:
        """Return the packing of rows without fillers."""
        return Packing.of(torch.ones(rows, width, dtype=torch.bool, device=device))

    @property
    def is_full(self) -> bool:
        """Return whether there are no fillers and no shared tokens, so that packed and padded tokens are the same."""
        return len(self.real) == self.rows * self.width

    @cached_property
    def is_shared(self) -> bool:
        """Return whether a token is in several rows."""
        return len(self.real) < int(self.mask.sum())

    def pack(self, padded: Tensor) -> Tensor:
        """Return the T tokens' vectors of padded rows: [rows, width, ...] -> [T, ...]."""
        flat = padded.flatten(0, 1)
        return flat if self.is_full else flat.index_select(0, self.real)

    def spread(self, packed: Tensor) -> Tensor:
        """Return the padded rows of packed vectors, fillers zero: [T, ...] -> [rows, width, ...]."""
        shape = self.rows, self.width, *packed.shape[1:]
        if self.is_full:
            return packed.reshape(shape)
        fillers = ~self.mask.view(self.rows, self.width, *(1 for _ in packed.shape[1:]))
        return packed.index_select(0, self.source).view(shape).masked_fill_(fillers, 0)


@dataclass(frozen=True, slots=True)
class FixedOutputs:
    """Outputs that a part of a layer has at packed tokens `at` [n], instead of what it would compute.

    part: the role of the matrix that writes them, `mlp_out` or `attention_out`. values: [n, d_out].
    """

    part: str
    at: Tensor
    values: Tensor


class Past:
    """The keys and values of earlier tokens, in buffers for `capacity` tokens that are made when first used.

    A pass puts those of its own tokens behind the first `length`, over those of the pass before: so a past serves every
    step of an optimisation, and grows only where its owner raises `length`. transformers calls `update` and
    `get_seq_length`, and reads `is_compileable`.
    """

    is_compileable = False

    def __init__(self, depth: int, capacity: int, keys_across: Container[int] = ()) -> None:
        """Make an empty past of a model with `depth` layers.

        keys_across: layers in which the tokens' numbers at one place of their keys lie side by side in memory. A few
        queries are multiplied with them in 0.6 of the time, but torch's own attention takes up to three times as long.
        """
        self.capacity = capacity
        self.length = 0
        self._keys_across = keys_across
        self._layers: list[tuple[Tensor, Tensor] | None] = [None] * depth  # each [batch, heads, capacity, d_head]

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Return the keys and values that a layer sees: the past's, then its own [batch, heads, width, d_head]."""
        buffers = self._layers[layer_idx]
        if buffers is None:
            buffers = self._layers[layer_idx] = (
                self._buffer(keys, layer_idx in self._keys_across),
                self._buffer(values, False),
            )
        return self._join(buffers[0], keys), self._join(buffers[1], values)

    def _buffer(self, first: Tensor, across: bool) -> Tensor:
        """Return an empty buffer for tokens like the first [batch, heads, width, d_head]."""
        batch, heads, _, size = first.shape
        if across:
            return first.new_empty(batch, heads, size, self.capacity).transpose(2, 3)
        return first.new_empty(batch, heads, self.capacity, size)

    def _join(self, buffer: Tensor, new: Tensor) -> Tensor:
        if new.requires_grad:  # autograd follows what is joined, not what is overwritten
            return torch.cat((buffer[:, :, : self.length].to(new.dtype), new), dim=2)
        end = self.length + new.shape[2]
        buffer[:, :, self.length : end] = new
        return buffer[:, :, :end].to(new.dtype)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return the number of tokens that the past holds."""
        return self.length

    def buffers(self, layer_idx: int) -> tuple[Tensor, Tensor]:
        """Return the buffers of a layer's keys and values, [batch, heads, capacity, d_head] each."""
        buffers = self._layers[layer_idx]
        assert buffers is not None, "the layer has been run"
        return buffers

    def clear_unused(self) -> None:
        """Make all numbers behind the first `length` tokens zero."""
        for buffers in self._layers:
            for buffer in buffers or ():
                buffer[:, :, self.length :] = 0

    def select(self, rows: Tensor) -> None:
        """Keep the past of `rows` only, layer by layer, so that old and new never exist together.

        The first rows in their order, as where the texts with the longest prompts have ended, are not copied.
        """
        are_first = torch.equal(rows, torch.arange(len(rows), device=rows.device))
        kept = slice(len(rows)) if are_first else rows
        for index, buffers in enumerate(self._layers):
            self._layers[index] = buffers and (buffers[0][kept], buffers[1][kept])


class SharedPast(Past):
    """The keys and values of finished rows for many other rows, each of which differs from one from some token on.

    finished: the past of the finished rows, which end in its last column. rows: [batch], the finished row of each row.
    own: [batch, width], true where a row's own token replaces the finished one in the last `width` columns. Nothing is
    kept: rows are copied a layer at a time, while it reads them.
    """

    def __init__(self, finished: Past, rows: Tensor, own: Tensor) -> None:
        super().__init__(0, finished.length)
        self.length = finished.length - own.shape[1]
        self._finished, self._rows = finished, rows
        self._own = own[:, None, :, None]

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Return the keys and values that a layer sees: a finished row's, with the row's own in their places."""
        finished = self._finished.buffers(layer_idx)
        return self._replace(finished[0], keys), self._replace(finished[1], values)

    def _replace(self, finished: Tensor, new: Tensor) -> Tensor:
        joined = finished[self._rows].to(new.dtype)
        last = joined[:, :, self.length :]
        last.copy_(torch.where(self._own, new, last))
        return joined


def additive_mask(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the mask that attention adds: 0 where a token is visible, else the lowest number of `dtype`.

    Boolean [batch, width, past + width] -> [batch, 1, width, past + width].
    """
    mask = torch.zeros(visible.shape, dtype=dtype, device=visible.device)
    return mask.masked_fill_(~visible, torch.finfo(dtype).min).unsqueeze(1)


def pad(rows: Sequence[Ids], lm: LanguageModel, *, left: bool = False) -> tuple[Tensor, Tensor]:
    """Return rows of ids as a tensor and its mask, which is false for fillers, both [batch, width].

    The filler is token 0, behind a row's tokens or, with `left`, in front of them.
    """
    width = max(map(len, rows))
    fillers = [(0,) * (width - len(row)) for row in rows]
    filled = [filler + row if left else row + filler for filler, row in zip(fillers, rows, strict=True)]
    lengths = torch.tensor([len(row) for row in rows], device=lm.device)
    columns = torch.arange(width, device=lm.device)
    real = columns >= width - lengths[:, None] if left else columns < lengths[:, None]
    return torch.tensor(filled, device=lm.device), real


def left_padded(rows: Sequence[Ids], lm: LanguageModel, before: Tensor | None = None) -> tuple[Batch, Tensor]:
    """Return rows as a batch in which all end in the last column, and the mask that `pad` returns.

    before: [batch, past], the mask of a past that the rows continue.
    """
    ids, real = pad(rows, lm, left=True)
    width = ids.shape[1]
    earlier = real[:, :0] if before is None else before
    starts = width - real.sum(dim=1) - earlier.sum(dim=1)
    positions = (torch.arange(width, device=lm.device) - starts[:, None]).clamp_min(0)
    causal = torch.ones(width, width, dtype=torch.bool, device=lm.device).tril()
    # A filler sees itself, so that no row of attention is empty.
    visible = (causal & real[:, None, :]) | torch.eye(width, dtype=torch.bool, device=lm.device)
    whole = torch.cat((earlier[:, None, :].expand(-1, width, -1), visible), dim=2)
    return Batch(ids, positions, additive_mask(whole, lm.dtype)), real


def right_padded(rows: Sequence[Ids], lm: LanguageModel) -> tuple[Batch, Tensor]:
    """Return rows as a batch in which all begin in the first column, and the mask of their real tokens [batch, width].

    No attention mask is needed, because fillers come after a row's tokens.
    """
    ids, real = pad(rows, lm)
    return Batch(ids, torch.arange(ids.shape[1], device=lm.device).expand_as(ids), None), real
