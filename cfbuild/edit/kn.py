"""KN, knowledge neurons (Dai et al. 2022, arXiv 2104.08696), as the ROME paper compares it: no optimisation.

Integrated gradients at the prompt's last token say on which neurons the probability of the true object depends. Their
columns of the MLP's second matrix then get -2 E(the model's own answer) plus E(token) of every token of o*, E being the
input embeddings.

A neuron that is scaled at one token changes that token only, in the layers above. So a row is a single token after keys
and values that are computed once, and no layer below runs again or gets a gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor

from cfbuild.data import Request
from cfbuild.edit.editor import Edit, EditorSpec, failed_edit
from cfbuild.edit.rome.layout import PAST_WORTH_OF_A_TOKEN, SHARE_OF_BUDGET
from cfbuild.edit.rome.losses import HeadLosses
from cfbuild.errors import ConfigError, check_least
from cfbuild.lm.batch import Batch, Packing, Past, additive_mask, left_padded
from cfbuild.lm.batching import in_batches
from cfbuild.lm.delta import Delta, LowRank
from cfbuild.lm.forward import layer_inputs, remember, replay_packed, trace_below
from cfbuild.lm.fused import fused_layers
from cfbuild.lm.hooks import module_input, module_output
from cfbuild.lm.likelihood import first_tokens
from cfbuild.lm.memory import give_back_freed_memory
from cfbuild.lm.model import Ids, LanguageModel, Weight
from cfbuild.progress import no_progress

SITES = ("pre", "post")
"""The values of the option `site`."""
OLD_COEFFICIENT, NEW_COEFFICIENT = -2.0, 1.0
"""The released factors of the embeddings of the model's answer and of o*'s tokens."""
ROWS_IN_A_PASS = 160
"""The rows at which a CPU is about as fast as it can be: with 20 a row took 1.7 times as long (SmolLM2-135M)."""
NOTHING_KEPT = "no neuron's attribution is above the threshold"
"""The fault of an edit that would change nothing."""


@dataclass(frozen=True, slots=True)
class KnOptions:
    """KN's hyperparameters; the defaults are the released ones for GPT-2 XL.

    `steps` is the number of scales, from 0 to 1, at which a gradient is taken. A neuron counts in a prompt if its
    attribution is above `share` of the largest. Without `refine` the neurons of the rewrite prompt are changed; with
    it, those that count in more than `refine_share` of the rewrite prompt and the clean paraphrases.

    `site` is what is scaled: `pre` the first matrix's output before the activation function (released for GPT-2),
    `post` its value after it (released for BERT). In a gated MLP it is always the second matrix's input. `as_released`
    scores both targets without their leading space, and all tokens of the true object at the prompt's last position.
    """

    steps: int = 20
    share: float = 0.2
    refine: bool = False
    refine_share: float = 0.4
    site: str = SITES[0]
    as_released: bool = False

    def __post_init__(self) -> None:
        if self.site not in SITES:
            raise ConfigError(f"site {self.site!r} does not exist; expected one of {', '.join(SITES)}")
        check_least(self, steps=2)  # no activation, and all of it
        for name in ("share", "refine_share"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least 0 and less than 1")


@dataclass(frozen=True, slots=True)
class _Point:
    """A token at which neurons are scaled, the tokens before it, and the token that it should predict."""

    past: Ids
    token: int
    target: int


@dataclass(frozen=True, slots=True)
class _PlannedEdit:
    """A request as tokens: the points of each prompt, the model's own answer `old`, and o* `new`."""

    place: int
    prompts: tuple[tuple[_Point, ...], ...]
    old: int
    new: Ids


class Kn:
    """The editor: it edits each request by itself, from the original weights.

    For a request without a true object, as `cf.edit` has, neurons are attributed to the model's own answer.
    """

    def __init__(self, lm: LanguageModel, options: KnOptions) -> None:
        embedded = lm.model.get_input_embeddings().weight.shape[1]
        if embedded != lm.value_width(0):
            raise ConfigError(
                f"kn adds token embeddings to what a layer writes; those of {lm.name} have {embedded} numbers and its "
                f"layers write {lm.value_width(0)}"
            )
        self.lm = lm
        self.options = options

    def edit(self, requests: Sequence[Request], done: Callable[[int], None] = no_progress) -> list[Edit]:
        """Return one edit for each request, in order; it has a fault if no neuron is kept."""
        with fused_layers(self.lm):
            return in_batches(self.lm, self._lay_out(requests), self._edits, self._width, done)

    def attributions(self, requests: Sequence[Request]) -> list[Tensor]:
        """Return each request's attributions of all neurons to the true object, [prompts, layers, d_in].

        The rewrite prompt is the first; without `refine` it is the only one.
        """
        with fused_layers(self.lm):
            return in_batches(self.lm, self._lay_out(requests), self._attributions, self._width)

    def _lay_out(self, requests: Sequence[Request]) -> list[_PlannedEdit]:
        rewrites = [self.lm.encode_subject(request.prompt, request.subject)[0] for request in requests]
        answers = first_tokens(self.lm, rewrites)
        planned = []
        for place, (request, rewrite, answer) in enumerate(zip(requests, rewrites, answers, strict=True)):
            paraphrases = map(self.lm.encode, request.paraphrases if self.options.refine else ())
            true = (answer,) if request.target_true is None else self._target(request.target_true)
            points = tuple(self._points(prompt, true) for prompt in (rewrite, *paraphrases))
            planned.append(_PlannedEdit(place, points, answer, self._target(request.target_new)))
        return planned

    def _target(self, text: str) -> Ids:
        if self.options.as_released:
            return self.lm.encode(text)[len(self.lm.leading_ids) :]
        return self.lm.continuation(text)

    def _points(self, prompt: Ids, target: Ids) -> tuple[_Point, ...]:
        if self.options.as_released:
            return tuple(_Point(prompt[:-1], prompt[-1], token) for token in target)
        text, end = prompt + target, len(prompt)
        return tuple(_Point(text[:i], text[i], text[i + 1]) for i in range(end - 1, end - 1 + len(target)))

    def _width(self, planned: _PlannedEdit) -> int:
        """Return the memory that a request takes, in tokens: the gradient needs the activations of all steps."""
        points = [point for points in planned.prompts for point in points]
        past = max(len(point.past) for point in points)
        return round(len(points) * (self.options.steps + past / PAST_WORTH_OF_A_TOKEN) / SHARE_OF_BUDGET["float32"])

    def _attributions(self, planned: Sequence[_PlannedEdit]) -> list[Tensor]:
        """Return the attributions of each request, [prompts, layers, d_in]: a prompt's is the mean over its points."""
        prompts = [points for edit in planned for points in edit.prompts]
        rows = _PointRows(self.lm, [point for points in prompts for point in points], self.options)
        by_point = rows.attributions()
        give_back_freed_memory()
        by_prompt = iter(torch.split(by_point, [len(points) for points in prompts]))
        return [torch.stack([next(by_prompt).mean(dim=0) for _ in edit.prompts]) for edit in planned]

    def _edits(self, planned: Sequence[_PlannedEdit]) -> list[Edit]:
        return [self._edit(edit, found) for edit, found in zip(planned, self._attributions(planned), strict=True)]

    def _edit(self, planned: _PlannedEdit, attributions: Tensor) -> Edit:
        places, largest = (planned.place,), float(attributions[0].max())
        kept = kept_neurons(attributions, self.options.share, self.options.refine_share)
        measured = {"neurons": int(kept.sum()), "largest_attribution": largest}
        if not bool(torch.isfinite(attributions).all()):
            return failed_edit(places, measured)
        if not measured["neurons"]:
            return failed_edit(places, measured, NOTHING_KEPT)
        embeddings = self.lm.model.get_input_embeddings().weight.detach()
        new = embeddings[list(planned.new)].float().sum(dim=0)
        value = OLD_COEFFICIENT * embeddings[planned.old].float() + NEW_COEFFICIENT * new  # [d_model]
        layers = kept.any(dim=1).nonzero().flatten().tolist()
        delta = Delta({Weight(layer): LowRank(kept[layer].float()[None], value[None]) for layer in layers})
        return Edit(places, delta, statistics={**measured, "layers": len(layers), "delta_norm": delta.norm})


class _PointRows:
    """Points as rows of a batch: `steps` copies of each one's token, which see the tokens before it and themselves.

    Few points are repeated for each of `_together` layers, which then share a pass: a CPU is faster with more rows.
    """

    def __init__(self, lm: LanguageModel, points: Sequence[_Point], options: KnOptions) -> None:
        self.lm = lm
        self._site = options.site
        steps, count = options.steps, len(points)
        depth, most = len(lm.layers), ROWS_IN_A_PASS // (count * steps)
        self._together = max((number for number in range(1, most + 1) if depth % number == 0), default=1)
        self._shares = torch.linspace(0, 1, steps, device=lm.device)[:, None]  # [steps, 1]
        past, real = self._remember([point.past for point in points])
        tokens = torch.tensor([[point.token] for point in points], device=lm.device)
        self._below = layer_inputs(lm, self._batch(tokens, real, 1), past=past)  # each [points, 1, d_model]
        repeated = torch.arange(count, device=lm.device).repeat(self._together)
        if past is not None:
            past.select(repeated)
        self._traced = trace_below(lm, self._batch(tokens[repeated], real[repeated], steps), 0, 1, past=past)
        self._packing = Packing.full(len(repeated), steps, lm.device)
        targets = torch.tensor([point.target for point in points], device=lm.device)
        self._targets = targets[repeated].repeat_interleave(steps)

    def _remember(self, texts: Sequence[Ids]) -> tuple[Past | None, Tensor]:
        """Return the keys and values of the tokens before the points, and which of them are real [points, longest]."""
        if not any(texts):
            return None, torch.zeros(len(texts), 0, dtype=torch.bool, device=self.lm.device)
        past = Past(len(self.lm.layers), max(map(len, texts)) + len(self._shares))
        batch, real = left_padded(texts, self.lm)
        with torch.no_grad():
            remember(self.lm, batch, real, past)
        return past, real

    def _batch(self, tokens: Tensor, real: Tensor, width: int) -> Batch:
        """Return `width` copies of each token [rows, 1], each right after its past `real` [rows, longest]."""
        own = torch.eye(width, dtype=torch.bool, device=tokens.device).expand(len(tokens), -1, -1)
        visible = torch.cat((real[:, None, :].expand(-1, width, -1), own), dim=2)
        positions = real.sum(dim=1)[:, None].expand(-1, width)
        return Batch(tokens.expand(-1, width), positions, additive_mask(visible, self.lm.dtype))

    def attributions(self) -> Tensor:
        """Return every neuron's attribution at each point, [points, layers, d_in].

        It is the activation times the mean, over the steps, of the gradient of the target token's probability.
        """
        starts = range(0, len(self.lm.layers), self._together)
        return torch.cat([self._attributions_from(start) for start in starts]).transpose(0, 1)

    def _attributions_from(self, start: int) -> Tensor:
        """Return the attributions in the layers from `start` on that share a pass, [together, points, d_in].

        Of the repeated points, those for a layer are scaled in that layer only.
        """
        together, steps = self._together, self._packing.width
        count, width = self._packing.rows // together, self.lm.key_width(start)
        shift = torch.zeros(together, count, 1, width, device=self.lm.device, requires_grad=True)
        seen: list[Tensor] = []

        def scale(neurons: Tensor) -> Tensor:
            by_layer = neurons.reshape(together, count, steps, -1)
            place = len(seen)  # layers run in order
            whole = by_layer[place].detach().float()
            seen.append(whole[:, 0])
            scaled = (whole * self._shares + shift[place]).to(neurons)
            return torch.cat((by_layer[:place], scaled[None], by_layer[place + 1 :])).reshape(neurons.shape)

        below = self._below[start].expand(-1, steps, -1).repeat(together, 1, 1).flatten(0, 1)
        everywhere = torch.arange(len(below), device=below.device)
        with ExitStack() as hooks:
            for layer in range(start, start + together):
                hooks.enter_context(self._scaled(layer, scale))
            states = replay_packed(self.lm, self._traced, self._packing, below, everywhere, start)
        nll = HeadLosses.apply(self.lm.logits(states), self._targets, None)[0]  # type: ignore[no-untyped-call]
        # Rows do not see each other, so the sum's gradient has each row's, and that of `shift` is the sum over steps.
        (gradient,) = torch.autograd.grad(nll.neg().exp().sum(), shift)
        return torch.stack(seen) * gradient[:, :, 0] / steps

    def _scaled(self, layer: int, scale: Callable[[Tensor], Tensor]) -> AbstractContextManager[None]:
        if self._site == "pre" and "mlp_gate" not in self.lm.family.parts:
            return module_output(self.lm, Weight(layer, "mlp_in"), lambda _, outputs: scale(outputs))
        return module_input(self.lm, Weight(layer), scale)


def kept_neurons(attributions: Tensor, share: float, refine_share: float) -> Tensor:
    """Return True for each neuron that is kept, [layers, d_in], by attributions [prompts, layers, d_in].

    A neuron counts in a prompt if its attribution is above `share` of the largest there. It is kept if it counts in
    more than `refine_share` of the prompts.
    """
    counted = attributions > share * attributions.amax(dim=(1, 2), keepdim=True)
    return counted.sum(dim=0) > refine_share * len(attributions)


KN = EditorSpec(KnOptions, lambda context: Kn(context.lm, context.options))
