"""ROME's value optimisation (Meng et al. 2022, section 3.1 and appendix E.5) for many records at once.

`layout` lays the records out, so that an optimisation step runs only the layers above the edited one, over the few
tokens from that of the edit on, which is the subject's last one unless the options say another. Records share passes,
never numbers: each has its own Adam state and stop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from cfbuild.data import Request
from cfbuild.edit.rome.layout import CutText, Layout, Plan, encode_at, in_batches, keep, lay_out, with_added
from cfbuild.edit.rome.losses import losses
from cfbuild.edit.rome.options import RomeOptions
from cfbuild.errors import ConfigError
from cfbuild.lm.batching import halving
from cfbuild.lm.forward import adds_value
from cfbuild.lm.fused import fused_layers
from cfbuild.lm.memory import give_back_freed_memory
from cfbuild.lm.model import LanguageModel

ESSENCE_PROMPT = "{} is a"
"""The prompt whose next token the KL term keeps as it was (released code)."""
ADAM_BETAS = (0.9, 0.999)
ADAM_EPSILON = 1e-8
"""Adam's constants: torch's defaults, which the released code takes."""
SHARE_THAT_STAYS = 0.75
"""Rows of finished records are dropped once at most this share of the batch is still being optimised."""


@dataclass(frozen=True, slots=True)
class TargetValue:
    """The output that W should have for one request, and its input and output now, at the edit's token.

    keys: [rows, d_in], W's input under the bare prompt, under each context, and in the essence prompt; outputs:
    [rows, d_model], W's output there, or the layer's where the shift is of that; shift: [d_model], so that the wanted
    output is outputs[0] + shift. `statistics` holds the number of updates and the last losses in nats.
    """

    keys: Tensor
    outputs: Tensor
    shift: Tensor
    statistics: dict[str, float]

    @property
    def is_finite(self) -> bool:
        """True if every number of it is finite, the losses of the optimisation included."""
        tensors = (self.keys, self.outputs, self.shift)
        losses_are = all(map(math.isfinite, self.statistics.values()))
        return losses_are and all(bool(torch.isfinite(tensor).all()) for tensor in tensors)

    @property
    def mean_key(self) -> Tensor:
        """The key averaged over the bare prompt and the contexts, [d_in]."""
        return self.keys[:-1].mean(dim=0)

    @property
    def mean_output(self) -> Tensor:
        """W's output averaged likewise, [d_model]."""
        return self.outputs[:-1].mean(dim=0)

    @property
    def wanted(self) -> Tensor:
        """v*: the output after which the model predicts the target, [d_model]."""
        return self.outputs[0] + self.shift


class ValueOptimiser:
    """An optimiser that finds v* of requests for one layer of a model; the model stays as it is.

    With `of_layer` it finds the output of the whole layer in place of W's (MEMIT's z). Raises ConfigError where no
    layer follows that could read it.
    """

    def __init__(self, lm: LanguageModel, options: RomeOptions, *, of_layer: bool = False) -> None:
        if of_layer and options.layer + 1 >= len(lm.layers):
            raise ConfigError(f"layer {options.layer} is the last of {lm.name}: no layer follows that reads its output")
        self.lm = lm
        self.options = options
        self.of_layer = of_layer

    @cached_property
    def _replayed_from(self) -> int:
        """The first layer a step runs: the one above the edited one, if adding to its input is what is wanted."""
        return self.options.layer + (self.of_layer or adds_value(self.lm, self.options.layer))

    def values(
        self, requests: Sequence[Request], done: Callable[[int], None] = lambda count: None
    ) -> Iterator[tuple[int, TargetValue]]:
        """Yield (place, value) of each request, batch by batch.

        done: gets the number finished so far, those that are being optimised counted by their steps.
        """
        plans = [self._plan(place, request) for place, request in enumerate(requests)]
        finished = 0

        def work(part: Sequence[Plan]) -> list[TargetValue]:
            return self._values_of_batch(part, lambda step: done(finished + len(part) * step // self.options.steps))

        # Keys come out of the edited layer, so the layers up to it always multiply in the model's own format.
        with fused_layers(self.lm, self.options.layer + 1 if self.options.products == "bfloat16" else None):
            for part in self._batches(plans):
                values = halving(work, part, self.lm.room)
                yield from zip((plan.index for plan in part), values, strict=True)
                if self.lm.device.type == "cpu":
                    give_back_freed_memory()
                finished += len(part)
                done(finished)

    def _batches(self, plans: Sequence[Plan]) -> Iterator[list[Plan]]:
        """Yield the plans in batches; those that are left are cut anew where one did not fit the memory."""
        parts, halvings = in_batches(self.lm, plans, self.options.products), self.lm.room.halvings
        while parts:
            yield parts.pop(0)
            if self.lm.room.halvings > halvings:
                halvings = self.lm.room.halvings
                parts = in_batches(self.lm, [plan for part in parts for plan in part], self.options.products)

    def _plan(self, index: int, request: Request) -> Plan:
        targets = self.lm.continuation(request.target_new)
        rows = []
        for context in ("", *self.options.contexts):
            ids, at = encode_at(self.lm, self.options.token, request.prompt, request.subject, context)
            rows.append(CutText(ids[:at], ids[at:] + targets[:-1], targets))
        ids, at = encode_at(self.lm, self.options.token, ESSENCE_PROMPT, request.subject)
        # Nothing after the edit's token can change the distribution that the KL term reads there.
        rows.append(CutText(ids[:at], ids[at : at + 1], ()))
        return Plan(index, tuple(rows))

    def _values_of_batch(self, plans: Sequence[Plan], stepped: Callable[[int], None]) -> list[TargetValue]:
        layout = lay_out(self.lm, self.options.layer, self._replayed_from, tuple(plans))
        shifts, statistics = self._optimise(layout, stepped)
        keys, outputs = layout.keys.float(), self._outputs(layout)
        return [TargetValue(keys[i], outputs[i], shifts[i], statistics[i]) for i in range(len(plans))]

    def _outputs(self, layout: Layout) -> Tensor:
        """Return what d is added to: [records, rows_per_record, d_model]."""
        return (layout.states if self.of_layer else layout.outputs).float()

    def _optimise(self, layout: Layout, stepped: Callable[[int], None]) -> tuple[Tensor, list[dict[str, float]]]:
        """Return d of every record [records, d_model], and the updates and last losses of its optimisation.

        stepped: gets the number of finished steps.
        """
        options, origin = self.options, self._outputs(layout)[:, 0]
        limits = options.clamp_norm_factor * origin.norm(dim=-1)  # [records]
        adam = _Adam(torch.zeros_like(origin), options.learning_rate)
        log = torch.zeros(len(layout.plans), 4, device=origin.device)  # updates, loss, NLL, KL
        active = torch.arange(len(layout.plans), device=origin.device)
        before: Tensor | None = None
        # The released loop computes one loss more, checks it, and stops: its `steps` are one update fewer.
        for step in range(options.steps - 1):
            asked = adam.value[active].requires_grad_()
            states = with_added(self.lm, options.layer, layout, asked)
            nll, divergence, essence = losses(self.lm, layout, states, before)
            before = essence if before is None else before
            decay = options.weight_decay * asked.norm(dim=-1) / origin[active].norm(dim=-1) ** 2
            loss = nll + options.kl_factor * divergence + decay
            # A record that stopped keeps its d, hence its loss, hence stays stopped.
            log[active, 1:] = torch.stack((loss, nll, divergence), dim=-1).detach()
            going = [place for place, now in enumerate(loss.tolist()) if now >= options.stop_loss]
            if not going:
                break
            (gradient,) = torch.autograd.grad(loss.sum(), asked)
            kept = torch.tensor(going, device=origin.device)
            log[active[kept], 0] += 1
            adam.step(active[kept], gradient[kept], step + 1, limits)
            stepped(step + 1)
            if len(going) <= SHARE_THAT_STAYS * len(active):
                layout = keep(self.lm, options.layer, layout, going)
                active, before = active[kept], before[kept]
        names = ("updates", "loss", "target_nll_nats", "essence_kl_nats")
        return adam.value, [dict(zip(names, row, strict=True)) for row in log.tolist()]


class _Adam:
    """Adam over independent rows: `value` [records, d_model], every record with its own moments."""

    def __init__(self, value: Tensor, learning_rate: float) -> None:
        self.value = value
        self.learning_rate = learning_rate
        self._first = torch.zeros_like(value)
        self._second = torch.zeros_like(value)

    def step(self, rows: Tensor, gradient: Tensor, count: int, limits: Tensor) -> None:
        """Move `rows` by their gradient (their `count`-th step), then scale those beyond norm `limits` back to it."""
        first, second = ADAM_BETAS
        self._first[rows] = first * self._first[rows] + (1 - first) * gradient
        self._second[rows] = second * self._second[rows] + (1 - second) * gradient**2
        mean = self._first[rows] / (1 - first**count)
        spread = (self._second[rows] / (1 - second**count)).sqrt() + ADAM_EPSILON
        moved = self.value[rows] - self.learning_rate * mean / spread
        excess = moved.norm(dim=-1) / limits[rows]
        self.value[rows] = moved / excess.clamp_min(1)[:, None]
