"""A Llama-like layer as four functions with gradients written by hand: the same sums in fewer passes.

A layer is: RMSNorm, queries, keys and values, rotary positions, grouped attention, output and residual; RMSNorm, gated
MLP and residual. Run as modules it is some sixty operations, each of which reads and writes every activation, and as
many again backwards. Weights are frozen, so only the gradient in the input is computed. Activations and sums are
float32 in every model; products are in the weights' number format, or in bfloat16.

Shapes: T packed tokens of R rows, H query heads, K heads of keys and values, d numbers a head; `width` tokens of a row,
`seen` tokens that they can see, those of a past included.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cfbuild.errors import ModelError
from cfbuild.lm.batch import Packing
from cfbuild.lm.fusible import norm_epsilon
from cfbuild.lm.libraries import X86, Libraries
from cfbuild.lm.linear import LinearMap

REGISTER = 16
"""Float32 numbers that a CPU's widest registers hold."""


def _back(maps: Sequence[LinearMap], gradients: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """Return the gradient in the input that several maps share, [T, d_in]."""
    total: Tensor | None = None
    for linear, gradient in zip(maps, gradients, strict=True):
        total = linear.back(gradient, total)
    assert total is not None
    return total.to(dtype)


@dataclass(frozen=True, slots=True)
class RmsNorm:
    """RMSNorm: x / sqrt(mean(x^2) + eps) * gain. `inputs` and gradients are [T, d_model], `scale` is [T, 1]."""

    gain: Tensor
    eps: float

    @staticmethod
    def of(module: Any) -> RmsNorm:
        """Return the norm that a module computes."""
        eps = norm_epsilon(module)
        assert eps is not None
        return RmsNorm(module.weight.detach().float(), eps)

    def scale(self, inputs: Tensor) -> Tensor:
        """Return 1 / sqrt(mean(x^2) + eps) of the inputs."""
        mean_square: Tensor = torch.linalg.vector_norm(inputs, dim=-1).square_().div_(inputs.shape[-1])
        return mean_square.add_(self.eps).rsqrt_()[:, None]

    def apply(self, inputs: Tensor, scale: Tensor) -> Tensor:
        """Return the norm's output."""
        return (inputs * scale).mul_(self.gain)

    def back(self, inputs: Tensor, scale: Tensor, gradient: Tensor) -> Tensor:
        """Return the gradient in the input from that in the output, `gradient`, which is overwritten."""
        gradient.mul_(self.gain)
        overlap = torch.linalg.vecdot(gradient, inputs)[:, None].mul_(scale**2 / inputs.shape[-1])
        return gradient.addcmul_(inputs, overlap, value=-1).mul_(scale)


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """A layer's weights by role. head_width: d. index: the number by which a past knows the layer."""

    attention_norm: RmsNorm
    attention_in: tuple[LinearMap, LinearMap, LinearMap]  # queries, keys, values
    attention_out: LinearMap
    mlp_norm: RmsNorm
    mlp_in: tuple[LinearMap, LinearMap]  # gate, up
    mlp_out: LinearMap
    head_width: int
    scaling: float
    index: int

    @staticmethod
    def of(layer: Any, dtype: torch.dtype, libraries: Libraries) -> LayerWeights:
        """Return the weights of a layer's modules in the number format `dtype`."""
        attention, mlp = layer.self_attn, layer.mlp

        def linear(module: Any) -> LinearMap:
            return LinearMap.of(module, dtype, libraries)

        return LayerWeights(
            attention_norm=RmsNorm.of(layer.input_layernorm),
            attention_in=(linear(attention.q_proj), linear(attention.k_proj), linear(attention.v_proj)),
            attention_out=linear(attention.o_proj),
            mlp_norm=RmsNorm.of(layer.post_attention_layernorm),
            mlp_in=(linear(mlp.gate_proj), linear(mlp.up_proj)),
            mlp_out=linear(mlp.down_proj),
            head_width=attention.head_dim,
            scaling=attention.scaling,
            index=attention.layer_idx,
        )


@dataclass(frozen=True, slots=True)
class AttentionCall:
    """The arguments of attention besides queries, keys and values. past: with the interface of `Past`, or None."""

    layer: LayerWeights
    packing: Packing
    positions: tuple[Tensor, Tensor]  # cosines and sines, each [R or 1, width, d]
    mask: Tensor | None  # [R or 1, H or 1, width, seen], added or (boolean) true where a token sees; None for causal
    past: Any


def unknown_call(layer: LayerWeights, problem: str) -> ModelError:
    """Return the error for a call of a layer that fused layers do not know. problem: words behind "layer N"."""
    return ModelError(
        f"layer {layer.index} {problem}, which cfbuild's fused layers do not know; a version of transformers that "
        "cfbuild was tested with (ARCHITECTURE.md) or another attention implementation may help"
    )


class _Forgetful:
    """The context of a function that runs without gradients: it keeps nothing that is saved for them."""

    needs_input_grad = ()

    def save_for_backward(self, *tensors: Tensor) -> None:
        """Keep no tensor."""


class _Function(torch.autograd.Function):
    """A function of a layer with its gradient."""

    @classmethod
    def run(cls, *inputs: Any) -> Any:
        """Return the function's outputs. Where gradients are off, autograd's preparations are left out."""
        if torch.is_grad_enabled():
            return cls.apply(*inputs)  # type: ignore[no-untyped-call]
        return cls.forward(_Forgetful(), *inputs)


class NormAndMaps(_Function):
    """RMSNorm and the linear maps after it: [T, d_model] -> [T, d_out] for each map."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, norm: RmsNorm, maps: Sequence[LinearMap]) -> tuple[Tensor, ...]:
        scale = norm.scale(inputs)
        ctx.save_for_backward(inputs, scale)
        ctx.norm, ctx.maps = norm, maps
        normed = norm.apply(inputs, scale).to(maps[0].dtype)
        return tuple(linear(normed).to(inputs.dtype) for linear in maps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        inputs, scale = ctx.saved_tensors
        return ctx.norm.back(inputs, scale, _back(ctx.maps, gradients, inputs.dtype)), None, None


class MapAndResidual(_Function):
    """residual + inputs W^T: [T, d_in], [T, d_model] -> [T, d_model]."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, residual: Tensor, single: LinearMap) -> Tensor:
        ctx.map = single
        return single.add_to(inputs, residual)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        return ctx.map.back(gradient).to(gradient.dtype), gradient, None


class GatedMlp(_Function):
    """x + down(silu(gate(norm(x))) * up(norm(x))): [T, d_model] -> [T, d_model]."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, layer: LayerWeights) -> Tensor:
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
        layer: LayerWeights = ctx.layer
        product = layer.mlp_out.back(gradient)  # [T, d_mlp]
        of_up = nn.functional.silu(gate).mul_(product)
        of_gate = product.mul_(up)
        torch.ops.aten.silu_backward.grad_input(of_gate, gate, grad_input=of_gate)
        normed_gradient = _back(layer.mlp_in, (of_gate, of_up), inputs.dtype)
        return layer.mlp_norm.back(inputs, scale, normed_gradient).add_(gradient), None


class Attention(_Function):
    """Rotary positions and grouped attention: queries [T, H d], keys and values [T, K d] -> [T, H d].

    Queries of the heads that share keys are rows of one product, so no key or value is repeated. Heads get from packed
    tokens [T, heads, d] to padded rows [R, heads, width, d], and back, by one copy each (`_padded_order`,
    `_packed_order`).
    """

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, values: Tensor, call: AttentionCall) -> Tensor:
        layer, packing = call.layer, call.packing
        if packing.is_shared and any(ctx.needs_input_grad):
            raise NotImplementedError("gradients of tokens that are in several rows")
        rows, width, size = packing.rows, packing.width, layer.head_width
        heads, key_heads = queries.shape[1] // size, keys.shape[1] // size  # H, K
        rotation, scaled_rotation = (_rotation(packing, *call.positions, factor) for factor in (1.0, layer.scaling))
        order, key_order = _padded_order(packing, heads), _padded_order(packing, key_heads)
        queries = _gather(_rotated(queries, *scaled_rotation), order, rows * key_heads)  # [R K, H / K * width, d]
        own = [
            _gather(_rotated(keys, *rotation), key_order, rows * key_heads),
            _gather(values.view(-1, size), key_order, rows * key_heads),
        ]
        keys, values = own if call.past is None else _joined(call.past, own, rows, layer.index)  # [R K, seen, d]
        weights = torch.bmm(queries, keys.transpose(1, 2))  # [R K, H / K * width, seen]
        _hide(weights.view(rows, heads, width, -1), call)
        weights = softmax_in_registers(weights)
        if not packing.is_full:  # else what a filler sees would have gradients
            weights.view(rows, heads, width, -1).mul_(packing.mask[:, None, :, None])
        ctx.save_for_backward(queries, keys, values, weights)
        ctx.shape, ctx.packing, ctx.rotations = (width, heads, key_heads), packing, (scaled_rotation, rotation)
        mixed = weighted_sums(weights, values, packing)
        return _gather(mixed, _packed_order(packing, heads), len(packing.real)).flatten(1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        queries, keys, values, weights = ctx.saved_tensors
        width, heads, key_heads = ctx.shape
        packing: Packing = ctx.packing
        count, size = len(gradient), queries.shape[-1]
        # Each name from here on is the gradient in what it names.
        outputs = _gather(gradient.reshape(-1, size), _padded_order(packing, heads), len(queries))
        shares = torch.bmm(outputs, values.transpose(1, 2))
        logits = torch.ops.aten._softmax_backward_data(shares, weights, -1, weights.dtype)
        own = slice(-width, None)  # earlier keys and values are frozen
        own_keys = torch.bmm(logits[:, :, own].transpose(1, 2), queries)
        own_values = torch.bmm(weights[:, :, own].transpose(1, 2), outputs)
        order, key_order = _packed_order(packing, heads), _packed_order(packing, key_heads)
        rotated = _gather(torch.bmm(logits, keys), order, count), _gather(own_keys, key_order, count)
        unrotated = (_rotated_back(vectors, *turn) for vectors, turn in zip(rotated, ctx.rotations, strict=True))
        return *unrotated, _gather(own_values, key_order, count).flatten(1), None


def _hide(logits: Tensor, call: AttentionCall) -> None:
    """Lower attention's logits [R, H, width, seen] to about the lowest number where a token must not see another.

    Raises ModelError for a mask of another shape.
    """
    mask, (width, seen) = call.mask, logits.shape[-2:]
    lowest = torch.finfo(logits.dtype).min
    if mask is None:
        causal = torch.full((width, seen), lowest, dtype=logits.dtype, device=logits.device).triu(seen - width + 1)
        logits.add_(causal)
        return
    if mask.shape[-2:] != (width, seen):
        raise unknown_call(call.layer, f"got a mask of {tuple(mask.shape[-2:])} for {(width, seen)} tokens")
    if mask.dtype == torch.bool:
        logits.masked_fill_(~mask, lowest)
    else:
        logits.add_(mask)


def _made_once(packing: Packing, key: Hashable, make: Callable[[], Tensor]) -> Tensor:
    """Return the tensor that `make` returns, made at the first call for a packing and a key."""
    if key not in packing.derived:
        packing.derived[key] = make()
    tensor: Tensor = packing.derived[key]
    return tensor


def _rotation(packing: Packing, cosine: Tensor, sine: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """Return cosines and sines of the packed tokens times a factor, each [T, 1, d]; all layers of a pass share them.

    cosine, sine: [R or 1, width, d].
    """
    made_from, scaled = packing.derived.get(("rotation", factor), (None, None))
    if made_from is None or made_from[0] is not cosine or made_from[1] is not sine:
        packed = (packing.pack(values.float().expand(packing.rows, -1, -1)) for values in (cosine, sine))
        scaled = tuple(values[:, None] * factor for values in packed)
        packing.derived["rotation", factor] = (cosine, sine), scaled
    scaled_cosine, scaled_sine = scaled
    return scaled_cosine, scaled_sine


def _rotated(vectors: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Return head vectors rotated by their positions, the pair (i, i + d / 2) of each: [T, n d] -> [T, n, d]."""
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


def softmax_in_registers(logits: Tensor) -> Tensor:
    """Return the softmax over the last dimension; rows too short for a register, ten times as slow, are filled up."""
    missing = max(0, REGISTER - logits.shape[-1])
    filled = nn.functional.pad(logits, (0, missing), value=-torch.inf) if missing else logits
    return filled.softmax(dim=-1)[..., : logits.shape[-1]]


def weighted_sums(weights: Tensor, values: Tensor, packing: Packing) -> Tensor:
    """Return weights values: [B, rows, seen], [B, seen, d] -> [B, rows, d].

    Where texts are written on an x86 CPU, a few rows share many values: as bags of an embedding, which torch sums in
    registers, they take 0.6 to 0.7 of the product's time.
    """
    batch, seen, size = values.shape
    if packing.width > 1 or not _are_places_of_a_table(values):
        return torch.bmm(weights, values)
    step = values.stride(0) // size
    table = values.as_strided(((batch - 1) * step + seen, size), (size, 1))
    kept = packing.derived.get("places")
    if kept is None or kept[0] != (weights.shape, step):
        first = torch.arange(0, batch * step, step, dtype=torch.int32)[:, None, None]
        places = (first + torch.arange(seen, dtype=torch.int32)).expand(weights.shape).reshape(-1, seen)
        kept = packing.derived["places"] = (weights.shape, step), places
    sums = nn.functional.embedding_bag(kept[1], table, mode="sum", per_sample_weights=weights.reshape(-1, seen))
    return sums.view(batch, -1, size)


def _are_places_of_a_table(values: Tensor) -> bool:
    """Return whether values [B, seen, d] are rows of a matrix, B times `seen` in a line, in an x86 CPU's memory."""
    size = values.shape[2]
    is_here = values.device.type == "cpu" and values.dtype == torch.float32 and platform.machine() in X86
    return is_here and values.stride()[1:] == (size, 1) and values.stride(0) % size == 0


def _gather(vectors: Tensor, index: Tensor | None, count: int) -> Tensor:
    """Return the vectors at the places `index` (None: all, in order) of [..., d], as [count, len(index) / count, d]."""
    flat = vectors.view(-1, vectors.shape[-1])
    return (flat if index is None else flat.index_select(0, index)).view(count, -1, vectors.shape[-1])


def _has_one_order(packing: Packing) -> bool:
    """Return whether packed and padded vectors of heads are the same in the same order, as where texts are written."""
    return packing.width == 1 and packing.is_full


def _padded_order(packing: Packing, count: int) -> Tensor | None:
    """Return the places in [T, count, d] of the vectors that fill [R, count, width, d], [R count width].

    A filler gets a vector of its row. None for all places in order. count: of heads.
    """
    if _has_one_order(packing):
        return None

    def make() -> Tensor:
        heads = torch.arange(count, device=packing.source.device)
        return (packing.source.view(packing.rows, 1, -1) * count + heads[:, None]).flatten()

    return _made_once(packing, ("padded order", count), make)


def _packed_order(packing: Packing, count: int) -> Tensor | None:
    """Return the places in [R, count, width, d] of the packed tokens' vectors, [T count]; None for all in order.

    count: of heads.
    """
    if _has_one_order(packing):
        return None

    def make() -> Tensor:
        row, column = packing.real // packing.width, packing.real % packing.width
        heads = torch.arange(count, device=row.device)
        return ((row[:, None] * count + heads) * packing.width + column[:, None]).flatten()

    return _made_once(packing, ("packed order", count), make)


def _joined(past: Any, own: Sequence[Tensor], rows: int, index: int) -> Sequence[Tensor]:
    """Return the keys and values that layer `index` sees, [R K, seen, d] each: the past's, then `own`."""
    return [joined.flatten(0, 1) for joined in past.update(*(new.view(rows, -1, *new.shape[1:]) for new in own), index)]
