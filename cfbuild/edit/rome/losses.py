"""The losses of ROME's objective, from one pass of the output head."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cfbuild.edit.rome.layout import Layout
from cfbuild.lm.model import LanguageModel
from cfbuild.lm.products import ROWS_IN_CACHE


class HeadLosses(torch.autograd.Function):
    """A function of logits [n + m, vocabulary], which it overwrites, to (NLL [n], KL [m], log p [m, vocabulary]).

    The first n rows give the NLL in nats of the tokens `ids` [n], a token each. The others give KL(now || before) in
    nats, `before` being log-probabilities [m, vocabulary] or None for the rows' own, and their log-probabilities.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, ids: Tensor, before: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        count, norm = len(ids), torch.cat([rows.logsumexp(dim=-1) for rows in torch.split(logits, ROWS_IN_CACHE)])
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
        # The logits can be overwritten: the gradient of the layer that made them needs its inputs, not its output.
        p = logits.detach().sub_(norm[:, None]).exp_()
        p[torch.arange(count, device=p.device), ids] -= 1
        p[:count].mul_(of_nll[:, None])
        p[count:].mul_(change.sub_(divergence[:, None])).mul_(of_divergence[:, None])
        return p, None, None


def losses(lm: LanguageModel, layout: Layout, states: Tensor, before: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return NLL [records], KL(now || before) [records] and essence log-probabilities [records, vocabulary], detached.

    states: the finished ones at `layout.reads.tokens`. before: essence log-probabilities without a change, None in the
    first step. The divergence has this order in the released code; the paper has the other.
    """
    reads = layout.reads
    token_nll, divergence, essence = HeadLosses.apply(lm.logits(states), reads.targets, before)  # type: ignore[no-untyped-call]
    nll = torch.zeros(len(layout.plans), device=states.device).index_add(0, reads.records, token_nll * reads.shares)
    return nll, divergence, essence
