"""Llama-like layers that run as four functions (`kernels.py`) instead of their modules.

Only calls whose modules, weights, hooks and arguments are known do; all others run the modules.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from cfbuild.lm.activations import one_pass_gelu
from cfbuild.lm.attention import short_attention
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
    """Run the `fusible_layers` fused while open, and the others with faster products and attention.

    narrow_from: layers from this one on, fused or not, and the output head multiply in bfloat16. A layer with a hook on
    itself or on a module of it runs its modules while the hook is there, so overlays and edits work as they do without
    fused layers. Contexts nest; threads take turns.
    """
    with lm.lock, ExitStack() as stack:
        depth = len(lm.layers)
        narrow = depth if narrow_from is None or lm.dtype != torch.float32 else narrow_from
        fusible, full_packing = fusible_layers(lm), _FullPacking()
        for index in fusible:
            dtype = torch.bfloat16 if index >= narrow else lm.dtype
            stand_in = _FusedLayer(lm.layers[index], dtype, full_packing, lm.libraries)
            stack.enter_context(standing_in(lm.layers[index], stand_in))
        others = sorted({*range(depth)} - {*fusible})
        stack.enter_context(fast_products(lm, others, narrow))
        stack.enter_context(one_pass_gelu(lm, others))
        stack.enter_context(short_attention(lm.device))
        yield


class _FullPacking:
    """The packing of rows without fillers, shared by all layers of a pass and by passes of the same shape."""

    def __init__(self) -> None:
        self._latest: dict[tuple[int, int], Packing] = {}

    def of(self, hidden: Tensor) -> Packing:
        """Return the packing of states [R, width, d_model]; that of the shape before is forgotten."""
        shape = hidden.shape[0], hidden.shape[1]
        if shape not in self._latest:
            self._latest = {shape: Packing.full(*shape, hidden.device)}
        return self._latest[shape]


class _FusedLayer(StandIn):
    """The `forward` of a fused layer, with the layer's own signature.

    Before each call it compares the layer with what it was made from: weights that have changed are read again, and if
    there is a hook or patch inside, or another module, the modules run.
    """

    def __init__(self, layer: Any, dtype: torch.dtype, full_packing: _FullPacking, libraries: Libraries) -> None:
        super().__init__(layer)
        self._layer, self._dtype, self._full_packing, self._libraries = layer, dtype, full_packing, libraries
        # What is checked before each call is found once: a pass checks a hundred times.
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
        """Return whether `packed` may be called now: no hook or patch, which it would not run, is on the layer."""
        return self._is_bare() and not any(hooks_of(self._layer))

    def __call__(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return the layer's output, [R, width, d_model] -> [R, width, d_model]."""
        if not self._is_bare():
            output: Tensor = self.before(hidden_states.to(self._layer.mlp.down_proj.weight.dtype), *args, **kwargs)
            return output
        flat = hidden_states.reshape(-1, hidden_states.shape[-1])
        return self.packed(flat, self._full_packing.of(hidden_states), None, None, *args, **kwargs).view(
            hidden_states.shape
        )

    def packed(
        self,
        hidden: Tensor,
        packing: Packing,
        at: Tensor | None,
        fixed: FixedOutputs | None,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        """Return the output states of the packed tokens, [T, d_model], or of those `at` [n], [n, d_model].

        hidden: [T, d_model]. fixed: outputs that the MLP or attention has instead of its own; `at` must be None then.
        Raises ModelError for an unknown argument of the layer.
        """
        maps, hidden = self._current(), hidden.float()
        call = _call_of(maps, packing, args, kwargs)
        projected = NormAndMaps.run(hidden, maps.attention_norm, maps.attention_in)
        mixed: Tensor = Attention.run(*projected, call)
        if at is not None:
            mixed, hidden = mixed[at], hidden[at]
        attended: Tensor = MapAndResidual.run(mixed, hidden, maps.attention_out)
        if fixed is not None and fixed.part != VALUE_PROJECTION:
            attended[fixed.at] = hidden[fixed.at] + fixed.values
        finished: Tensor = GatedMlp.run(attended, maps)
        if fixed is not None and fixed.part == VALUE_PROJECTION:
            finished[fixed.at] = attended[fixed.at] + fixed.values
        return finished

    def close(self) -> None:
        super().close()
        self._maps = None
        self._full_packing = _FullPacking()

    def _is_bare(self) -> bool:
        """Return whether the layer's modules are what they were, without hooks and patches."""
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
"""Arguments whose information is in cosines and sines, mask and past already."""


def _call_of(layer: LayerWeights, packing: Packing, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> AttentionCall:
    """Return attention's call from a layer's arguments. Raises ModelError for unknown arguments or forms of them."""
    known = (POSITIONS, MASK, *PAST, *WITHOUT_EFFECT)
    unknown = [name for name, value in kwargs.items() if name not in known and value is not None and value is not False]
    if args or unknown:
        raise unknown_call(layer, f"was called with {', '.join(unknown) or 'arguments without names'}")
    positions, mask = kwargs.get(POSITIONS), kwargs.get(MASK)
    if positions is None or any(part.shape[-1] != layer.head_width for part in positions):
        raise unknown_call(layer, f"got no cosines and sines of its heads' width, {layer.head_width}")
    if mask is not None and not (isinstance(mask, Tensor) and mask.ndim == 4 and _is_mask_dtype(mask.dtype)):
        raise unknown_call(layer, "got a mask that is not [batch, heads, width, seen], boolean or to be added")
    past = next((kwargs[name] for name in PAST if kwargs.get(name) is not None), None)
    return AttentionCall(layer, packing, positions, mask, past)


def _is_mask_dtype(dtype: torch.dtype) -> bool:
    return dtype.is_floating_point or dtype == torch.bool
