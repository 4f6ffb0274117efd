"""MEMIT (Meng et al. 2023, arXiv 2210.07229): many facts by one update of each of several layers.

For each request z is found as ROME finds v*: the output of the top layer after which the model predicts the target. The
layers then change from the bottom up, each by its share of what is still missing: for keys K [d_in, N] of the model as
changed so far and residuals R [d_model, N], Delta = R K^T (l C + K K^T)^-1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cfbuild.data import Request
from cfbuild.edit.covariance import Covariance
from cfbuild.edit.editor import Context, Edit, EditorSpec
from cfbuild.edit.rome.layout import encode_at
from cfbuild.edit.rome.optimise import ValueOptimiser, edit_together
from cfbuild.edit.rome.options import RomeOptions, on_device
from cfbuild.errors import check_least, check_positive
from cfbuild.lm.batch import right_padded
from cfbuild.lm.batching import in_batches
from cfbuild.lm.delta import Change, Delta, LowRank, compact, overlay
from cfbuild.lm.forward import trace_below
from cfbuild.lm.fused import fused_layers
from cfbuild.lm.hooks import projection_output
from cfbuild.lm.model import Ids, LanguageModel, Weight
from cfbuild.progress import no_progress

Solve = Callable[[int, Tensor], Tensor]
"""A function from a layer and its keys [N, d_in] to directions [N, d_in]: Delta = R^T directions, for residuals R."""


@dataclass(frozen=True, slots=True)
class MemitOptions(RomeOptions):
    """ROME's hyperparameters, of which `key_mode` has no effect, and two of the update; the defaults are released.

    `layers` is the number of layers that share the change, of which `layer` is the top one. `covariance_weight` is l,
    by which C is multiplied.
    """

    clamp_norm_factor: float = 0.75
    layers: int = 5
    covariance_weight: float = 15_000.0

    def __post_init__(self) -> None:
        RomeOptions.__post_init__(self)
        check_least(self, layers=1)
        check_positive(self, "covariance_weight")

    @property
    def changed(self) -> tuple[int, ...]:
        """Return the layers that change, ascending; fewer than `layers` if the model has no more below."""
        return tuple(range(max(0, self.layer - self.layers + 1), self.layer + 1))


class Memit:
    """The editor: it answers all requests of a call by one change of several layers."""

    def __init__(
        self, lm: LanguageModel, options: MemitOptions, covariances: Mapping[int, Covariance | None] | None = None
    ) -> None:
        self.lm = lm
        self.options = options
        self.covariances = covariances or {}
        self._optimiser = ValueOptimiser(lm, options, of_layer=True)

    def edit(self, requests: Sequence[Request], done: Callable[[int], None] = no_progress) -> list[Edit]:
        """Return one edit for all requests; a request whose z is not finite has an edit of its own, with a fault."""
        return self.edit_by(self._solve, requests, done)

    def edit_by(
        self, solve: Solve, requests: Sequence[Request], done: Callable[[int], None] = no_progress
    ) -> list[Edit]:
        """Return what `edit` does, with the updates' directions from `solve` in place of MEMIT's."""
        faults = [covariance.fault for covariance in self.covariances.values() if covariance and covariance.fault]
        if faults:
            done(len(requests))
            return [Edit(tuple(range(len(requests))), None, fault=faults[0])]

        def delta_of(places: Sequence[int], outputs: Sequence[Tensor]) -> Delta:
            return self.spread([requests[place] for place in places], torch.stack([*outputs]), solve)

        return edit_together(self._optimiser, requests, done, lambda value: value.target_output, delta_of)

    def spread(self, requests: Sequence[Request], target_outputs: Tensor, solve: Solve | None = None) -> Delta:
        """Return the change that brings the top layer's output at each request's token towards its z.

        target_outputs: [N, d_model], z of each request. solve: returns the directions, by default MEMIT's.
        """
        solve = solve or self._solve
        texts = [self._texts(request) for request in requests]
        changes: dict[Weight, Change] = {}
        layers = self.options.changed
        for layers_left, layer in zip(range(len(layers), 0, -1), layers, strict=True):
            keys, outputs = self.keys_and_outputs(texts, layer, Delta(changes) if changes else None)
            residuals = (target_outputs - outputs) / layers_left
            changes[Weight(layer)] = compact(LowRank(solve(layer, keys), residuals))
        return Delta(changes)

    def _solve(self, layer: int, keys: Tensor) -> Tensor:
        return solved_with(keys, self.covariances.get(layer), self.options.covariance_weight)

    def keys_and_outputs(
        self, texts: Sequence[Sequence[Ids]], layer: int, delta: Delta | None
    ) -> tuple[Tensor, Tensor]:
        """Return the keys in `layer` and the top layer's outputs under the change `delta`: [N, d_in] and [N, d_model].

        texts: of each request the bare prompt and the prompt after each context, cut after the edit's token. A key is
        the mean of the bare prompt's key and the contexts' mean key; an output is the bare prompt's.
        """
        rows = [text for request in texts for text in request]
        with fused_layers(self.lm), torch.no_grad():
            found = in_batches(self.lm, rows, lambda batch: self._run(batch, layer, delta), len)
        per_request = len(texts[0])
        keys, outputs = (torch.stack(tensors).view(len(texts), per_request, -1) for tensors in zip(*found, strict=True))
        if per_request == 1:
            return keys[:, 0], outputs[:, 0]
        return (keys[:, 0] + keys[:, 1:].mean(dim=1)) / 2, outputs[:, 0]

    def _run(self, texts: Sequence[Ids], layer: int, delta: Delta | None) -> list[tuple[Tensor, Tensor]]:
        """Return (W's input in `layer` [d_in], the top layer's output [d_model]) at the last token of each text."""
        batch, real = right_padded(texts, self.lm)
        rows, last = torch.arange(len(texts), device=real.device), real.sum(dim=1) - 1
        seen: list[Tensor] = []

        def look(inputs: Tensor, outputs: Tensor) -> Tensor:
            seen.append(inputs.reshape(*real.shape, -1)[rows, last].float())
            return outputs

        above = self.options.layer + 1
        with overlay(self.lm, [delta] * len(texts)), projection_output(self.lm, layer, look):
            below = trace_below(self.lm, batch, above, above).below
        return list(zip(seen[0], below[rows, last].float(), strict=True))

    def _texts(self, request: Request) -> list[Ids]:
        """Return the tokens of a request's prompt, bare and after each context, up to the edit's token."""
        token, prompt, subject = self.options.token, request.prompt, request.subject
        found = (encode_at(self.lm, token, prompt, subject, context) for context in ("", *self.options.contexts))
        return [ids[: at + 1] for ids, at in found]


def solved_with(keys: Tensor, covariance: Covariance | None, weight: float) -> Tensor:
    """Return k^T (l C + K K^T)^-1 of every key k of `keys` [N, d_in], computed in float64, [N, d_in].

    weight: l. C is the identity without a covariance. If N is at most d_in, the solve is N x N (Woodbury's identity).
    """
    exact = keys.cpu().double()
    count, width = exact.shape
    if count > width:
        factor = covariance.factor if covariance is not None else None
        moment = torch.eye(width, dtype=torch.float64) if factor is None else factor @ factor.T
        directions: Tensor = torch.linalg.solve(weight * moment + exact.T @ exact, exact.T).T
    else:
        whitened = (covariance.whiten(exact) if covariance is not None else exact) / weight
        inner = exact @ whitened.T
        inner.diagonal().add_(1)
        directions = torch.linalg.solve(inner, whitened)
    return directions.to(keys.device, keys.dtype)


def _make(context: Context[MemitOptions]) -> Memit:
    options = on_device(replace(context.options, contexts=context.contexts("memit")), context.lm.device)
    return Memit(context.lm, options, context.covariances(options.changed))


MEMIT = EditorSpec(MemitOptions, _make, needs=frozenset({"contexts", "covariance"}), together=True)
