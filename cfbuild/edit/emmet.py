"""EMMET (Gupta et al. 2024, arXiv 2403.14236): many facts by one update of one layer, each written exactly.

ROME's equation with a key a request: for keys K, target outputs V* and C the second moment of keys in general,
Delta = (V* - W K) D^-1 K^T (l C)^-1 with D = K^T (l C)^-1 K. For one request it is ROME's update.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cfbuild.data import Request
from cfbuild.edit.covariance import Covariance
from cfbuild.edit.editor import Context, Edit, EditorSpec
from cfbuild.edit.rome.optimise import TargetValue, ValueOptimiser, edit_together
from cfbuild.edit.rome.options import RomeOptions, on_device
from cfbuild.lm.delta import Delta, LowRank
from cfbuild.lm.model import LanguageModel
from cfbuild.progress import no_progress


@dataclass(frozen=True, slots=True)
class EmmetOptions(RomeOptions):
    """ROME's hyperparameters, of which `key_mode` has no effect, and two of the update; the defaults are released.

    `covariance_weight` is l, by which C is multiplied. `ridge` is added to D's diagonal if there are several requests.
    """

    covariance_weight: float = 1000.0
    ridge: float = 0.1


class Emmet:
    """The editor: it answers all requests of a call by one low-rank change of one layer."""

    def __init__(self, lm: LanguageModel, options: EmmetOptions, covariance: Covariance | None = None) -> None:
        self.lm = lm
        self.options = options
        self.covariance = covariance

    def edit(self, requests: Sequence[Request], done: Callable[[int], None] = no_progress) -> list[Edit]:
        """Return one edit for all requests; a request whose v* is not finite has an edit of its own, with a fault."""
        if self.covariance is not None and self.covariance.fault is not None:
            done(len(requests))
            return [Edit(tuple(range(len(requests))), None, fault=self.covariance.fault)]
        optimiser = ValueOptimiser(self.lm, self.options)
        return edit_together(optimiser, requests, done, _key_and_residual, lambda _, targets: self._delta(targets))

    def _delta(self, targets: Sequence[tuple[Tensor, Tensor]]) -> Delta:
        """Return the change that writes every target, a key [d_in] and a residual [d_model]."""
        keys, residuals = (torch.stack(rows) for rows in zip(*targets, strict=True))
        return Delta.of(self.options.layer, LowRank(self._directions(keys), residuals))

    def _directions(self, keys: Tensor) -> Tensor:
        """Return D^-1 K^T (l C)^-1 for keys [n, d_in], in float64 and back: [n, d_in]."""
        exact = keys.cpu().double()
        whitened = (self.covariance.whiten(exact) if self.covariance else exact) / self.options.covariance_weight
        overlaps = exact @ whitened.T
        if len(keys) > 1:
            overlaps.diagonal().add_(self.options.ridge)
        directions: Tensor = torch.linalg.solve(overlaps, whitened)
        return directions.to(keys.device, keys.dtype)


def _key_and_residual(value: TargetValue) -> tuple[Tensor, Tensor]:
    """Return k [d_in], the mean of the bare prompt's key and the contexts' mean key, and v* - W k [d_model]."""
    if len(value.keys) < 3:  # the bare prompt and the essence prompt, without contexts
        return value.keys[0], value.shift
    key = (value.keys[0] + value.keys[1:-1].mean(dim=0)) / 2
    output = (value.outputs[0] + value.outputs[1:-1].mean(dim=0)) / 2
    return key, value.target_output - output


def _make(context: Context[EmmetOptions]) -> Emmet:
    options = on_device(replace(context.options, contexts=context.contexts()), context.lm.device)
    return Emmet(context.lm, options, context.covariance(options.layer))


EMMET = EditorSpec(EmmetOptions, _make, needs=frozenset({"contexts", "covariance"}), together=True)
