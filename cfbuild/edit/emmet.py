"""EMMET (Gupta et al. 2024, arXiv 2403.14236): many facts by one update of one layer, each written exactly.

ROME's equation with a key a request: for keys K, wanted outputs V* and C the second moment of keys in general,
Delta = (V* - W K) D^-1 K^T (l C)^-1 with D = K^T (l C)^-1 K. For one request it is ROME's update.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cfbuild.data import Request
from cfbuild.edit.covariance import Covariance
from cfbuild.edit.editor import Context, Edit, EditorSpec, unfinished
from cfbuild.edit.rome.optimise import TargetValue, ValueOptimiser
from cfbuild.edit.rome.options import RomeOptions, on_device
from cfbuild.lm.delta import Delta, LowRank
from cfbuild.lm.model import LanguageModel
from cfbuild.progress import no_progress


@dataclass(frozen=True, slots=True)
class EmmetOptions(RomeOptions):
    """The value optimisation's hyperparameters, and two of the update.

    `covariance_weight` is l, by which C is multiplied, `ridge` what is added to D's diagonal where several facts are
    written at once (released: 1000 and 0.1). A key is the mean of the bare prompt's and of the contexts' mean, as
    MEMIT's; `key_mode` has no effect.
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
        """Return one edit for all requests; a request whose value is not finite has an edit of its own, with a fault.

        `done` gets the number of optimised requests as they come.
        """
        if self.covariance is not None and self.covariance.fault is not None:
            done(len(requests))
            return [Edit(tuple(range(len(requests))), None, fault=self.covariance.fault)]
        targets: dict[int, tuple[Tensor, Tensor]] = {}
        losses: list[float] = []
        failed: list[Edit] = []
        for place, value in ValueOptimiser(self.lm, self.options).values(requests, done):
            if value.is_finite:
                targets[place] = _key_and_residual(value)
                losses.append(value.statistics["loss"])
            else:
                failed.append(unfinished((place,), value.statistics))
        return [*self._together(targets, losses), *failed]

    def _together(self, targets: Mapping[int, tuple[Tensor, Tensor]], losses: Sequence[float]) -> list[Edit]:
        """Return the edit that writes every target, (key [d_in], residual [d_model]) by place; none for no target."""
        if not targets:
            return []
        places = tuple(sorted(targets))
        keys, residuals = (torch.stack(rows) for rows in zip(*(targets[place] for place in places), strict=True))
        delta = Delta.of(self.options.layer, LowRank(self._directions(keys), residuals))
        measured = {"together": len(places), "delta_norm": delta.norm, "mean_loss": sum(losses) / len(losses)}
        return [Edit(places, delta, statistics=measured)]

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
    """Return k [d_in] and v* - W k [d_model]: half of k is the bare prompt's, half the contexts' mean, as is W k."""
    if len(value.keys) < 3:  # no context but the essence prompt, which is no key
        return value.keys[0], value.shift
    key = (value.keys[0] + value.keys[1:-1].mean(dim=0)) / 2
    output = (value.outputs[0] + value.outputs[1:-1].mean(dim=0)) / 2
    return key, value.wanted - output


def _make(context: Context[EmmetOptions]) -> Emmet:
    options = on_device(replace(context.options, contexts=context.contexts()), context.lm.device)
    return Emmet(context.lm, options, context.covariance(options.layer))


EMMET = EditorSpec(EmmetOptions, _make, needs=frozenset({"contexts", "covariance"}), together=True)
