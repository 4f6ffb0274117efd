"""ROME's value optimisation (Meng et al. 2022, section 3.1 and appendix E.5) for many records at once.

Records share passes (`layout.py` says which), never numbers: each has its own Adam state and stops by itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor

from cfbuild.data import Request
from cfbuild.edit.editor import Edit, failed_edit
from cfbuild.edit.rome.layout import CutText, Layout, Plan, encode_at, even_batches, keep, lay_out, with_added
from cfbuild.edit.rome.losses import losses
from cfbuild.edit.rome.options import RomeOptions
from cfbuild.errors import ConfigError
from cfbuild.lm.batching import halving
from cfbuild.lm.delta import Delta
from cfbuild.lm.forward import adds_value
from cfbuild.lm.fused import fused_layers
from cfbuild.lm.memory import give_back_freed_memory
from cfbuild.lm.model import LanguageModel

Kept = TypeVar("Kept")
ESSENCE_PROMPT = "{} is a"
"""The prompt whose next token the KL term keeps as it was (released code)."""
ADAM_BETAS = (0.9, 0.999)
ADAM_EPSILON = 1e-8
"""Adam's constants: torch's defaults, which the released code takes."""
SHARE_THAT_STAYS = 0.75
"""The share of a batch still being optimised at or below which the rows of finished records are dropped."""


@dataclass(frozen=True, slots=True)
class TargetValue:
    """W's input and output at the edit's token of one request, and the change of output that makes the model say o*.

    keys: [rows, d_in], W's input in the bare prompt, after each context, and in the essence prompt. outputs: [rows,
    d_model], W's output there, or with `of_layer` the whole layer's. shift: [d_model], the change. `statistics` holds
    the number of updates and the last losses in nats.
    """

    keys: Tensor
    outputs: Tensor
    shift: Tensor
    statistics: dict[str, float]

    @property
    def is_finite(self) -> bool:
        """Return True if every number, the losses included, is finite."""
        tensors = (self.keys, self.outputs, self.shift)
        losses_are_finite = all(map(math.isfinite, self.statistics.values()))
        return losses_are_finite and all(bool(torch.isfinite(tensor).all()) for tensor in tensors)

    @property
    def mean_key(self) -> Tensor:
        """Return the mean key of the bare prompt and the contexts, [d_in]."""
        return self.keys[:-1].mean(dim=0)

    @property
    def mean_output(self) -> Tensor:
        """Return the mean output of the bare prompt and the contexts, [d_model]."""
        return self.outputs[:-1].mean(dim=0)

    @property
    def target_output(self) -> Tensor:
        """Return v*, the output after which the model predicts the target, [d_model]."""
        return self.outputs[0] + self.shift


class ValueOptimiser:
    """An optimiser that finds v* of requests for one layer of a model; the model stays as it is.

    With `of_layer` it finds the whole layer's output (MEMIT's z) in place of W's. Raises ConfigError if the layer is
    the model's last, whose output no layer reads.
    """

    def __init__(self, lm: LanguageModel, options: RomeOptions, *, of_layer: bool = False) -> None:
        if of_layer and options.layer + 1 >= len(lm.layers):
            raise ConfigError(f"layer {options.layer} is the last of {lm.name}: no layer follows that reads its output")
        self.lm = lm
        self.options = options
        self.of_layer = of_layer

    @cached_property
    def _replayed_from(self) -> int:
        """Return the first layer that a step runs: the one above the edited one, if its input is what d is added to."""
        return self.options.layer + (self.of_layer or adds_value(self.lm, self.options.layer))

    def values(
        self, requests: Sequence[Request], done: Callable[[int], None] = lambda count: None
    ) -> Iterator[tuple[int, TargetValue]]:
        """Yield each request's index and value, batch by batch.

        done: gets the number of finished requests; those being optimised count by their share of the steps.
        """
        plans = [self._plan(place, request) for place, request in enumerate(requests)]
        finished = 0

        def work(batch: Sequence[Plan]) -> list[TargetValue]:
            return self._values_of_batch(batch, lambda step: done(finished + len(batch) * step // self.options.steps))

        # Keys come from the edited layer, so the layers up to it always multiply in the model's own format.
        with fused_layers(self.lm, self.options.layer + 1 if self.options.products == "bfloat16" else None):
            for batch in self._batches(plans):
                values = halving(work, batch, self.lm.room)
                yield from zip((plan.index for plan in batch), values, strict=True)
                if self.lm.device.type == "cpu":
                    give_back_freed_memory()
                finished += len(batch)
                done(finished)

    def _batches(self, plans: Sequence[Plan]) -> Iterator[list[Plan]]:
        """Yield the plans in batches; after a batch that did not fit the memory the later ones are made smaller."""
        batches, halvings = even_batches(self.lm, plans, self.options.products), self.lm.room.halvings
        while batches:
            yield batches.pop(0)
            if self.lm.room.halvings > halvings:
                halvings = self.lm.room.halvings
                batches = even_batches(self.lm, [plan for batch in batches for plan in batch], self.options.products)

    def _plan(self, index: int, request: Request) -> Plan:
        targets = self.lm.continuation(request.target_new)
        rows = []
        for context in ("", *self.options.contexts):
            ids, at = encode_at(self.lm, self.options.token, request.prompt, request.subject, context)
            rows.append(CutText(ids[:at], ids[at:] + targets[:-1], targets))
        ids, at = encode_at(self.lm, self.options.token, ESSENCE_PROMPT, request.subject)
        # The KL term reads the distribution at the edit's token, which later tokens cannot change.
        rows.append(CutText(ids[:at], ids[at : at + 1], ()))
        return Plan(index, tuple(rows))

    def _values_of_batch(self, plans: Sequence[Plan], stepped: Callable[[int], None]) -> list[TargetValue]:
        layout = lay_out(self.lm, self.options.layer, self._replayed_from, tuple(plans))
        shifts, statistics = self._optimise(layout, stepped)
        keys, outputs = layout.keys.float(), self._outputs(layout)
        return [TargetValue(keys[i], outputs[i], shifts[i], statistics[i]) for i in range(len(plans))]

    def _outputs(self, layout: Layout) -> Tensor:
        """Return the outputs that d is added to, [records, rows_per_record, d_model]."""
        return (layout.states if self.of_layer else layout.outputs).float()

    def _optimise(self, layout: Layout, stepped: Callable[[int], None]) -> tuple[Tensor, list[dict[str, float]]]:
        """Return d of every record [records, d_model], and the updates and last losses of its optimisation.

        d is what the paper adds to W's output while it optimises. stepped: gets the number of finished steps.
        """
        options, origin = self.options, self._outputs(layout)[:, 0]
        limits = options.clamp_norm_factor * origin.norm(dim=-1)  # [records]
        adam = _Adam(torch.zeros_like(origin), options.learning_rate)
        log = torch.zeros(len(layout.plans), 4, device=origin.device)  # updates, loss, NLL, KL
        active = torch.arange(len(layout.plans), device=origin.device)
        before: Tensor | None = None
        # The released loop computes one loss more, checks it, and stops: its `steps` are one update fewer.
        for step in range(options.steps - 1):
            shift = adam.value[active].requires_grad_()
            states = with_added(self.lm, options.layer, layout, shift)
            nll, divergence, essence = losses(self.lm, layout, states, before)
            before = essence if before is None else before
            decay = options.weight_decay * shift.norm(dim=-1) / origin[active].norm(dim=-1) ** 2
            loss = nll + options.kl_factor * divergence + decay
            # A record that stopped keeps its d, so it keeps its loss and stays stopped.
            log[active, 1:] = torch.stack((loss, nll, divergence), dim=-1).detach()
            unfinished = [place for place, value in enumerate(loss.tolist()) if value >= options.stop_loss]
            if not unfinished:
                break
            (gradient,) = torch.autograd.grad(loss.sum(), shift)
            kept = torch.tensor(unfinished, device=origin.device)
            log[active[kept], 0] += 1
            adam.step(active[kept], gradient[kept], step + 1, limits)
            stepped(step + 1)
            if len(unfinished) <= SHARE_THAT_STAYS * len(active):
                layout = keep(self.lm, options.layer, layout, unfinished)
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
        """Move `rows` along their gradients, in step `count` (from 1); scale those of a norm above `limits` down."""
        first, second = ADAM_BETAS
        self._first[rows] = first * self._first[rows] + (1 - first) * gradient
        self._second[rows] = second * self._second[rows] + (1 - second) * gradient**2
        mean = self._first[rows] / (1 - first**count)
        spread = (self._second[rows] / (1 - second**count)).sqrt() + ADAM_EPSILON
        moved = self.value[rows] - self.learning_rate * mean / spread
        excess = moved.norm(dim=-1) / limits[rows]
        self.value[rows] = moved / excess.clamp_min(1)[:, None]


def edit_together(
    optimiser: ValueOptimiser,
    requests: Sequence[Request],
    done: Callable[[int], None],
    keep_of: Callable[[TargetValue], Kept],
    delta_of: Callable[[Sequence[int], Sequence[Kept]], Delta],
) -> list[Edit]:
    """Return one edit for all requests, and for each whose value is not finite an edit of its own, with a fault.

    keep_of: takes from a value what the change is made of. delta_of: makes the change for requests, by index.
    """
    kept: dict[int, Kept] = {}
    losses: list[float] = []
    failed: list[Edit] = []
    for place, value in optimiser.values(requests, done):
        if value.is_finite:
            kept[place] = keep_of(value)
            losses.append(value.statistics["loss"])
        else:
            failed.append(failed_edit((place,), value.statistics))
    if not kept:
        return failed
    places = tuple(sorted(kept))
    delta = delta_of(places, [kept[place] for place in places])
    measured = {"together": len(places), "delta_norm": delta.norm, "mean_loss": sum(losses) / len(losses)}
    return [Edit(places, delta, statistics=measured), *failed]
