"""ROME (Meng et al. 2022): one rank-one update of one layer's W for each request.

`optimise.py` finds the value v* that W should write for the request's key; here the update is made that writes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from cfbuild.data import Measured, Request
from cfbuild.edit.covariance import Covariance
from cfbuild.edit.editor import Context, Edit, EditorSpec, unfinished
from cfbuild.edit.rome.optimise import TargetValue, ValueOptimiser
from cfbuild.edit.rome.options import FAST_TAKES_EVERY, FastRomeOptions, RomeOptions, on_device
from cfbuild.lm.delta import Delta, LowRank
from cfbuild.lm.model import LanguageModel
from cfbuild.progress import no_progress

LEAST_COSINE = 1e-6
"""Below this cosine of u and k0 their product is float32's rounding, and the update would be noise made large."""


class Rome:
    """The editor: `edit` turns requests into rank-one deltas of one layer and leaves the model as it is."""

    def __init__(self, lm: LanguageModel, options: RomeOptions, covariance: Covariance | None = None) -> None:
        self.lm = lm
        self.options = options
        self.covariance = covariance
        self._optimiser = ValueOptimiser(lm, options)

    def edit(self, requests: Sequence[Request], done: Callable[[int], None] = no_progress) -> list[Edit]:
        """Return one edit for each request, in order; `done` gets the number of optimised requests as they come.

        An edit that is not finite has a fault instead of a delta, and so has every edit if the covariance has a fault.
        """
        if self.covariance is not None and self.covariance.fault is not None:
            done(len(requests))
            return [Edit((place,), None, fault=self.covariance.fault) for place in range(len(requests))]
        found = dict(self._optimiser.values(requests, done))
        if not found:
            return []
        values = [found[place] for place in range(len(requests))]
        mean_keys = torch.stack([value.mean_key for value in values])
        # One solve for all: each by itself would read the whole factor, and on an accelerator wait for its key.
        directions = self.covariance.whiten(mean_keys) if self.covariance else mean_keys
        return [self._update(place, *both) for place, both in enumerate(zip(values, directions, strict=True))]

    def _update(self, place: int, value: TargetValue, direction: Tensor) -> Edit:
        """Return the rank-one update that writes one request's value; direction: [d_in], its whitened key."""
        mean_key = value.mean_key
        direction = direction / direction.norm()
        reference = self.options.key_mode == "reference"
        key, output = (value.keys[0], value.outputs[0]) if reference else (mean_key, value.mean_output)
        overlap = direction @ key
        if abs(float(overlap)) < LEAST_COSINE * float(key.norm()):
            return unfinished((place,), {"u_dot_key": float(overlap)}, "u . k0 is too near zero to divide by")
        delta = Delta.of(self.options.layer, LowRank(direction[None], ((value.wanted - output) / overlap)[None]))
        measured: Measured = {
            **value.statistics,
            "updates": int(value.statistics["updates"]),
            "u_dot_key": float(overlap),
            "value_norm": float(value.wanted.norm()),
            "delta_norm": delta.norm,
        }
        if not value.is_finite or not delta.is_finite():
            return unfinished((place,), measured)
        return Edit((place,), delta, statistics=measured)


def _make(context: Context[RomeOptions]) -> Rome:
    options = replace(context.options, contexts=context.contexts())
    return Rome(context.lm, on_device(options, context.lm.device), context.covariance(options.layer))


def _make_fast(context: Context[FastRomeOptions]) -> Rome:
    options = replace(context.options, contexts=context.contexts()[::FAST_TAKES_EVERY])
    return Rome(context.lm, on_device(options, context.lm.device), context.covariance(options.layer))


ROME = EditorSpec(RomeOptions, _make, needs=frozenset({"contexts", "covariance"}))
ROME_FAST = EditorSpec(FastRomeOptions, _make_fast, needs=frozenset({"contexts", "covariance"}))
