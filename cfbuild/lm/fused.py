"""Llama-like layers that run as four functions (`kernels`) in place of their modules, while that is right.

Here is decided which calls do: those whose modules, weights, hooks and arguments are known. All others run as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from cfbuild.lm.activations import one_pass_gelu
from cfbuild.lm.batch import FixedOutputs, Packing
from cfbuild.lm.families import VALUE_PROJECTION
from cfbuild.lm.fusible import fusible_layers, modules_of
from cfbuild.lm.hooks import StandIn, has_global_hooks, hooks_of, standing_in
from cfbuild.lm.kernels import (
    Attention,
    AttentionCall,
    GatedMlp,
    LayerWeights,
    MapAndResidual,
    NormAndMaps,
    unknown_call,
)
from cfbuild.lm.libraries import Libraries
from cfbuild.lm.model import LanguageModel
from cfbuild.lm.products import fast_products, stamp_of


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
            dtype = torch.bfloat16 if index >= narrow else lm.dtype
            stand_in = _FusedLayer(lm.layers[index], dtype, packings, lm.libraries)
            stack.enter_context(standing_in(lm.layers[index], stand_in))
        others = sorted({*range(depth)} - {*fusible})
        stack.enter_context(fast_products(lm, others, narrow))
        stack.enter_context(one_pass_gelu(lm, others))
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


class _FusedLayer(StandIn):
    """The `forward` of a fused layer, with the layer's own signature.

    Before each call it checks that the layer is still what it was made from: weights that have changed are read again,
    and with a hook or a patch inside, or another module, the layer runs as it is.
    """

    def __init__(self, layer: Any, dtype: torch.dtype, packings: _FullPackings, libraries: Libraries) -> None:
        super().__init__(layer)
        self._layer, self._dtype, self._packings, self._libraries = layer, dtype, packings, libraries
        # Everything that is checked before each call is found once: a pass checks a hundred times.
        modules = modules_of(layer)
        inner = modules[1:]
        self._children = [(module, tuple(module._modules.values())) for module in modules if module._modules]
        self._inner_state = [module.__dict__ for module in inner]
        self._inner_hooks = [hooks for module in inner for hooks in hooks_of(module)]
        self._parameters = [(module._parameters, name) for module in inner for name in module._parameters]
        self._weights: tuple[tuple[int, int], ...] = ()
        self._maps: LayerWeights | None = None

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
        return self.packed(flat, self._packings.of(hidden_states), None, None, *given, **named).view(
            hidden_states.shape
        )

    def packed(
        self,
        hidden: Tensor,
        packing: Packing,
        wanted: Tensor | None,
        fixed: FixedOutputs | None,
        *given: Any,
        **named: Any,
    ) -> Tensor:
        """Return the output states of the T real tokens [T, d_model], or of the `wanted` ones, [n, d_model].

        The MLP or attention has the outputs of `fixed`, if any; `wanted` is None then. Raises ModelError for
        an argument of the layer that is not known here.
        """
        maps, hidden = self._current(), hidden.float()
        call = _call_of(maps, packing, given, named)
        projected = NormAndMaps.apply(hidden, maps.attention_norm, maps.attention_in)  # type: ignore[no-untyped-call]
        mixed: Tensor = Attention.apply(*projected, call)  # type: ignore[no-untyped-call]
        if wanted is not None:
            mixed, hidden = mixed[wanted], hidden[wanted]
        attended: Tensor = MapAndResidual.apply(mixed, hidden, maps.attention_out)  # type: ignore[no-untyped-call]
        if fixed is not None and fixed.part != VALUE_PROJECTION:
            attended[fixed.at] = hidden[fixed.at] + fixed.values
        finished: Tensor = GatedMlp.apply(attended, maps)  # type: ignore[no-untyped-call]
        if fixed is not None and fixed.part == VALUE_PROJECTION:
            finished[fixed.at] = attended[fixed.at] + fixed.values
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
            and not has_global_hooks()
        )

    def _current(self) -> LayerWeights:
        """Return the weights as they are now."""
        weights = (parameters[name] for parameters, name in self._parameters)
        stamps = tuple(stamp_of(weight) for weight in weights if weight is not None)
        if self._maps is None or stamps != self._weights:
            self._maps, self._weights = LayerWeights.of(self._layer, self._dtype, self._libraries), stamps
        return self._maps


POSITIONS, MASK, PAST = "position_embeddings", "attention_mask", ("cache", "past_key_values")
"""The names that transformers has for a layer's cosines and sines, its mask, and its past (`cache` from 5.24 on)."""
WITHOUT_EFFECT = frozenset({"position_ids", "cache_position", "use_cache"})
"""Arguments that repeat what cosines and sines, mask and past already say."""


def _call_of(layer: LayerWeights, packing: Packing, given: tuple[Any, ...], named: Mapping[str, Any]) -> AttentionCall:
    """Return the call that a layer's arguments make.

    Raises ModelError for an argument that is not known or could mean something else.
    """
    unknown = [name for name in named if name not in (POSITIONS, MASK, *PAST, *WITHOUT_EFFECT)]
    unknown = [name for name in unknown if named[name] is not None and named[name] is not False]
    if given or unknown:
        raise unknown_call(layer, f"was called with {', '.join(unknown) or 'arguments without names'}")
    positions, mask = named.get(POSITIONS), named.get(MASK)
    if positions is None or any(turned.shape[-1] != layer.head_width for turned in positions):
        raise unknown_call(layer, f"got no cosines and sines of its heads' width, {layer.head_width}")
    if mask is not None and not (isinstance(mask, Tensor) and mask.ndim == 4 and _is_mask_dtype(mask.dtype)):
        raise unknown_call(layer, "got a mask that is not [batch, heads, width, seen], boolean or to be added")
    past = next((named[name] for name in PAST if named.get(name) is not None), None)
    return AttentionCall(layer, packing, positions, mask, past)


def _is_mask_dtype(dtype: torch.dtype) -> bool:
    return dtype.is_floating_point or dtype == torch.bool
