"""ROME (Meng et al. 2022, section 3.1 and appendix E.5) for many records at once.

`layout` lays the records out, so that an optimisation step runs only the layers above the edited one, over the few
tokens from each subject's last one on. Records share passes, never numbers: each has its own Adam state and stop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from cfbuild.data import Measured, Request
from cfbuild.edit.covariance import Covariance
from cfbuild.edit.editor import Setting
from cfbuild.edit.presets import rome_settings
from cfbuild.edit.rome.layout import CutText, Layout, Plan, in_batches, keep, lay_out, with_added
from cfbuild.edit.rome.losses import losses
from cfbuild.edit.rome.options import RomeOptions, fast
from cfbuild.lm.batching import halving
from cfbuild.lm.delta import Delta, Edit
from cfbuild.lm.forward import adds_value
from cfbuild.lm.fused import fused_layers
from cfbuild.lm.memory import give_back_freed_memory
from cfbuild.lm.model import LanguageModel

ESSENCE_PROMPT = "{} is a"
ADAM_BETAS = (0.9, 0.999)
ADAM_EPSILON = 1e-8
LEAST_COSINE = 1e-6
"""Below this cosine of u and k0 their product is float32's rounding, and the update would be noise made large."""
SHARE_THAT_STAYS = 0.75
"""Rows of finished records are dropped once at most this share of the batch is still being optimised."""


class Rome:
    """The editor: `edit` turns requests into rank-one deltas of one layer and leaves the model as it is."""

    def __init__(
        self, lm: LanguageModel, options: RomeOptions, covariance: Covariance | None = None, name: str = "rome"
    ) -> None:
        self.name = name
        self.lm = lm
        self.options = options
        self.covariance = covariance

    @property
    def signature(self) -> dict[str, Any]:
        """All that affects an edit beside the model."""
        return {
            "editor": self.name,
            **{field.name: getattr(self.options, field.name) for field in fields(self.options)},
            "contexts": list(self.options.contexts),
            "covariance": self.covariance.signature if self.covariance else "none",
        }

    @cached_property
    def _replayed_from(self) -> int:
        """The first layer a step runs: the one above the edited one, if adding to its input is adding to W's output."""
        return self.options.layer + adds_value(self.lm, self.options.layer)

    def edit(self, requests: Sequence[Request], done: Callable[[int], None] = lambda count: None) -> list[Edit]:
        """One edit a request, in order; `done` is told how many there are as they come.

        An edit that is not finite has a fault instead of a delta, and so has every edit if C cannot be solved with.
        """
        if self.covariance is not None and self.covariance.fault is not None:
            done(len(requests))
            return [Edit(None, {}, self.covariance.fault) for _ in requests]
        plans = [self._plan(index, request) for index, request in enumerate(requests)]
        edits: dict[int, Edit] = {}
        # Keys come out of the edited layer, so the layers up to it always multiply in the model's own format.
        with fused_layers(self.lm, self.options.layer + 1 if self.options.products == "bfloat16" else None):
            for part in in_batches(self.lm, plans, self.options.products):
                edits.update(zip((plan.index for plan in part), halving(self._edit_batch, part), strict=True))
                give_back_freed_memory()
                done(len(edits))
        return [edits[index] for index in range(len(requests))]

    def _plan(self, index: int, request: Request) -> Plan:
        targets = self.lm.continuation(request.target_new)
        rows = []
        for context in ("", *self.options.contexts):
            ids, last = self.lm.encode_subject(request.prompt, request.subject, context)
            rows.append(CutText(ids[:last], ids[last:] + targets[:-1], targets))
        ids, last = self.lm.encode_subject(ESSENCE_PROMPT, request.subject)
        # Nothing after the subject's last token can change the distribution that the KL term reads there.
        rows.append(CutText(ids[:last], ids[last : last + 1], ()))
        return Plan(index, tuple(rows))

    def _edit_batch(self, plans: Sequence[Plan]) -> list[Edit]:
        layout = lay_out(self.lm, self.options.layer, self._replayed_from, tuple(plans))
        deltas, statistics = self._optimise(layout)
        keys, outputs = layout.keys.float(), layout.outputs.float()
        return [self._update(keys[i], outputs[i], deltas[i], statistics[i]) for i in range(len(plans))]

    def _optimise(self, layout: Layout) -> tuple[Tensor, list[dict[str, float]]]:
        """The value optimisation: d of every record [records, d_model], and how it ended."""
        options, origin = self.options, layout.outputs[:, 0].float()
        limits = options.clamp_norm_factor * origin.norm(dim=-1)  # [records]
        adam = _Adam(torch.zeros_like(origin), options.learning_rate)
        log = torch.zeros(len(layout.plans), 4, device=origin.device)  # updates, loss, NLL, KL
        active = torch.arange(len(layout.plans), device=origin.device)
        before: Tensor | None = None
        # The released loop computes one loss more, looks at it, and stops: its `steps` are one update fewer.
        for step in range(options.steps - 1):
            asked = adam.value[active].requires_grad_()
            states = with_added(self.lm, options.layer, layout, asked)
            nll, divergence, essence = losses(self.lm, layout, states, before)
            before = essence if before is None else before
            decay = options.weight_decay * asked.norm(dim=-1) / origin[active].norm(dim=-1) ** 2
            loss = nll + options.kl_factor * divergence + decay
            # A record that stopped keeps its d, hence its loss, hence stays stopped.
            goes_on = loss.detach() >= options.stop_loss
            log[active, 1:] = torch.stack((loss, nll, divergence), dim=-1).detach()
            if not bool(goes_on.any()):
                break
            (gradient,) = torch.autograd.grad(loss.sum(), asked)
            log[active[goes_on], 0] += 1
            adam.step(active[goes_on], gradient[goes_on], step + 1, limits)
            if float(goes_on.float().mean()) <= SHARE_THAT_STAYS:
                layout = keep(self.lm, options.layer, layout, goes_on)
                active, before = active[goes_on], before[goes_on]
        names = ("updates", "loss", "target_nll_nats", "essence_kl_nats")
        return adam.value, [dict(zip(names, row, strict=True)) for row in log.tolist()]

    def _update(self, keys: Tensor, outputs: Tensor, delta: Tensor, statistics: dict[str, float]) -> Edit:
        """The rank-one update from one record's keys [rows, d_in], W's outputs [rows, d_model] and d [d_model]."""
        mean_key = keys[:-1].mean(dim=0)
        direction = self.covariance.whiten(mean_key) if self.covariance else mean_key
        direction = direction / direction.norm()
        reference = self.options.key_mode == "reference"
        key, output = (keys[0], outputs[0]) if reference else (mean_key, outputs[:-1].mean(dim=0))
        overlap = direction @ key
        edit = Delta(self.options.layer, direction[None], ((outputs[0] + delta - output) / overlap)[None])
        measured: Measured = {
            **statistics,
            "updates": int(statistics["updates"]),
            "u_dot_key": float(overlap),
            "value_norm": float((outputs[0] + delta).norm()),
            "delta_norm": edit.norm,
        }
        numbers = torch.cat((edit.values[0], direction, torch.tensor(list(statistics.values()), device=keys.device)))
        if abs(float(overlap)) < LEAST_COSINE * float(key.norm()):
            return Edit(None, {"u_dot_key": float(overlap)}, "u . k0 is too near zero to divide by")
        if not bool(torch.isfinite(numbers).all()):
            finite = {name: value for name, value in measured.items() if math.isfinite(float(value or 0))}
            return Edit(None, finite, "the edit is not finite")
        return Edit(edit, measured)


class _Adam:
    """Adam over independent rows: `value` [records, d_model], every record with its own moments."""

    def __init__(self, value: Tensor, learning_rate: float) -> None:
        self.value = value
        self.learning_rate = learning_rate
        self._first = torch.zeros_like(value)
        self._second = torch.zeros_like(value)

    def step(self, rows: Tensor, gradient: Tensor, count: int, limits: Tensor) -> None:
        """Move some rows by their gradient (their `count`-th step), then scale them back to norm `limits`."""
        first, second = ADAM_BETAS
        self._first[rows] = first * self._first[rows] + (1 - first) * gradient
        self._second[rows] = second * self._second[rows] + (1 - second) * gradient**2
        mean = self._first[rows] / (1 - first**count)
        spread = (self._second[rows] / (1 - second**count)).sqrt() + ADAM_EPSILON
        moved = self.value[rows] - self.learning_rate * mean / spread
        excess = moved.norm(dim=-1) / limits[rows]
        self.value[rows] = moved / excess.clamp_min(1)[:, None]


def load(setting: Setting) -> Rome:
    """`--editor rome`."""
    usual = rome_settings(setting.lm.preset)
    options = setting.options(RomeOptions, layer=setting.layer(), contexts=setting.contexts(), **usual)
    return Rome(setting.lm, options, setting.covariance(options.layer))


def load_fast(setting: Setting) -> Rome:
    """`--editor rome-fast`: the `fast` preset of the same editor."""
    exact = load(setting)
    return Rome(exact.lm, fast(exact.options, exact.lm.device), exact.covariance, setting.editor)
