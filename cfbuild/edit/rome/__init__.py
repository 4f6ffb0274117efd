"""ROME (Meng et al. 2022, arXiv 2202.05262): a rank-one update of one layer's W for each request.

`optimise.py` finds the output v* that W should have for the request's key; the update here makes it so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from cfbuild.data import Measured, Request
from cfbuild.edit.covariance import Covariance
from cfbuild.edit.editor import Context, Edit, EditorSpec, Need, failed_edit
from cfbuild.edit.rome.optimise import TargetValue, ValueOptimiser
from cfbuild.edit.rome.options import FAST_TAKES_EVERY, FastRomeOptions, RomeOptions, on_device
from cfbuild.lm.delta import Delta, LowRank
from cfbuild.lm.model import LanguageModel
from cfbuild.progress import no_progress

LEAST_COSINE = 1e-6
"""The cosine of u and k0 below which their product is float32's rounding error, by which the update would divide."""


class Rome:
    """The editor ROME."""

    def __init__(self, lm: LanguageModel, options: RomeOptions, covariance: Covariance | None = None) -> None:
        self.lm = lm
        self.options = options
        self.covariance = covariance
        self._optimiser = ValueOptimiser(lm, options)

    def edit(self, requests: Sequence[Request], done: Callable[[int], None] = no_progress) -> list[Edit]:
        """Return one edit for each request, in order; it has a fault if it is not finite, or the covariance's fault."""
        if self.covariance is not None and self.covariance.fault is not None:
            done(len(requests))
            return [Edit((place,), None, fault=self.covariance.fault) for place in range(len(requests))]
        found = dict(self._optimiser.values(requests, done))
        if not found:
            return []
        values = [found[place] for place in range(len(requests))]
        mean_keys = torch.stack([value.mean_key for value in values])
        # One solve for all: each solve reads the whole factor, and on an accelerator waits for its keys.
        directions = self.covariance.whiten(mean_keys) if self.covariance else mean_keys
        return [
            self._update(place, value, direction)
            for place, (value, direction) in enumerate(zip(values, directions, strict=True))
        ]

    def _update(self, place: int, value: TargetValue, direction: Tensor) -> Edit:
        """Return the edit of one request; direction: [d_in], its whitened key."""
        mean_key = value.mean_key
        direction = direction / direction.norm()
        key, output = mean_key, value.mean_output
        if self.options.key_mode == "reference":
            key, output = value.keys[0], value.outputs[0]
        overlap = direction @ key
        if abs(float(overlap)) < LEAST_COSINE * float(key.norm()):
            return failed_edit((place,), {"u_dot_key": float(overlap)}, "u . k0 is too near zero to divide by")
        delta = Delta.of(self.options.layer, LowRank(direction[None], ((value.target_output - output) / overlap)[None]))
        measured: Measured = {
            **value.statistics,
            "updates": int(value.statistics["updates"]),
            "u_dot_key": float(overlap),
            "value_norm": float(value.target_output.norm()),
            "delta_norm": delta.norm,
        }
        if not value.is_finite or not delta.is_finite():
            return failed_edit((place,), measured)
        return Edit((place,), delta, statistics=measured)


def _make(context: Context[Any], takes_every: int = 1) -> Rome:
    options = replace(context.options, contexts=context.contexts()[::takes_every])
    return Rome(context.lm, on_device(options, context.lm.device), context.covariance(options.layer))


NEEDS: frozenset[Need] = frozenset({"contexts", "covariance"})
ROME = EditorSpec(RomeOptions, _make, NEEDS)
ROME_FAST = EditorSpec(FastRomeOptions, partial(_make, takes_every=FAST_TAKES_EVERY), NEEDS)
