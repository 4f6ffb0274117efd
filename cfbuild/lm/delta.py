"""Changes of weights as values: laid over the rows of a batch, each row its own, or put into the weights for a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from cfbuild.lm.hooks import module_output
from cfbuild.lm.model import LanguageModel, Weight

MULTIPLIED_TOGETHER = 8
"""The highest rank at which the factors of a batch's rows are stacked and multiplied at once. Above it the copies would
take longer than the products, so each distinct change is multiplied with the rows that have it."""


@dataclass(frozen=True, slots=True, eq=False)
class LowRank:
    """A change of a weight by factors: W' x = W x + sum over r of values[r] (keys[r] . x).

    keys: [rank, d_in], values: [rank, d_out], both float32.
    """

    keys: Tensor
    values: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """Return (d_out, d_in) of the weight that is changed."""
        return self.values.shape[1], self.keys.shape[1]

    def matrix(self) -> Tensor:
        """Return the change as a matrix [d_out, d_in]."""
        return self.values.T @ self.keys

    def square_norm(self) -> float:
        """Return the square of the change's Frobenius norm."""
        grams = (self.keys @ self.keys.T) * (self.values @ self.values.T)
        return float(grams.sum().clamp_min(0))

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors of the change, by name."""
        return {"keys": self.keys, "values": self.values}


@dataclass(frozen=True, slots=True, eq=False)
class Dense:
    """A change of a weight, number by number: W' = W + change, and of its module's bias: b' = b + bias.

    change: [d_out, d_in], bias: [d_out] or None for no change of it, both float32.
    """

    change: Tensor
    bias: Tensor | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Return (d_out, d_in) of the weight that is changed."""
        return self.change.shape[0], self.change.shape[1]

    def matrix(self) -> Tensor:
        """Return the change as a matrix [d_out, d_in]."""
        return self.change

    def square_norm(self) -> float:
        """Return the square of the change's Frobenius norm, the bias's change included."""
        return sum(float(tensor.norm()) ** 2 for tensor in self.tensors().values())

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors of the change, by name."""
        return {"change": self.change} if self.bias is None else {"change": self.change, "bias": self.bias}


Change = LowRank | Dense


def compact(change: Change) -> Change:
    """Return a change by factors or number by number, whichever takes less memory."""
    d_out, d_in = change.shape
    if isinstance(change, LowRank) and len(change.keys) * (d_in + d_out) > d_in * d_out:
        return Dense(change.matrix())
    return change


@dataclass(frozen=True, eq=False)
class Delta:
    """A change of one or more weights. Raises ValueError if it changes none.

    Example: `Delta.of(5, LowRank(key[None], value[None]))` is ROME's update of layer 5, of rank 1.
    """

    changes: Mapping[Weight, Change]

    def __post_init__(self) -> None:
        if not self.changes:
            raise ValueError("a delta changes at least one weight; an edit that changes none has delta=None")

    @staticmethod
    def of(layer: int, change: Change, part: str = "mlp_out") -> Delta:
        """Return the delta that changes one weight, of the role `part` (`families.PARTS`)."""
        return Delta({Weight(layer, part): change})

    @property
    def only(self) -> Change:
        """Return the change of a delta that has just one. Raises ValueError if there are several."""
        (change,) = self.changes.values()
        return change

    @property
    def lowest(self) -> int:
        """Return the lowest changed layer: below it, the model computes what it does without the delta."""
        return min(weight.layer for weight in self.changes)

    @cached_property
    def norm(self) -> float:
        """Return the Frobenius norm of the changes of all weights together."""
        return float(sum(change.square_norm() for change in self.changes.values()) ** 0.5)

    def to(self, device: torch.device) -> Delta:
        """Return the same delta with its tensors on a device."""
        return Delta(
            {
                weight: type(change)(*(tensor.to(device) for tensor in change.tensors().values()))
                for weight, change in self.changes.items()
            }
        )

    def is_finite(self) -> bool:
        """Return whether every number of the changes is finite."""
        tensors = (tensor for change in self.changes.values() for tensor in change.tensors().values())
        return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)


def summed(deltas: Iterable[Delta]) -> Delta | None:
    """Return the sum of deltas, on the CPU; None for no delta.

    It is on the CPU so that its bits do not depend on the model's device, nor on interruptions.
    """
    total: dict[Weight, Change] = {}
    for delta in deltas:
        for weight, change in delta.to(torch.device("cpu")).changes.items():
            total[weight] = _plus(total[weight], change) if weight in total else compact(change)
    return Delta(total) if total else None


def _plus(left: Change, right: Change) -> Change:
    if isinstance(left, LowRank) and isinstance(right, LowRank):
        keys, values = (torch.cat(pair) for pair in ((left.keys, right.keys), (left.values, right.values)))
        return compact(LowRank(keys, values))
    biases = [change.bias for change in (left, right) if isinstance(change, Dense) and change.bias is not None]
    return Dense(left.matrix() + right.matrix(), torch.stack(biases).sum(dim=0) if biases else None)


@contextmanager
def overlay(lm: LanguageModel, deltas: Sequence[Delta | None]) -> Iterator[None]:
    """Compute row i of every batch, while open, as if `deltas[i]` (None: nothing) were added to the weights.

    No weight changes. Deltas may be of different weights, ranks and kinds: each distinct weight gets a hook.
    """
    weights = sorted({weight for delta in deltas if delta is not None for weight in delta.changes})
    with ExitStack() as hooks:
        for weight in weights:
            changes = [delta.changes.get(weight) if delta is not None else None for delta in deltas]
            hooks.enter_context(module_output(lm, weight, _RowChanges(lm, changes)))
        yield


class _RowChanges:
    """The function that adds the rows' changes of a weight, `changes[i]` (or None) for row i, to its output."""

    def __init__(self, lm: LanguageModel, changes: Sequence[Change | None]) -> None:
        self._rows = len(changes)
        ranks = [len(change.keys) for change in changes if isinstance(change, LowRank)]
        small = ranks and max(ranks) <= MULTIPLIED_TOGETHER
        stacked = [change if isinstance(change, LowRank) and small else None for change in changes]
        self._stacked = _stack(lm, stacked, max(ranks)) if small else None
        others = [change if kept is None else None for change, kept in zip(changes, stacked, strict=True)]
        self._distinct = _by_identity(lm, others)

    def __call__(self, inputs: Tensor, outputs: Tensor) -> Tensor:
        """Return the outputs with the changes' added; inputs are [rows, width, d_in] or flattened, outputs likewise."""
        rows = inputs.reshape(self._rows, -1, inputs.shape[-1])  # OPT flattens batch and width before its MLP
        added: Tensor | None = None
        if self._stacked is not None:
            keys, values = self._stacked
            added = torch.bmm(torch.bmm(rows, keys), values)  # [rows, width, d_out]
        for where, factors, bias in self._distinct:
            product = rows if where is None else rows[where]
            for factor in factors:
                product = product @ factor
            product = product if bias is None else product + bias
            if where is None:
                added = product
                continue
            added = outputs.new_zeros(*rows.shape[:2], outputs.shape[-1]) if added is None else added
            added[where] += product
        return outputs if added is None else outputs + added.reshape(outputs.shape)


def _stack(lm: LanguageModel, changes: Sequence[LowRank | None], rank: int) -> tuple[Tensor, Tensor]:
    """Return the factors of all rows as [rows, d_in, rank] and [rows, rank, d_out], with zeros where there are none."""
    d_out, d_in = next(change.shape for change in changes if change is not None)
    if all(change is not None and len(change.keys) == rank for change in changes):
        keys = torch.stack([change.keys for change in changes if change is not None])
        values = torch.stack([change.values for change in changes if change is not None])
    else:
        keys, values = (torch.zeros(len(changes), rank, width, device=lm.device) for width in (d_in, d_out))
        for row, change in enumerate(changes):
            if change is not None:
                keys[row, : len(change.keys)] = change.keys
                values[row, : len(change.values)] = change.values
    return keys.to(lm.device, lm.dtype).transpose(1, 2), values.to(lm.device, lm.dtype)


def _by_identity(
    lm: LanguageModel, changes: Sequence[Change | None]
) -> list[tuple[Tensor | None, tuple[Tensor, ...], Tensor | None]]:
    """Return each distinct change: the rows that have it (None for all), its factors in order, and its bias."""
    rows_of: dict[int, tuple[Change, list[int]]] = {}
    for row, change in enumerate(changes):
        if change is not None:
            rows_of.setdefault(id(change), (change, []))[1].append(row)
    return [
        (
            None if len(rows) == len(changes) else torch.tensor(rows, device=lm.device),
            _factors(lm, change),
            _bias(lm, change),
        )
        for change, rows in rows_of.values()
    ]


def _factors(lm: LanguageModel, change: Change) -> tuple[Tensor, ...]:
    """Return the matrices that a row is multiplied by, one after another: [d_in, ...], [..., d_out]."""
    if isinstance(change, Dense):
        return (change.change.T.to(lm.device, lm.dtype),)
    return change.keys.T.to(lm.device, lm.dtype), change.values.to(lm.device, lm.dtype)


def _bias(lm: LanguageModel, change: Change) -> Tensor | None:
    """Return the change of the bias, [d_out], or None."""
    bias = change.bias if isinstance(change, Dense) else None
    return None if bias is None else bias.to(lm.device, lm.dtype)


@contextmanager
def applied(lm: LanguageModel, delta: Delta) -> Iterator[None]:
    """Put the delta into the weights while open; afterwards, also after an exception, their bits are as before.

    Other threads that run the model wait.
    """
    kept: list[tuple[Tensor, Tensor]] = []
    with lm.lock:
        try:
            for weight, change in delta.changes.items():
                matrix = change.matrix().T if lm.is_transposed(weight) else change.matrix()
                _add(lm.weight(weight), matrix, kept)
                bias = _bias(lm, change)
                if bias is not None:
                    _add(lm.bias(weight), bias, kept)
            yield
        finally:
            with torch.no_grad():
                for tensor, original in reversed(kept):
                    tensor.copy_(original)


def _add(tensor: Tensor | None, change: Tensor, kept: list[tuple[Tensor, Tensor]]) -> None:
    """Add a change to a tensor of the model in place; `kept` gets the tensor and a copy of what it was."""
    assert tensor is not None, "a delta changes no bias that the model does not have"
    kept.append((tensor, tensor.detach().clone()))
    with torch.no_grad():
        tensor += change.to(tensor.device, tensor.dtype)
