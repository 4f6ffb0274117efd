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
    """Return what the effects of each fact are by kind to first order, [tokens, layers].

    The corrupted run was captured with a gradient. The effect of a window is the sum over its layers.
    """
    device, facts = runs.lm.device, [fact for fact in range(len(runs.prompts)) for _ in range(runs.rows)]
    heard = {kind: _heard(runs.corrupted, kind) for kind in settings.maps}
    with torch.enable_grad():
        total = runs.metric.differentiable(runs.lm, runs.corrupted.ends, facts)
        gradients = iter(torch.autograd.grad(total, [one for some in heard.values() for one in some]))
    width, clean_width = runs.corrupted.real.shape[1], runs.clean.real.shape[1]
    # The clean run holds these facts' prompts, so it is no narrower.
    row_ends = torch.tensor([runs.places[fact] + 1 for fact in facts], device=device) * clean_width
    at = (row_ends[:, None] - width + torch.arange(width, device=device)).flatten()
    found: list[dict[str, np.ndarray]] = [{} for _ in runs.prompts]
    for kind in settings.maps:
        products = torch.stack([*_products(heard[kind], _heard(runs.clean, kind), gradients, at)])
        by_fact = products.view(len(products), -1, runs.rows, width).mean(dim=2).cpu().double().numpy()
        for place, prompt in enumerate(runs.prompts):
            own = by_fact[:, place, -len(prompt.ids) :].T  # [tokens, layers]
            own[: prompt.first] = 0.0  # before the subject nothing is corrupted
            if kind != STATE:
                windows = settings.windows(own.shape[1])
                own = np.stack([own[:, window.start : window.stop].sum(axis=1) for window in windows], axis=1)
            found[place][kind] = own
    return found


def _heard(run: CapturedRun, kind: str) -> list[Tensor]:
    """Return what is restored in each layer, as the run has it."""
    return run.states[1:] if kind == STATE else run.outputs[PARTS[kind]]


def _products(
    corrupted: Sequence[Tensor], clean: Sequence[Tensor], gradients: Iterator[Tensor], at: Tensor
) -> Iterator[Tensor]:
    """Yield (clean - corrupted) times the gradient of each layer, [tokens]; at: the tokens' places in the clean run."""
    for before, whole in zip(corrupted, clean, strict=True):
        values, gradient = whole.reshape(-1, whole.shape[-1])[at].float(), next(gradients).float()
        yield ((values - before.detach().reshape(values.shape)) * gradient.reshape(values.shape)).sum(dim=-1)
