"""Edits as values: what they are, how many of them act on one batch, how one is applied to the weights and undone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from cfbuild.data import Measured
from cfbuild.lm.hooks import projection_output
from cfbuild.lm.model import LanguageModel


@dataclass(frozen=True, slots=True, eq=False)
class Delta:
    """A change of one layer's W: W' x = W x + sum over r of values[r] (keys[r] . x).

    keys: [rank, d_in], values: [rank, d_out], both float32. A dense change has no keys: values [d_in, d_out] are then
    the change itself, transposed.
    """

    layer: int
    keys: Tensor | None
    values: Tensor

    @property
    def norm(self) -> float:
        """The Frobenius norm of the change."""
        if self.keys is None:
            return float(self.values.norm())
        grams = (self.keys @ self.keys.T) * (self.values @ self.values.T)
        return float(grams.sum().clamp_min(0).sqrt())

    def matrix(self) -> Tensor:
        """The change as a matrix [d_out, d_in]."""
        return self.values.T if self.keys is None else self.values.T @ self.keys


@dataclass(frozen=True, slots=True, eq=False)
class Edit:
    """What an editor returns for one record: the change and what it measured, or no change and the reason."""

    delta: Delta | None
    statistics: Measured
    fault: str | None = None


def overlay(lm: LanguageModel, deltas: Sequence[Delta]) -> AbstractContextManager[None]:
    """While open, row i of every batch is computed as if `deltas[i]` were added to the weights; no weight changes.

    All deltas are of one layer and of one rank. Rows are independent: each sees its own edit only.
    """
    if any(delta.keys is None for delta in deltas):
        return _overlay_dense(lm, deltas)
    keys = torch.stack([delta.keys for delta in deltas if delta.keys is not None])
    keys = keys.to(lm.device, lm.dtype)  # [batch, rank, d_in]
    values = torch.stack([delta.values for delta in deltas]).to(lm.device, lm.dtype)  # [batch, rank, d_out]

    def change(inputs: Tensor, outputs: Tensor) -> Tensor:
        shape = outputs.shape  # one family flattens batch and width before its MLP
        rows = inputs.reshape(len(deltas), -1, inputs.shape[-1])
        added = torch.bmm(torch.bmm(rows, keys.transpose(1, 2)), values)  # [batch, width, d_out]
        return outputs + added.reshape(shape)

    return projection_output(lm, deltas[0].layer, change)


def _overlay_dense(lm: LanguageModel, deltas: Sequence[Delta]) -> AbstractContextManager[None]:
    """`overlay` of dense changes: rows that have the same one are multiplied together, so each is held once."""
    changes = {id(delta): delta.matrix().T.to(lm.device, lm.dtype) for delta in deltas}  # each [d_in, d_out]
    rows_of = {key: [row for row, delta in enumerate(deltas) if id(delta) == key] for key in changes}

    def change(inputs: Tensor, outputs: Tensor) -> Tensor:
        rows = inputs.reshape(len(deltas), -1, inputs.shape[-1])
        added = outputs.new_empty(*rows.shape[:2], outputs.shape[-1])
        for key, some in rows_of.items():
            added[some] = rows[some] @ changes[key]
        return outputs + added.reshape(outputs.shape)

    return projection_output(lm, deltas[0].layer, change)


@contextmanager
def applied(lm: LanguageModel, delta: Delta) -> Iterator[None]:
    """While open, the weights hold the edit; afterwards they are the same bits as before, whatever happened."""
    weight = lm.projection(delta.layer).weight
    assert isinstance(weight, Tensor)
    original = weight.detach().clone()
    matrix = delta.matrix()
    try:
        with torch.no_grad():
            weight += (matrix.T if lm.family.projection_is_transposed else matrix).to(weight.device, weight.dtype)
        yield
    finally:
        with torch.no_grad():
            weight.copy_(original)
