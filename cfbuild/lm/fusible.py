"""Find the layers that may run fused by their modules and their configuration, never by their type's name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cfbuild.lm.hooks import has_anothers_forward
from cfbuild.lm.model import LanguageModel
from cfbuild.lm.notices import log_once

NORMS = ("input_layernorm", "post_attention_layernorm")
ATTENTION_MAPS = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP_MAPS = ("gate_proj", "up_proj", "down_proj")
ACTIVATION = "act_fn"
"""The names that transformers gives the parts of a Llama-like layer; with others, or more, it is another kind."""
SILU = ("silu", "swish")
"""The names that transformers gives x sigmoid(x)."""
ATTENTION_IMPLEMENTATIONS = ("eager", "sdpa")
"""Those by whose names transformers gives a layer its mask as a tensor [batch, heads, width, seen], or None: causal."""
LIBRARIES = ("torch.", "transformers.")
"""Packages whose modules' code is known: a class from anywhere else may compute anything."""
TOLERANCE, TOLERANCE_NARROW = 1e-4, 3e-2
"""Largest difference of a part from its formula, relative to the largest number: in float32, in 16 bits (of which 8 to
11 are precision)."""
CHILDREN = {
    "": frozenset({"self_attn", "mlp", *NORMS}),
    "self_attn": frozenset(ATTENTION_MAPS),
    "mlp": frozenset({*MLP_MAPS, ACTIVATION}),
}
"""The modules of a Llama-like layer, by the module that has them; "" is the layer itself."""


def fusible_layers(lm: LanguageModel) -> list[int]:
    """Return the indices of the layers that may run fused.

    None may in families whose layers are not Llama-like. Why a layer of another may not is logged once.
    """
    if not lm.family.is_llama_like:
        return []
    examination = _Examination()
    obstacles = [examination.obstacle(layer) for layer in lm.layers]
    for index, obstacle in enumerate(obstacles):
        if obstacle is not None:
            log_once(f"{lm.name}: layer {index} runs as its own modules do, which is slower: {obstacle}")
    return [index for index, obstacle in enumerate(obstacles) if obstacle is None]


class _Examination:
    """The examination of a model's layers. Each kind of norm and activation is tried once, not once a layer."""

    def __init__(self) -> None:
        self._norms: dict[tuple[type, float | None], bool] = {}
        self._activations: dict[type, bool] = {}
        self._has_known_code: dict[type[nn.Module], bool] = {}
        self._config_obstacles: dict[tuple[int, bool], str | None] = {}

    def obstacle(self, layer: Any) -> str | None:
        """Return the first reason why a layer cannot run fused, in words, or None."""
        return (
            _parts_obstacle(layer)
            or self._code_obstacle(layer)
            or _map_obstacle(layer.self_attn, ATTENTION_MAPS)
            or _map_obstacle(layer.mlp, MLP_MAPS)
            or self._config_obstacle(layer.self_attn)
            or next((f"{name} is no RMSNorm" for name in NORMS if not self._is_rms(layer._modules[name])), None)
            or (None if self._is_silu(layer.mlp) else f"its activation is {_kind(layer.mlp.act_fn)}, not SiLU")
        )

    def _code_obstacle(self, layer: nn.Module) -> str | None:
        for module in modules_of(layer):
            kind = type(module)
            if kind not in self._has_known_code:
                self._has_known_code[kind] = all(code.__module__.startswith(LIBRARIES) for code in (kind, kind.forward))
            if not self._has_known_code[kind]:
                return f"{_name_in(layer, module)} is a {_kind(module)}, whose code is not known"
            if has_anothers_forward(module):
                return f"{_name_in(layer, module)} has a forward that was patched in"
        return None

    def _config_obstacle(self, attention: Any) -> str | None:
        key = id(attention.config), attention.training  # layers share a configuration
        if key not in self._config_obstacles:
            self._config_obstacles[key] = _config_obstacle(attention)
        return self._config_obstacles[key]

    def _is_rms(self, norm: nn.Module) -> bool:
        eps = norm_epsilon(norm)
        key = type(norm), eps
        if key not in self._norms:
            self._norms[key] = eps is not None and set(norm._parameters) == {"weight"} and _acts_as_rms(norm, eps)
        return self._norms[key] and set(norm._parameters) == {"weight"}

    def _is_silu(self, mlp: Any) -> bool:
        kind = type(mlp.act_fn)
        if kind not in self._activations:
            self._activations[kind] = _acts_as_silu(mlp.act_fn, mlp.down_proj.weight.device)
        return self._activations[kind]


def modules_of(layer: nn.Module) -> list[nn.Module]:
    """Return a layer and all modules within it, as `modules()` does in three times the time."""
    found = [layer]
    for module in found:  # grows as it is read
        found.extend(child for child in module._modules.values() if child is not None)
    return found


def _name_in(layer: nn.Module, module: nn.Module) -> str:
    return next(name for name, inner in layer.named_modules() if inner is module) or "the layer"


def norm_epsilon(norm: Any) -> float | None:
    """Return the number that a norm adds to the mean square, or None if it has none by the names of transformers."""
    epsilon = getattr(norm, "variance_epsilon", getattr(norm, "eps", None))
    return float(epsilon) if isinstance(epsilon, float | int) else None


def _parts_obstacle(layer: nn.Module) -> str | None:
    for name, children in CHILDREN.items():
        module = layer._modules.get(name) if name else layer
        if module is None or module._modules.keys() != children:
            return f"its parts are not those of a Llama-like layer ({name or 'the layer'})"
        if module._parameters or module._buffers:
            return f"{name or 'the layer'} has weights of its own"
    return None


def _map_obstacle(module: nn.Module, names: Sequence[str]) -> str | None:
    maps = module._modules
    return next(
        (f"{name} is a {_kind(maps[name])}, not a Linear" for name in names if not _is_linear(maps[name])), None
    )


def _is_linear(module: Any) -> bool:
    return type(module) is nn.Linear and module.weight.is_floating_point() and not module.weight.is_meta


def _config_obstacle(attention: Any) -> str | None:
    config = attention.config
    if getattr(config, "hidden_act", None) not in SILU:
        return f"its configuration's activation is {getattr(config, 'hidden_act', None)}, not SiLU"
    implementation = getattr(config, "_attn_implementation", None)
    if implementation not in ATTENTION_IMPLEMENTATIONS:
        return f"its attention implementation is {implementation}, not {' or '.join(ATTENTION_IMPLEMENTATIONS)}"
    if attention.training and attention.attention_dropout:
        return "it is in training, with dropout"
    return None


@torch.no_grad()
def _acts_as_rms(norm: Any, eps: float) -> bool:
    """Return whether the norm of large and of small vectors is x / sqrt(mean(x^2) + eps) * gain."""
    gain: Tensor = norm.weight
    vectors = torch.linspace(-1, 2, len(gain), device=gain.device, dtype=torch.float32)
    inputs = torch.stack((vectors, vectors * eps**0.5)).to(gain.dtype)
    wide = inputs.float()
    expected = wide * (wide.square().mean(dim=-1, keepdim=True) + eps).rsqrt() * gain.float()
    return _is_close(type(norm).forward(norm, inputs), expected)  # not by a call, which would run hooks


@torch.no_grad()
def _acts_as_silu(activation: Any, device: torch.device) -> bool:
    if not isinstance(activation, nn.Module) or next(activation.parameters(), None) is not None:
        return False
    inputs = torch.linspace(-8, 8, 33, device=device, dtype=torch.float32)
    return _is_close(type(activation).forward(activation, inputs), nn.functional.silu(inputs))


def _is_close(outputs: Any, expected: Tensor) -> bool:
    if not isinstance(outputs, Tensor) or outputs.shape != expected.shape:
        return False
    tolerance = TOLERANCE if outputs.dtype == torch.float32 else TOLERANCE_NARROW
    return torch.allclose(outputs.float(), expected, rtol=tolerance, atol=tolerance * float(expected.abs().max()))


def _kind(module: Any) -> str:
    return type(module).__name__
