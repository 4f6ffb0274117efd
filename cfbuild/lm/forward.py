"""Passes over a padded batch, kept so that the layers from a given one on can be run again.

The model itself runs once; hooks keep the arguments that it calls each layer with (mask, rotary embeddings, past). So
the layers can be run again without knowing any family's call signature.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from cfbuild.errors import ModelError
from cfbuild.lm.batch import Batch, FixedOutputs, Packing, Past
from cfbuild.lm.hooks import Skip, module_output, projection_output, standing_in
from cfbuild.lm.model import LanguageModel, Weight
from cfbuild.lm.windows import windowed

Call = tuple[tuple[Any, ...], dict[str, Any]]
"""The arguments of a layer besides the hidden states."""


def unheard() -> None:
    """Ignore that a layer has run."""


@dataclass(frozen=True, slots=True)
class Trace:
    """A pass that was run. hidden: [batch, width, d_model], after the last norm. below: the input of layer `start`.

    calls: those of the layers from `start` on. fixed: returns the outputs that a part of a layer has instead of its own
    when the layers run again packed; None for none. passed: is called after each layer that runs again packed.
    """

    hidden: Tensor
    below: Tensor
    start: int
    calls: tuple[Call, ...]
    fixed: Callable[[int], FixedOutputs | None] = lambda layer: None
    passed: Callable[[], None] = unheard


def run(lm: LanguageModel, batch: Batch, *, past: Any = None) -> Tensor:
    """Return the hidden states of a batch after the last norm, [batch, width, d_model].

    past: a `Past` or what has its interface. Raises ModelError for rows too long for the model.
    """
    longest = int(batch.positions.max()) + 1
    if longest > lm.max_tokens:
        raise ModelError(
            f"a text has {longest} tokens, and {lm.name} has positions for {lm.max_tokens}; shorten or drop it"
        )
    with lm.lock:
        output = lm.base(
            input_ids=batch.ids,
            position_ids=batch.positions,
            attention_mask=windowed(lm, batch.mask, longest),
            use_cache=past is not None,
            **{lm.past_argument: past},
        )
    hidden: Tensor = output.last_hidden_state
    return hidden


def trace(lm: LanguageModel, batch: Batch, start: int, *, past: Past | None = None) -> Trace:
    """Return a pass over a batch, with which `replay` can run the layers from `start` on again."""
    calls: list[Call] = []
    inputs: list[Tensor] = []

    def keep(hidden: Tensor, call: Call) -> None:
        if not inputs:
            inputs.append(hidden.detach())
        calls.append(call)

    with _listening(lm, list(lm.layers)[start:], keep):
        hidden = run(lm, batch, past=past)
    return Trace(hidden, inputs[0], start, tuple(calls))


@contextmanager
def _listening(
    lm: LanguageModel, layers: Iterable[nn.Module], keep: Callable[[Tensor, Call], object]
) -> Iterator[None]:
    """Let `keep` get the input and the call of each of these layers while open."""

    def hear(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        named = dict(kwargs)
        hidden = args[0] if args else named.pop("hidden_states")
        keep(hidden, (args[1:], named))

    with lm.lock, ExitStack() as hooks:
        for layer in layers:
            hooks.callback(layer.register_forward_pre_hook(hear, with_kwargs=True).remove)
        yield


@torch.no_grad()
def trace_below(lm: LanguageModel, batch: Batch, start: int, stop: int, *, past: Past | None = None) -> Trace:
    """Return the trace of a pass, from layer `start` on, in which the layers from `stop` on return their input.

    Their calls are right all the same; `hidden` is no result.
    """
    layers = list(lm.layers)
    # What a layer returns besides its states differs from family to family; the layer before is the example.
    example: list[Any] = []
    with lm.lock, ExitStack() as stack:
        if stop:
            hook = layers[stop - 1].register_forward_hook(lambda *call: example.append(call[-1]))
            stack.callback(hook.remove)
        # Without a layer before, only fused layers are known: they return the states and nothing else.
        for layer in layers[stop:] if stop or _all_pack(lm) else ():
            stack.enter_context(standing_in(layer, Skip(layer, example)))
        return trace(lm, batch, start, past=past)


@torch.no_grad()
def layer_inputs(lm: LanguageModel, batch: Batch, *, past: Past | None = None) -> list[Tensor]:
    """Return the input of every layer, [batch, width, d_model] each, bottom first."""
    inputs: list[Tensor] = []
    with _listening(lm, lm.layers, lambda hidden, _: inputs.append(hidden)):
        run(lm, batch, past=past)
    return inputs


def replay(lm: LanguageModel, traced: Trace, below: Tensor | None = None) -> Tensor:
    """Return the finished hidden states after running the layers from `traced.start` on again.

    Hooks that the layers have now are run. below: [batch, width, d_model], the input of the first of these layers, by
    default the traced one.
    """
    hidden = traced.below if below is None else below
    for layer, (args, kwargs) in zip(list(lm.layers)[traced.start :], traced.calls, strict=True):
        hidden = states_in(layer(hidden, *args, **kwargs))
    return lm.finish(hidden)


def replay_packed(
    lm: LanguageModel, traced: Trace, packing: Packing, below: Tensor, at: Tensor, start: int | None = None
) -> Tensor:
    """Return the finished states of the packed tokens `at` [n], as `replay` does for padded ones: [n, d_model].

    start: the first layer that is run, by default the first that was traced. below: [T, d_model], its input.
    """
    layers = range(traced.start if start is None else start, len(lm.layers))
    return lm.finish(run_layers(lm, traced, packing, below, layers, at))


def run_layers(
    lm: LanguageModel, traced: Trace, packing: Packing, hidden: Tensor, layers: range, at: Tensor | None = None
) -> Tensor:
    """Return the packed tokens' states after `layers` of a trace, [T, d_model], or those of the tokens `at` alone.

    hidden: [T, d_model], the input of the first of `layers`. Fused layers compute each packed token once, and the last
    of them little for tokens that are not in `at`. Through outputs that the trace fixes there is no gradient.
    """
    is_packed, ends = True, False
    for index in layers:
        layer: Any = lm.layers[index]
        args, kwargs = traced.calls[index - traced.start]
        packs, fixed = _packs(layer), traced.fixed(index)
        if packs != is_packed:
            hidden, is_packed = packing.pack(hidden) if packs else packing.spread(hidden), packs
        if packs:
            ends = index == layers[-1] and fixed is None
            hidden = layer.forward.packed(hidden, packing, at if ends else None, fixed, *args, **kwargs)
        else:
            with nullcontext() if fixed is None else _fixing(lm, index, packing, fixed):
                hidden = states_in(layer(hidden, *args, **kwargs))
            ends = False
        traced.passed()
    if is_packed and (ends or at is None):
        return hidden
    hidden = hidden if is_packed else packing.pack(hidden)
    return hidden if at is None else hidden[at]


def _fixing(lm: LanguageModel, layer: int, packing: Packing, fixed: FixedOutputs) -> AbstractContextManager[None]:
    """Give a part of a layer that is run padded its fixed outputs while open."""

    def put(_: Tensor, outputs: Tensor) -> Tensor:
        flat = outputs.reshape(-1, outputs.shape[-1]).clone()
        flat[packing.real[fixed.at]] = fixed.values.to(flat.dtype)
        return flat.view(outputs.shape)

    return module_output(lm, Weight(layer, fixed.part), put)


def trace_packed(
    lm: LanguageModel, batch: Batch, packing: Packing, start: int, passed: Callable[[], None] = unheard
) -> tuple[Trace, Tensor]:
    """Return a trace from layer `start` on, or from below it, and the packed input of layer `start`, [T, d_model].

    passed: is called for each layer below `start`, and for each that runs again by the trace.
    """
    if not _all_pack(lm):
        with _listening(lm, list(lm.layers)[:start], lambda hidden, call: passed()):
            traced = replace(trace_below(lm, batch, start, start), passed=passed)
        return traced, packing.pack(traced.below)
    traced = replace(trace_below(lm, batch, 0, 0), passed=passed)
    return traced, run_layers(lm, traced, packing, packing.pack(traced.below), range(start))


def run_packed(
    lm: LanguageModel,
    batch: Batch,
    packing: Packing,
    at: Tensor,
    *,
    past: Past | None = None,
    passed: Callable[[], None] = unheard,
) -> Tensor:
    """Return the finished states of the packed tokens `at` [n] of a batch, [n, d_model].

    passed: is called for each layer.
    """
    if not _all_pack(lm):
        with _listening(lm, lm.layers, lambda hidden, call: passed()):
            return packing.pack(run(lm, batch, past=past))[at]
    traced = replace(trace_below(lm, batch, 0, 0, past=past), passed=passed)
    return replay_packed(lm, traced, packing, packing.pack(traced.below), at)


def _packs(layer: Any) -> bool:
    return bool(getattr(layer.forward, "packs", False))


def packing_layers(lm: LanguageModel) -> frozenset[int]:
    """Return the layers that would be run packed now: fused ones without a hook or patch."""
    return frozenset(index for index, layer in enumerate(lm.layers) if _packs(layer))


def _all_pack(lm: LanguageModel) -> bool:
    return len(packing_layers(lm)) == len(lm.layers)


def states_in(output: Any) -> Tensor:
    """Return the hidden states in a layer's output, which in some families is a tuple that begins with them."""
    hidden: Tensor = output[0] if isinstance(output, tuple) else output
    return hidden


def remember(lm: LanguageModel, batch: Batch, real: Tensor, past: Past) -> None:
    """Run a batch, and add the keys and values of its tokens to `past`. real: [batch, width], false for fillers."""
    packing = Packing.of(real)
    run_packed(lm, batch, packing, torch.zeros_like(packing.real[:1]), past=past)
    past.length += real.shape[1]


class _Reached(Exception):  # noqa: N818 - a jump out of the forward pass, not an error
    pass


def projection_inputs(
    lm: LanguageModel, batch: Batch, layers: Sequence[int], use: Callable[[Tensor], Tensor] | None = None
) -> dict[int, Tensor]:
    """Return the input of each layer's W, [batch, width, d_in], or what `use` returns for it.

    With `use`, the inputs of no two layers exist at the same time. Nothing above the highest layer is computed. Raises
    ModelError if a layer does not call W.
    """
    kept: dict[int, Tensor] = {}

    def keep(layer: int, _: nn.Module, args: tuple[Tensor, ...]) -> None:
        inputs = args[0].reshape(*batch.ids.shape, -1)
        kept[layer] = inputs if use is None else use(inputs)
        if layer == max(layers):
            raise _Reached

    with lm.lock, ExitStack() as hooks:
        for layer in layers:
            hooks.callback(lm.projection(layer).register_forward_pre_hook(partial(keep, layer)).remove)
        with suppress(_Reached):
            run(lm, batch)
    for layer in layers:
        if layer not in kept:
            raise ModelError(f"layer {layer} of {lm.name} never called its value projection")
    return kept


@torch.no_grad()
def adds_value(lm: LanguageModel, layer: int) -> bool:
    """Return whether a change of W's output reaches the input of the next layer as it is, found by trying it.

    It does not in the last layer, nor in families that normalise W's output or the sum.
    """
    if layer + 1 == len(lm.layers):
        return False
    ids = torch.arange(2, device=lm.device)[None]
    traced = trace(lm, Batch(ids, ids, None), layer + 1)
    probe = torch.linspace(-1, 1, lm.value_width(layer), device=lm.device, dtype=lm.dtype)
    with projection_output(lm, layer, lambda _inputs, outputs: outputs + probe):
        moved = trace(lm, Batch(ids, ids, None), layer + 1).below - traced.below
    return torch.allclose(moved.float(), probe.float().expand_as(moved), rtol=0, atol=1e-3)
