"""The losses of ROME's objective, read from one pass of the output head."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cfbuild.edit.rome.layout import Layout
from cfbuild.lm.model import LanguageModel
from cfbuild.lm.products import ROWS_IN_CACHE


class HeadLosses(torch.autograd.Function):
    """The values that losses read from one pass of the output head, whose logits [n + m, vocabulary] are overwritten.

    The first n rows: -log p in nats of one token each, ids [n] -> [n]. The others: the divergence from `before`
    (log-probabilities [m, vocabulary]; None for their own) in nats, KL(now || before), [m]; and log-probabilities.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, ids: Tensor, before: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        count, norm = len(ids), torch.cat([some.logsumexp(dim=-1) for some in torch.split(logits, ROWS_IN_CACHE)])
        log_p = logits[count:] - norm[count:, None]
        change = torch.zeros_like(log_p) if before is None else log_p - before
        divergence = (log_p.exp() * change).sum(dim=-1)
        ctx.save_for_backward(logits, norm, ids, change, divergence)
        ctx.mark_non_differentiable(log_p)
        return norm[:count] - logits[:count].gather(1, ids[:, None])[:, 0], divergence, log_p

    @staticmethod
    def backward(ctx: Any, of_nll: Tensor, of_divergence: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
        logits, norm, ids, change, divergence = ctx.saved_tensors
        count = len(ids)
        # Nothing else reads them: what made the logits needs its inputs for its gradient, not its output.
        p = logits.detach().sub_(norm[:, None]).exp_()
        p[torch.arange(count, device=p.device), ids] -= 1
        p[:count].mul_(of_nll[:, None])
        p[count:].mul_(change.sub_(divergence[:, None])).mul_(of_divergence[:, None])
        return p, None, None


def losses(lm: LanguageModel, layout: Layout, states: Tensor, before: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return NLL [records], KL(now || before) [records] and essence log-probabilities [records, vocabulary], detached.

    states: finished, at `layout.reads.tokens`. The released code hands its two distributions to the divergence in this
    order; the other order gives other values.
    """
    reads = layout.reads
    token_nll, divergence, essence = HeadLosses.apply(lm.logits(states), reads.targets, before)  # type: ignore[no-untyped-call]
    nll = torch.zeros(len(layout.plans), device=states.device).index_add(0, reads.records, token_nll * reads.shares)
    return nll, divergence, essence
