"""Attributed traces: all indirect effects of a fact from one backward pass (attribution patching).

To first order, restoring a state changes the metric by (clean - corrupted) times its gradient in the corrupted run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from cfbuild.probe.captured import CapturedRun
from cfbuild.probe.restored import PARTS, BothRuns
from cfbuild.probe.settings import STATE, TraceSettings


def attributed_effects(runs: BothRuns, settings: TraceSettings) -> list[dict[str, np.ndarray]]:
    """Return the effects of each fact to first order by kind, [tokens, layers].

    runs: with a corrupted run that was captured with a gradient. The effect of a window is the sum over its layers.
    """
    device, facts = runs.lm.device, [fact for fact in range(len(runs.prompts)) for _ in range(runs.rows)]
    corrupted = {kind: _by_layer(runs.corrupted, kind) for kind in settings.maps}
    with torch.enable_grad():
        total = runs.metric.differentiable(runs.lm, runs.corrupted.ends, facts)
        restored = [tensor for by_layer in corrupted.values() for tensor in by_layer]
        gradients = iter(torch.autograd.grad(total, restored))
    width, clean_width = runs.corrupted.real.shape[1], runs.clean.real.shape[1]
    # The clean run holds these facts' prompts, so it is no narrower.
    row_ends = torch.tensor([runs.places[fact] + 1 for fact in facts], device=device) * clean_width
    at = (row_ends[:, None] - width + torch.arange(width, device=device)).flatten()
    effects: list[dict[str, np.ndarray]] = [{} for _ in runs.prompts]
    for kind in settings.maps:
        products = torch.stack([*_products(corrupted[kind], _by_layer(runs.clean, kind), gradients, at)])
        by_fact = products.view(len(products), -1, runs.rows, width).mean(dim=2).cpu().double().numpy()
        for place, prompt in enumerate(runs.prompts):
            of_fact = by_fact[:, place, -len(prompt.ids) :].T  # [tokens, layers]
            of_fact[: prompt.first] = 0.0  # nothing is corrupted before the subject
            if kind != STATE:
                windows = settings.windows(of_fact.shape[1])
                of_fact = np.stack([of_fact[:, window.start : window.stop].sum(axis=1) for window in windows], axis=1)
            effects[place][kind] = of_fact
    return effects


def _by_layer(run: CapturedRun, kind: str) -> list[Tensor]:
    """Return what the run has in each layer of the kind that is restored."""
    return run.states[1:] if kind == STATE else run.outputs[PARTS[kind]]


def _products(
    corrupted: Sequence[Tensor], clean: Sequence[Tensor], gradients: Iterator[Tensor], at: Tensor
) -> Iterator[Tensor]:
    """Yield (clean - corrupted) times the gradient of each layer, [tokens]; at: the tokens' index in the clean run."""
    for corrupted_layer, clean_layer in zip(corrupted, clean, strict=True):
        values, gradient = clean_layer.reshape(-1, clean_layer.shape[-1])[at].float(), next(gradients).float()
        difference = values - corrupted_layer.detach().reshape(values.shape)
        yield (difference * gradient.reshape(values.shape)).sum(dim=-1)
