"""Random models of the paper's families, of about 120 million weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from benchmarks.world import World, rome_of
from cfbuild.lm.families import family_of
from cfbuild.lm.model import LanguageModel

SHAPES: Mapping[str, Mapping[str, Any]] = {
    "gpt2": {"n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024},
    "gptj": {"n_embd": 640, "n_layer": 12, "n_head": 10, "n_positions": 1024, "rotary_dim": 64},
    "gpt_neox": {
        **{"hidden_size": 640, "intermediate_size": 2560, "num_hidden_layers": 12, "num_attention_heads": 10},
        "max_position_embeddings": 1024,
    },
}
"""Configurations by family: the second and third have an output head of their own, so their layers are narrower."""


def random_world(world: World, family: str, seed: int = 0) -> World:
    """Return the same records and tokenizer with a random model of another family, its contexts and its C."""
    config = AutoConfig.for_model(family, vocab_size=len(world.lm.tokenizer), **SHAPES[family])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.eval().requires_grad_(False).to(world.lm.device)
    lm = LanguageModel(model, world.lm.tokenizer, family_of(family), f"random {family}", None, f"random-{seed}")
    return replace(world, lm=lm, rome=rome_of(lm, world.records, seed))
