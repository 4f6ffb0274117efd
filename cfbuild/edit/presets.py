"""Settings of editors for known models: layers and hyperparameters of the released hparams files.

Those of SmolLM2-135M are cfbuild's own (docs/editors.md says how they were found).
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from cfbuild.errors import ConfigError

ROME: Mapping[str, Mapping[str, Any]] = {
    "smollm2-135m": {"layer": 4},
    "gpt2-medium": {"layer": 8, "clamp_norm_factor": 3.0},
    "gpt2-large": {"layer": 12},
    "gpt2-xl": {"layer": 17},
    "gpt-j-6b": {"layer": 5},
}
SETTINGS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "rome": ROME,
    "rome-fast": ROME,
    "memit": {
        "smollm2-135m": {"layer": 5, "layers": 3, "covariance_weight": 5000.0},
        "gpt2-xl": {"layer": 17, "layers": 5, "covariance_weight": 20000.0},
        "gpt-j-6b": {"layer": 8, "layers": 6, "covariance_weight": 15000.0, "steps": 25},
    },
    "alphaedit": {
        "smollm2-135m": {"layer": 5, "layers": 3},
        "gpt2-xl": {"layer": 17, "layers": 5, "nullspace_threshold": 2e-2},
        "gpt-j-6b": {"layer": 8, "layers": 6, "nullspace_threshold": 2e-2, "steps": 25},
    },
    "ultraedit": {
        "smollm2-135m": {"weights": "mlp_out:18-26", "learning_rate": 3e-4},
        "gpt-j-6b": {"weights": "mlp_out:18-26"},
    },
    "ft": {"gpt2-xl": {"layer": 1}, "gpt-j-6b": {"layer": 21}},
    "ft-l": {
        "smollm2-135m": {"layer": 0, "norm_constraint": 2e-3},
        "gpt2-medium": {"layer": 0, "norm_constraint": 2e-3},
        "gpt2-large": {"layer": 0, "norm_constraint": 1e-3},
        "gpt2-xl": {"layer": 0, "norm_constraint": 5e-4},
        "gpt-j-6b": {"layer": 0, "norm_constraint": 5e-5},
    },
    "ft-m": {"gpt-j-6b": {"layer": 21}},
}
"""Settings that differ from the defaults of the editor's options, by editor and model preset."""

TRAINED_PARTS: Mapping[str, tuple[str, ...]] = {"gpt-j-6b": ("mlp_in", "mlp_out")}
"""The order of an MLP's matrices in MEND's released configuration, where it is not GPT-2's, the second one first."""

DEPTH_OF_EDIT = 0.2
"""The share of the depth at which an edit is made if no preset names a layer: between the presets' 0.13 and 0.35."""

DEPTHS = {"ft-m": 21 / 32}
"""The same for editors that do not edit where ROME does: FT-M's layer in LLaMA-7B, as EasyEdit sets it."""

AUTO_LAYER = "auto"
"""The value of --layer that stands for the layer that a sweep of the model found."""
EDITORS_AT_ROMES_LAYER = ("rome", "rome-fast", "emmet", "memit", "alphaedit")
"""Editors that --layer auto suits: a sweep finds ROME's layer, which is the top layer of memit's and alphaedit's."""


def preset_settings(editor: str, preset: str | None, depth: int) -> dict[str, Any]:
    """Return an editor's settings for a model: those of SETTINGS, and a layer in any case.

    preset: the model's short name, None for a model without presets. depth: its number of layers. If SETTINGS has no
    layer, it is DEPTHS' share of the depth, else the layer that ROME edits, else DEPTH_OF_EDIT of the depth.
    """
    layer = ROME.get(preset or "", {}).get("layer", round(DEPTH_OF_EDIT * depth))
    if editor in DEPTHS:
        layer = round(DEPTHS[editor] * depth)
    return {"layer": layer, **SETTINGS.get(editor, {}).get(preset or "", {})}


def trained_parts(preset: str | None, parts: Container[str]) -> tuple[str, ...]:
    """Return the matrices of an MLP that trained editors change, in the order of their learned rates.

    preset: the model's short name. parts: its family's. A gated MLP's order is that of EasyEdit's Llama.
    """
    if "mlp_gate" in parts:
        return "mlp_gate", "mlp_in", "mlp_out"
    return TRAINED_PARTS.get(preset or "", ("mlp_out", "mlp_in"))


def check_layer(layer: int, depth: int) -> int:
    """Return `layer`. Raises ConfigError for one that a model of `depth` layers does not have."""
    if not 0 <= layer < depth:
        raise ConfigError(f"layer {layer} does not exist; the model has layers 0 to {depth - 1}")
    return layer
