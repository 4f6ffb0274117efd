"""ROME (Meng et al. 2022, section 3.1 and appendix E.5) for many records at once.

One pass over the tokens before each subject's last token gives their keys and values. One over the few tokens from
there on, up to the edited layer, gives the key and the value v0. Every optimisation step runs only the layers above the
edited one, over those few tokens. Records share passes, never numbers: each has its own Adam state, clamp and stop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import accumulate, takewhile
from typing import Any

import torch
from torch import Tensor

from cfbuild.data import Measured, Request
from cfbuild.edit.covariance import Covariance
from cfbuild.edit.editor import Setting
from cfbuild.errors import ConfigError
from cfbuild.lm.delta import Delta, Edit
from cfbuild.lm.families import rome_settings
from cfbuild.lm.forward import (
    Batch,
    Packing,
    Past,
    Trace,
    additive_mask,
    adds_value,
    left_padded,
    pad,
    projection_output,
    remember,
    replay_packed,
    trace_below,
)
from cfbuild.lm.fused import HeadLosses, fused_layers
from cfbuild.lm.logprob import halving, token_budget
from cfbuild.lm.memory import give_back_freed_memory
from cfbuild.lm.model import Ids, LanguageModel
from cfbuild.lm.products import narrow_is_fast

KEY_MODES = ("reference", "consistent")
PRODUCTS = ("float32", "bfloat16")
ESSENCE_PROMPT = "{} is a"
ADAM_BETAS = (0.9, 0.999)
ADAM_EPSILON = 1e-8
SHARE_OF_BUDGET = 0.165
"""A step keeps activations for the backward pass, so its batches are this much smaller than those that only score."""
TOKENS_WORTH_OF_A_ROW = 2
FAST_TAKES_EVERY = 3
LEAST_COSINE = 1e-6
"""Below this cosine of u and k0 their product is float32's rounding, and the update would be noise made large."""
SHARE_THAT_STAYS = 0.75
"""Rows of finished records are dropped once at most this share of the batch is still being optimised."""


@dataclass(frozen=True, slots=True)
class RomeOptions:
    """Hyperparameters; the defaults are the released ones. `contexts` are texts put before the prompt (appendix E.5).

    `key_mode`: `reference` averages the key over contexts for u but not for u . k0, as released; `consistent` uses the
    average in both places (R-ROME, arXiv 2403.07175). `products` is the number format of the matrix products in the
    value optimisation; keys, values and everything else are float32 either way.
    """

    layer: int
    contexts: tuple[str, ...] = ()
    steps: int = 20
    learning_rate: float = 0.5
    stop_loss: float = 0.05
    kl_factor: float = 0.0625
    weight_decay: float = 0.5
    clamp_norm_factor: float = 4.0
    key_mode: str = "reference"
    products: str = "float32"

    def __post_init__(self) -> None:
        if self.products not in PRODUCTS:
            raise ConfigError(f"products in {self.products!r} do not exist; expected one of {', '.join(PRODUCTS)}")
        if self.key_mode not in KEY_MODES:
            raise ConfigError(f"key mode {self.key_mode!r} does not exist; expected one of {', '.join(KEY_MODES)}")
        if self.steps < 1:
            raise ConfigError(f"{self.steps} optimisation steps; expected at least 1")


def fast(options: RomeOptions, device: torch.device) -> RomeOptions:
    """The `fast` preset: every third context, and products in bfloat16 where the device is fast at them."""
    products = "bfloat16" if narrow_is_fast(device) else "float32"
    return replace(options, contexts=options.contexts[::FAST_TAKES_EVERY], products=products)


@dataclass(frozen=True, slots=True)
class _Row:
    """A text cut at its subject's last token: `past` before it, `rest` from it on, `targets` predicted at its end."""

    past: Ids
    rest: Ids
    targets: Ids


@dataclass(frozen=True, slots=True)
class _Plan:
    """A record's rows: the bare prompt first, one a context, and last the essence row."""

    index: int
    rows: tuple[_Row, ...]

    @property
    def width(self) -> int:
        return max(len(row.rest) for row in self.rows)

    @property
    def cost(self) -> int:
        """What the record takes of a batch's budget: its tokens, and for each row as much as two more.

        A row's earlier keys and values, some twenty tokens', take as much memory as one token's activations, and so do
        its logits.
        """
        return sum(len(row.rest) + TOKENS_WORTH_OF_A_ROW for row in self.rows)


@dataclass(frozen=True, slots=True)
class _Reads:
    """Where a batch's losses read, as tokens counted through the batch's real ones.

    The first `len(targets)` should each predict its target: `records[i]` is the record it belongs to, `shares[i]` its
    weight in that record's mean. The others are the records' essence rows.
    """

    tokens: Tensor
    targets: Tensor
    records: Tensor
    shares: Tensor


@dataclass(frozen=True, slots=True)
class _Past:
    """Keys and values before the subjects' last tokens; real: [rows, past], in any columns."""

    layers: Past
    real: Tensor

    @property
    def lengths(self) -> Tensor:
        """[rows]."""
        return self.real.sum(dim=1)

    def select(self, rows: Tensor) -> _Past:
        return _Past(self.layers.select(rows), self.real[rows])

    def extended(self, lm: LanguageModel, texts: Sequence[Ids]) -> _Past:
        """By a text a row, some of which may be empty."""
        if not any(texts):
            return self
        batch, real = left_padded(texts, lm, self.real)
        with torch.no_grad():
            remember(lm, batch, real, self.layers)
        return _Past(self.layers, torch.cat((self.real, real), dim=1))


@dataclass(frozen=True, slots=True)
class _Scene:
    """Records laid out and traced together; row r of record i is row i * rows_per_record + r."""

    plans: tuple[_Plan, ...]
    past: _Past | None
    traced: Trace
    packing: Packing
    below: Tensor  # [T, d_model]: the traced input of the first layer that a step runs, real tokens only
    reads: _Reads
    keys: Tensor  # [records, rows_per_record, d_in]: W's input at the subject's last token
    outputs: Tensor  # [records, rows_per_record, d_model]: W's output there

    @property
    def rows_per_record(self) -> int:
        return len(self.plans[0].rows)

    @property
    def firsts(self) -> Tensor:
        """The subject's last token of each row, counted through the real tokens."""
        rows = torch.arange(self.packing.rows, device=self.below.device)
        return self.packing.source[rows * self.packing.width]


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
            for part in self._batches(plans):
                edits.update(zip((plan.index for plan in part), halving(self._edit_batch, part), strict=True))
                give_back_freed_memory()
                done(len(edits))
        return [edits[index] for index in range(len(requests))]

    def _plan(self, index: int, request: Request) -> _Plan:
        targets = self.lm.continuation(request.target_new)
        rows = []
        for context in ("", *self.options.contexts):
            ids, last = self.lm.encode_subject(request.prompt, request.subject, context)
            rows.append(_Row(ids[:last], ids[last:] + targets[:-1], targets))
        ids, last = self.lm.encode_subject(ESSENCE_PROMPT, request.subject)
        # Nothing after the subject's last token can change the distribution that the KL term reads there.
        rows.append(_Row(ids[:last], ids[last : last + 1], ()))
        return _Plan(index, tuple(rows))

    def _batches(self, plans: Sequence[_Plan]) -> Iterator[list[_Plan]]:
        budget = token_budget(self.lm) * SHARE_OF_BUDGET
        part: list[_Plan] = []
        for plan in sorted(plans, key=lambda plan: (plan.width, plan.index)):
            if part and sum(one.cost for one in part) + plan.cost > budget:
                yield part
                part = []
            part.append(plan)
        if part:
            yield part

    def _edit_batch(self, plans: Sequence[_Plan]) -> list[Edit]:
        scene = _stage(self.lm, self.options.layer, self._replayed_from, tuple(plans))
        deltas, statistics = self._optimise(scene)
        keys, outputs = scene.keys.float(), scene.outputs.float()
        return [self._update(keys[i], outputs[i], deltas[i], statistics[i]) for i in range(len(plans))]

    def _optimise(self, scene: _Scene) -> tuple[Tensor, list[dict[str, float]]]:
        """The value optimisation: d of every record [records, d_model], and how it ended."""
        options, origin = self.options, scene.outputs[:, 0].float()
        limits = options.clamp_norm_factor * origin.norm(dim=-1)  # [records]
        adam = _Adam(torch.zeros_like(origin), options.learning_rate)
        log = torch.zeros(len(scene.plans), 4, device=origin.device)  # updates, loss, NLL, KL
        active = torch.arange(len(scene.plans), device=origin.device)
        before: Tensor | None = None
        # The released loop computes one loss more, looks at it, and stops: its `steps` are one update fewer.
        for step in range(options.steps - 1):
            asked = adam.value[active].requires_grad_()
            states = _with_added(self.lm, options.layer, scene, asked)
            nll, divergence, essence = _losses(self.lm, scene, states, before)
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
                scene, active, before = (
                    _keep(self.lm, self.options.layer, scene, goes_on),
                    active[goes_on],
                    before[goes_on],
                )
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


def _stage(lm: LanguageModel, layer: int, start: int, plans: tuple[_Plan, ...]) -> _Scene:
    """Lay records out: remember what comes before the subjects' last tokens, trace what comes from there on."""
    return _trace_rest(lm, layer, start, plans, _remember_past(lm, plans))


def _keep(lm: LanguageModel, layer: int, scene: _Scene, kept: Tensor) -> _Scene:
    """The scene of some of its records."""
    records = kept.nonzero().flatten().tolist()
    rows = kept.repeat_interleave(scene.rows_per_record)
    past = scene.past.select(rows) if scene.past else None
    return _trace_rest(lm, layer, scene.traced.start, tuple(scene.plans[i] for i in records), past)


def _remember_past(lm: LanguageModel, plans: Sequence[_Plan]) -> _Past | None:
    """What a row begins with in every record, which is its context, is run once for all of them."""
    texts = [[row.past for row in plan.rows] for plan in plans]
    shared = [_common_start(row) for row in zip(*texts, strict=True)]
    own = [text[len(start) :] for record in texts for start, text in zip(shared, record, strict=True)]
    room = max(map(len, shared)) + max(map(len, own)) + max(plan.width for plan in plans)
    nothing = torch.zeros(len(shared), 0, dtype=torch.bool, device=lm.device)
    past = _Past(Past(len(lm.layers), room), nothing).extended(lm, shared)
    past = past.select(torch.arange(len(shared), device=lm.device).repeat(len(plans))).extended(lm, own)
    return past if past.layers.length else None


def _common_start(texts: Sequence[Ids]) -> Ids:
    columns = takewhile(lambda tokens: len(set(tokens)) == 1, zip(*texts, strict=False))
    return tuple(tokens[0] for tokens in columns)


def _trace_rest(lm: LanguageModel, layer: int, start: int, plans: tuple[_Plan, ...], past: _Past | None) -> _Scene:
    """Run records up to the edited layer, and no further."""
    rows = [row for plan in plans for row in plan.rows]
    ids, real = pad([row.rest for row in rows], lm)
    steps = torch.arange(ids.shape[1], device=lm.device)
    causal = torch.ones(len(steps), len(steps), dtype=torch.bool, device=lm.device).tril().expand(len(rows), -1, -1)
    batch = Batch(ids, steps.expand(len(rows), -1), None)
    if past is not None:
        visible = torch.cat((past.real[:, None, :].expand(-1, len(steps), -1), causal), dim=2)
        batch = Batch(ids, past.lengths[:, None] + steps, additive_mask(visible, lm.dtype))
    seen: dict[str, Tensor] = {}

    def look(inputs: Tensor, outputs: Tensor) -> Tensor:
        seen["keys"] = inputs.reshape(*ids.shape, -1)[:, 0]
        seen["outputs"] = outputs.reshape(*ids.shape, -1)[:, 0]
        return outputs

    with projection_output(lm, layer, look):
        traced = trace_below(lm, batch, start, layer + 1, past=past.layers if past else None)
    by_record = {name: value.reshape(len(plans), len(rows) // len(plans), -1) for name, value in seen.items()}
    packing = Packing.of(real)
    below = packing.pack(traced.below)
    return _Scene(plans, past, traced, packing, below, _reads(lm, plans), by_record["keys"], by_record["outputs"])


def _add_first(hidden: Tensor, delta: Tensor) -> Tensor:
    """Add `delta` [records, d_model] to the first column of every row of its record; hidden: [rows, width, d_model]."""
    shift = delta.repeat_interleave(len(hidden) // len(delta), dim=0)[:, None].to(hidden.dtype)
    return torch.cat((hidden[:, :1] + shift, hidden[:, 1:]), dim=1)


def _with_added(lm: LanguageModel, layer: int, scene: _Scene, delta: Tensor) -> Tensor:
    """Finished states at the tokens that are read, with `delta` [records, d_model] added to W's output at the
    subjects' last tokens."""
    traced, packing, at = scene.traced, scene.packing, scene.reads.tokens
    if traced.start > layer:
        moved = scene.below.index_add(0, scene.firsts, delta.repeat_interleave(scene.rows_per_record, dim=0))
        return replay_packed(lm, traced, packing, moved, at)

    def add(_: Tensor, outputs: Tensor) -> Tensor:
        return _add_first(outputs.reshape(packing.rows, packing.width, -1), delta).reshape(outputs.shape)

    with projection_output(lm, layer, add):
        return replay_packed(lm, traced, packing, scene.below, at)


def _reads(lm: LanguageModel, plans: Sequence[_Plan]) -> _Reads:
    """Where the losses are read; the essence row of each record has no targets and is read at its first token."""
    scored = len(plans[0].rows) - 1
    rows = [(record, row) for record, plan in enumerate(plans) for row in plan.rows]
    starts = [0, *accumulate(len(row.rest) for _, row in rows)]
    table = [
        (end - len(row.targets) + i, token, record, 1 / (scored * len(row.targets)))
        for end, (record, row) in zip(starts[1:], rows, strict=True)
        for i, token in enumerate(row.targets)
    ]
    tokens, *columns = zip(*table, strict=True)
    essence = (start for start, (_, row) in zip(starts, rows, strict=False) if not row.targets)
    return _Reads(*(torch.tensor(column, device=lm.device) for column in ((*tokens, *essence), *columns)))


def _losses(lm: LanguageModel, scene: _Scene, states: Tensor, before: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """NLL [records], KL(now || before) [records] and the essence log-probabilities [records, vocabulary], detached.

    states: finished, at `scene.reads.tokens`. The released code hands its two distributions to the divergence in this
    order; the other order gives other values.
    """
    reads = scene.reads
    token_nll, divergence, essence = HeadLosses.apply(lm.logits(states), reads.targets, before)  # type: ignore[no-untyped-call]
    nll = torch.zeros(len(scene.plans), device=states.device).index_add(0, reads.records, token_nll * reads.shares)
    return nll, divergence, essence


def load(setting: Setting) -> Rome:
    """`--editor rome`."""
    usual = rome_settings(setting.lm.preset)
    options = setting.options(RomeOptions, layer=setting.layer(), contexts=setting.contexts(), **usual)
    return Rome(setting.lm, options, setting.covariance(options.layer))


def load_fast(setting: Setting) -> Rome:
    """`--editor rome-fast`: the `fast` preset of the same editor."""
    exact = load(setting)
    return Rome(exact.lm, fast(exact.options, exact.lm.device), exact.covariance, setting.editor)
