"""Layers of the Llama kind as four functions with gradients written by hand: the same sums in fewer passes.

A layer is: RMSNorm, queries, keys and values, rotary positions, grouped attention, output and residual; RMSNorm, gated
MLP and residual. Run as modules it is some sixty operations, each of which reads and writes every activation, and as
many again backwards. Weights are frozen, so only the gradient in the input is computed. Activations and sums are
float32 in every model; products are in the weights' number format, or in bfloat16. Shapes: T tokens of R rows, H query
heads, K heads of keys and values, d a head.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cfbuild.errors import ModelError
from cfbuild.lm.batch import Packing
from cfbuild.lm.fusible import fusible_layers, norm_epsilon
from cfbuild.lm.hooks import StandIn, all_modules_are_heard, hooks_of, standing_in
from cfbuild.lm.model import LanguageModel
from cfbuild.lm.products import fast_products, multiply, multiply_and_add, stamp_of

REGISTER = 16
"""Float32 numbers that a CPU's widest registers hold."""
ROWS_IN_CACHE = 8
"""Rows of logits whose exponentials a CPU's cache holds: of 50,000 words they take 1.6 MB."""


@contextmanager
def fused_layers(lm: LanguageModel, narrow_from: int | None = None) -> Iterator[None]:
    """Run layers fused, while open, where `fusible_layers` allows; others run as they are, with faster products.

    Layers from `narrow_from` on, fused or not, and the output head multiply in bfloat16. A layer with a hook on itself
    or on any of its modules runs as it is while the hook is there, so overlays and edits work as ever. Contexts nest;
    threads take turns.
    """
    with lm.lock, ExitStack() as stack:
        depth = len(lm.layers)
        narrow = depth if narrow_from is None or lm.dtype != torch.float32 else narrow_from
        fusible, packings = fusible_layers(lm), _FullPackings()
        for index in fusible:
            stand_in = _FusedLayer(lm.layers[index], torch.bfloat16 if index >= narrow else lm.dtype, packings)
            stack.enter_context(standing_in(lm.layers[index], stand_in))
        stack.enter_context(fast_products(lm, sorted({*range(depth)} - {*fusible}), narrow))
        yield


class _FullPackings:
    """Packings of rows without fillers, shared by all layers of a pass and by passes of the same shape."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, int], Packing] = {}

    def of(self, hidden: Tensor) -> Packing:
        """Return the packing of states [R, width, d_model]; those of earlier shapes are forgotten."""
        shape = hidden.shape[0], hidden.shape[1]
        if shape not in self._kept:
            self._kept = {shape: Packing.full(*shape, hidden.device)}
        return self._kept[shape]


class _Map:
    """A linear map with a frozen weight, in a number format of its own: copied if that is not the weight's."""

    def __init__(self, module: Any, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.weight: Tensor = module.weight.detach().to(dtype)  # [d_out, d_in]
        self.bias: Tensor | None = module.bias.detach().to(dtype) if module.bias is not None else None

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return the map's output in its number format: [T, d_in] -> [T, d_out]."""
        return multiply(inputs.to(self.dtype), self.weight, self.bias)

    def add_to(self, inputs: Tensor, residual: Tensor) -> Tensor:
        """Return `residual` plus the map's output, [T, d_out]."""
        if self.dtype == residual.dtype and self.bias is None:
            return multiply_and_add(inputs, self.weight, residual)
        return residual + self(inputs)

    def back(self, gradient: Tensor, total: Tensor | None = None) -> Tensor:
        """Return the gradient in the input, in the map's number format, plus `total`: [T, d_out] -> [T, d_in]."""
        gradient = gradient.to(self.dtype)
        if total is None:
            return multiply(gradient, self.weight.T)
        return multiply_and_add(gradient, self.weight.T, total)


def _back(maps: Sequence[_Map], gradients: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """Return the gradient in the one input of several maps: [T, d_in]."""
    total: Tensor | None = None
    for linear, gradient in zip(maps, gradients, strict=True):
        total = linear.back(gradient, total)
    assert total is not None
    return total.to(dtype)


@dataclass(frozen=True, slots=True)
class _Norm:
    """RMSNorm: x / sqrt(mean(x^2) + eps) * gain."""

    gain: Tensor
    eps: float

    @staticmethod
    def of(module: Any) -> _Norm:
        eps = norm_epsilon(module)
        assert eps is not None
        return _Norm(module.weight.detach().float(), eps)

    def scale(self, inputs: Tensor) -> Tensor:
        """Return 1 / sqrt(mean(x^2) + eps): [T, d_model] -> [T, 1]."""
        mean_square: Tensor = torch.linalg.vector_norm(inputs, dim=-1).square_().div_(inputs.shape[-1])
        return mean_square.add_(self.eps).rsqrt_()[:, None]

    def apply(self, inputs: Tensor, scale: Tensor) -> Tensor:
        return (inputs * scale).mul_(self.gain)

    def back(self, inputs: Tensor, scale: Tensor, gradient: Tensor) -> Tensor:
        """Return the gradient in the input, [T, d_model]; `gradient` is overwritten."""
        gradient.mul_(self.gain)
        overlap = torch.linalg.vecdot(gradient, inputs)[:, None].mul_(scale**2 / inputs.shape[-1])
        return gradient.addcmul_(inputs, overlap, value=-1).mul_(scale)


@dataclass(frozen=True, slots=True)
class _Layer:
    """A layer's weights by role."""

    attention_norm: _Norm
    attention_in: tuple[_Map, _Map, _Map]  # queries, keys, values
    attention_out: _Map
    mlp_norm: _Norm
    mlp_in: tuple[_Map, _Map]  # gate, up
    mlp_out: _Map
    head_width: int
    scaling: float
    index: int  # by which a past knows the layer

    @staticmethod
    def of(layer: Any, dtype: torch.dtype) -> _Layer:
        attention, mlp = layer.self_attn, layer.mlp
        return _Layer(
            _Norm.of(layer.input_layernorm),
            (_Map(attention.q_proj, dtype), _Map(attention.k_proj, dtype), _Map(attention.v_proj, dtype)),
            _Map(attention.o_proj, dtype),
            _Norm.of(layer.post_attention_layernorm),
            (_Map(mlp.gate_proj, dtype), _Map(mlp.up_proj, dtype)),
            _Map(mlp.down_proj, dtype),
            attention.head_dim,
            attention.scaling,
            attention.layer_idx,
        )


class _FusedLayer(StandIn):
    """The `forward` of a fused layer, with the layer's own signature.

    Before each call it checks that the layer is still what it was made from: weights that have changed are read again,
    and with a hook or a patch inside, or another module, the layer runs as it is.
    """

    def __init__(self, layer: Any, dtype: torch.dtype, packings: _FullPackings) -> None:
        super().__init__(layer)
        self._layer, self._dtype, self._packings = layer, dtype, packings
        # Everything that is checked before each call is found once: a pass checks a hundred times.
        inner = [module for module in layer.modules() if module is not layer]
        self._children = [(module, tuple(module._modules.values())) for module in layer.modules() if module._modules]
        self._inner_state = [module.__dict__ for module in inner]
        self._inner_hooks = [hooks for module in inner for hooks in hooks_of(module)]
        self._parameters = [(module._parameters, name) for module in inner for name in module._parameters]
        self._weights: tuple[tuple[int, int], ...] = ()
        self._maps: _Layer | None = None

    @property
    def packs(self) -> bool:
        """True if the layer may run fused now: no hook or patch is on it, nor on a module of it (none would run)."""
        return self._is_bare() and not any(hooks_of(self._layer))

    def __call__(self, hidden_states: Tensor, *given: Any, **named: Any) -> Tensor:
        """Return the layer's output, [R, width, d_model] -> [R, width, d_model]."""
        if not self._is_bare():
            output: Tensor = self.before(hidden_states.to(self._layer.mlp.down_proj.weight.dtype), *given, **named)
            return output
        flat = hidden_states.reshape(-1, hidden_states.shape[-1])
        return self.packed(flat, self._packings.of(hidden_states), None, *given, **named).view(hidden_states.shape)

    def packed(self, hidden: Tensor, packing: Packing, wanted: Tensor | None, *given: Any, **named: Any) -> Tensor:
        """Return the output states of the T real tokens [T, d_model], or of the `wanted` ones, [n, d_model].

        Raises ModelError for an argument of the layer that is not known here.
        """
        maps, hidden = self._current(), hidden.float()
        call = _Call.of(maps, packing, given, named)
        projected = _NormAndMaps.apply(hidden, maps.attention_norm, maps.attention_in)  # type: ignore[no-untyped-call]
        mixed: Tensor = _Attention.apply(*projected, call)  # type: ignore[no-untyped-call]
        if wanted is not None:
            mixed, hidden = mixed[wanted], hidden[wanted]
        attended = _MapAndResidual.apply(mixed, hidden, maps.attention_out)  # type: ignore[no-untyped-call]
        finished: Tensor = _GatedMlp.apply(attended, maps)  # type: ignore[no-untyped-call]
        return finished

    def close(self) -> None:
        super().close()
        self._maps = None
        self._packings = _FullPackings()

    def _is_bare(self) -> bool:
        """Return True if the layer's modules are what they were, with no hook on them and no patch in them."""
        return (
            self.is_open
            and not any(self._inner_hooks)
            and all(tuple(module._modules.values()) == children for module, children in self._children)
            and not any("forward" in state and not isinstance(state["forward"], StandIn) for state in self._inner_state)
            and not all_modules_are_heard()
        )

    def _current(self) -> _Layer:
        """Return the weights as they are now."""
        stamps = tuple(stamp_of(held[name]) for held, name in self._parameters if held[name] is not None)
        if self._maps is None or stamps != self._weights:
            self._maps, self._weights = _Layer.of(self._layer, self._dtype), stamps
        return self._maps


POSITIONS, MASK, PAST = "position_embeddings", "attention_mask", ("cache", "past_key_values")
"""The names that transformers has for a layer's cosines and sines, its mask, and its past (`cache` from 5.24 on)."""
WITHOUT_EFFECT = frozenset({"position_ids", "cache_position", "use_cache"})
"""Arguments that repeat what cosines and sines, mask and past already say."""


@dataclass(frozen=True, slots=True)
class _Call:
    """The inputs of attention beside queries, keys and values."""

    layer: _Layer
    packing: Packing
    positions: tuple[Tensor, Tensor]  # cosines and sines, each [R or 1, width, d]
    mask: Tensor | None  # [R or 1, H or 1, width, seen], added or (boolean) true where a token sees; None for causal
    past: Any

    @staticmethod
    def of(layer: _Layer, packing: Packing, given: tuple[Any, ...], named: Mapping[str, Any]) -> _Call:
        """Return the call that a layer's arguments make.

        Raises ModelError for an argument that is not known or could mean something else.
        """
        unknown = [name for name in named if name not in (POSITIONS, MASK, *PAST, *WITHOUT_EFFECT)]
        unknown = [name for name in unknown if named[name] is not None and named[name] is not False]
        if given or unknown:
            raise _unexpected(layer, f"was called with {', '.join(unknown) or 'arguments without names'}")
        positions, mask = named.get(POSITIONS), named.get(MASK)
        if positions is None or any(turned.shape[-1] != layer.head_width for turned in positions):
            raise _unexpected(layer, f"got no cosines and sines of its heads' width, {layer.head_width}")
        if mask is not None and not (isinstance(mask, Tensor) and mask.ndim == 4 and _is_mask_dtype(mask.dtype)):
            raise _unexpected(layer, "got a mask that is not [batch, heads, width, seen], boolean or to be added")
        past = next((named[name] for name in PAST if named.get(name) is not None), None)
        return _Call(layer, packing, positions, mask, past)


def _is_mask_dtype(dtype: torch.dtype) -> bool:
    return dtype.is_floating_point or dtype == torch.bool


def _unexpected(layer: _Layer, problem: str) -> ModelError:
    return ModelError(
        f"layer {layer.index} {problem}, which cfbuild's fused layers do not know; a version of transformers that "
        "cfbuild was tested with (ARCHITECTURE.md) or another attention implementation may help"
    )


class _NormAndMaps(torch.autograd.Function):
    """RMSNorm and the linear maps after it: [T, d_model] -> [T, d_out] for each map."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, norm: _Norm, maps: Sequence[_Map]) -> tuple[Tensor, ...]:
        scale = norm.scale(inputs)
        ctx.save_for_backward(inputs, scale)
        ctx.norm, ctx.maps = norm, maps
        normed = norm.apply(inputs, scale).to(maps[0].dtype)
        return tuple(linear(normed).to(inputs.dtype) for linear in maps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        inputs, scale = ctx.saved_tensors
        return ctx.norm.back(inputs, scale, _back(ctx.maps, gradients, inputs.dtype)), None, None


class _MapAndResidual(torch.autograd.Function):
    """residual + inputs W^T: [T, d_in], [T, d_model] -> [T, d_model]."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, residual: Tensor, single: _Map) -> Tensor:
        ctx.map = single
        return single.add_to(inputs, residual)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        return ctx.map.back(gradient).to(gradient.dtype), gradient, None


class _GatedMlp(torch.autograd.Function):
    """x + down(silu(gate(norm(x))) * up(norm(x))): [T, d_model] -> [T, d_model]."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, layer: _Layer) -> Tensor:
        scale = layer.mlp_norm.scale(inputs)
        # What is between the maps stays in their number format: rounded once already, and half the bytes.
        normed = layer.mlp_norm.apply(inputs, scale).to(layer.mlp_out.dtype)
        gate, up = (linear(normed) for linear in layer.mlp_in)  # each [T, d_mlp]
        ctx.save_for_backward(inputs, scale, gate, up)
        ctx.layer = layer
        return layer.mlp_out.add_to(nn.functional.silu(gate).mul_(up), inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        inputs, scale, gate, up = ctx.saved_tensors
        layer: _Layer = ctx.layer
        product = layer.mlp_out.back(gradient)  # [T, d_mlp]
        of_up = nn.functional.silu(gate).mul_(product)
        of_gate = product.mul_(up)
        torch.ops.aten.silu_backward.grad_input(of_gate, gate, grad_input=of_gate)
        normed_gradient = _back(layer.mlp_in, (of_gate, of_up), inputs.dtype)
        return layer.mlp_norm.back(inputs, scale, normed_gradient).add_(gradient), None


class _Attention(torch.autograd.Function):
    """Rotary positions and grouped attention: queries [T, H d], keys and values [T, K d] -> [T, H d].

    Queries of the heads that share keys are rows of one product, so no key or value is repeated. Heads are taken from
    the real tokens to where products want them, and back, by one copy each (`_places`, `_tokens`).
    """

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, values: Tensor, call: _Call) -> Tensor:
        layer, packing = call.layer, call.packing
        if packing.is_shared and any(ctx.needs_input_grad):
            raise NotImplementedError("gradients of tokens that stand in several rows")
        rows, width, size = packing.rows, packing.width, layer.head_width
        heads, shared = queries.shape[1] // size, keys.shape[1] // size  # H, K
        turn, turn_and_scale = (_turns(packing, *call.positions, factor) for factor in (1.0, layer.scaling))
        to_queries, to_keys = _places(packing, heads), _places(packing, shared)
        queries = _gather(_rotated(queries, *turn_and_scale), to_queries, rows * shared)  # [R K, H / K * width, d]
        own = [
            _gather(_rotated(keys, *turn), to_keys, rows * shared),
            _gather(values.view(-1, size), to_keys, rows * shared),
        ]
        keys, values = own if call.past is None else _joined(call.past, own, rows, layer.index)  # [R K, seen, d]
        weights = torch.bmm(queries, keys.transpose(1, 2))  # [R K, H / K * width, seen]
        _hide(weights.view(rows, heads, width, -1), call)
        weights = _softmax(weights)
        if not packing.is_full:  # what a filler sees would have gradients
            weights.view(rows, heads, width, -1).mul_(packing.mask[:, None, :, None])
        ctx.save_for_backward(queries, keys, values, weights)
        ctx.shape, ctx.packing, ctx.turns = (width, heads, shared), packing, (turn_and_scale, turn)
        return _gather(torch.bmm(weights, values), _tokens(packing, heads), len(packing.real)).flatten(1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        queries, keys, values, weights = ctx.saved_tensors
        width, heads, shared = ctx.shape
        packing: Packing = ctx.packing
        count, size = len(gradient), queries.shape[-1]
        by_head = _gather(gradient.reshape(-1, size), _places(packing, heads), len(queries))
        reached = torch.bmm(by_head, values.transpose(1, 2))
        logits = torch.ops.aten._softmax_backward_data(reached, weights, -1, weights.dtype)
        here = slice(-width, None)  # earlier keys and values are frozen
        of_keys = torch.bmm(logits[:, :, here].transpose(1, 2), queries)
        of_values = torch.bmm(weights[:, :, here].transpose(1, 2), by_head)
        to_queries, to_keys = _tokens(packing, heads), _tokens(packing, shared)
        turned = _gather(torch.bmm(logits, keys), to_queries, count), _gather(of_keys, to_keys, count)
        of_projected = (_rotated_back(gradient, *turn) for gradient, turn in zip(turned, ctx.turns, strict=True))
        return *of_projected, _gather(of_values, to_keys, count).flatten(1), None


def _hide(logits: Tensor, call: _Call) -> None:
    """Lower attention's logits [R, H, width, seen] to about the lowest number where a token must not see another.

    Raises ModelError for a mask of other tokens than these.
    """
    mask, (width, seen) = call.mask, logits.shape[-2:]
    if mask is None:
        logits.add_(_causal(width, seen, logits))
        return
    if mask.shape[-2:] != (width, seen):
        raise _unexpected(call.layer, f"got a mask of {tuple(mask.shape[-2:])} for {(width, seen)} tokens")
    if mask.dtype == torch.bool:
        logits.masked_fill_(~mask, torch.finfo(logits.dtype).min)
    else:
        logits.add_(mask)


def _kept(packing: Packing, key: Hashable, make: Callable[[], Tensor]) -> Tensor:
    """Return the tensor that `make` returns, made once for a packing."""
    if key not in packing.derived:
        packing.derived[key] = make()
    tensor: Tensor = packing.derived[key]
    return tensor


def _turns(packing: Packing, cosine: Tensor, sine: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """Return cosines and sines of the real tokens times a factor, each [T, 1, d]; all layers of a pass share them."""
    of, turned = packing.derived.get(("turns", factor), (None, None))
    if of is None or of[0] is not cosine or of[1] is not sine:
        packed = (packing.pack(values.float().expand(packing.rows, -1, -1)) for values in (cosine, sine))
        turned = tuple(values[:, None] * factor for values in packed)
        packing.derived["turns", factor] = (cosine, sine), turned
    turned_cosine, turned_sine = turned
    return turned_cosine, turned_sine


def _rotated(vectors: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Return head vectors turned by rotary positions: [T, n d], [T, 1, d] -> [T, n, d].

    Turned are the pairs (i, i + d / 2) of each head.
    """
    heads = vectors.view(len(vectors), -1, cosine.shape[-1])
    half = heads.shape[-1] // 2
    turned = heads * cosine
    turned[..., :half].addcmul_(heads[..., half:], sine[..., :half], value=-1)
    turned[..., half:].addcmul_(heads[..., :half], sine[..., half:])
    return turned


def _rotated_back(gradient: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Return the gradient before `_rotated` from that after it: [T, n, d] -> [T, n d]."""
    half = gradient.shape[-1] // 2
    turned = gradient * cosine
    turned[..., :half].addcmul_(gradient[..., half:], sine[..., half:])
    turned[..., half:].addcmul_(gradient[..., :half], sine[..., :half], value=-1)
    return turned.flatten(1)


def _softmax(logits: Tensor) -> Tensor:
    """Return the softmax over the last dimension.

    Rows that fill no register take a CPU ten times as long, so they are filled.
    """
    missing = max(0, REGISTER - logits.shape[-1])
    filled = nn.functional.pad(logits, (0, missing), value=-torch.inf) if missing else logits
    return filled.softmax(dim=-1)[..., : logits.shape[-1]]


def _gather(vectors: Tensor, index: Tensor, count: int) -> Tensor:
    """Return the vectors at `index` of those in [..., d], as [count, len(index) / count, d]."""
    return vectors.view(-1, vectors.shape[-1]).index_select(0, index).view(count, -1, vectors.shape[-1])


def _places(packing: Packing, count: int) -> Tensor:
    """Return the indices of the vectors of [T, count, d] that fill [R, count, width, d]: [R count width].

    A filler gets a vector of its row.
    """

    def make() -> Tensor:
        heads = torch.arange(count, device=packing.source.device)
        return (packing.source.view(packing.rows, 1, -1) * count + heads[:, None]).flatten()

    return _kept(packing, ("places", count), make)


def _tokens(packing: Packing, count: int) -> Tensor:
    """Return the indices of the T real tokens' vectors in [R, count, width, d]: [T count]."""

    def make() -> Tensor:
        row, column = packing.real // packing.width, packing.real % packing.width
        heads = torch.arange(count, device=row.device)
        return ((row[:, None] * count + heads) * packing.width + column[:, None]).flatten()

    return _kept(packing, ("tokens", count), make)


def _joined(past: Any, own: Sequence[Tensor], rows: int, index: int) -> Sequence[Tensor]:
    """Return the keys and values that layer `index` sees, each [R K, seen, d]: the past's and `own` [R K, width, d]."""
    return [joined.flatten(0, 1) for joined in past.update(*(new.view(rows, -1, *new.shape[1:]) for new in own), index)]


def _causal(width: int, seen: int, like: Tensor) -> Tensor:
    """Return the mask that keeps a token from later ones: [width, seen], added to attention's logits."""
    return torch.full((width, seen), torch.finfo(like.dtype).min, dtype=like.dtype, device=like.device).triu(
        seen - width + 1
    )
