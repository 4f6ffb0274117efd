"""Tiny random models of every supported family, with a byte-level tokenizer trained on a few words."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from cfbuild.lm.families import family_of
from cfbuild.lm.model import LanguageModel
from cfbuild.store.files import sha256_text

WORDS = (
    "The capital city of France is Paris. The mother tongue of Danielle Darrieux is French. Berlin lies in Germany, "
    "Rome lies in Italy. She speaks English, German, Spanish and New Zealand English. His profession is actor is a "
)
SMALL = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 64}
GPT2_LIKE = {"n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": 128}
GROUPED = {**SMALL, "num_key_value_heads": 2, "head_dim": 8}
CONFIGS: dict[str, dict[str, Any]] = {
    "gpt2": GPT2_LIKE,
    "gptj": {**GPT2_LIKE, "rotary_dim": 4},
    "gpt_neox": {**SMALL, "rotary_pct": 0.25},
    "opt": {**SMALL, "ffn_dim": 64, "word_embed_proj_dim": 16},
    "llama": {**SMALL, "num_key_value_heads": 2},
    "mistral": {**SMALL, "num_key_value_heads": 2},
    "qwen2": {**SMALL, "num_key_value_heads": 2},
    "qwen3": GROUPED,
    "gemma": GROUPED,
    "gemma2": {**GROUPED, "query_pre_attn_scalar": 8},
    "gemma3_text": {**GROUPED, "query_pre_attn_scalar": 8},
}


@cache
def tokenizer(adds_bos: bool = False, padding_side: str = "right") -> PreTrainedTokenizerFast:
    """Return a byte-level BPE whose first special token is both beginning and end of text."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([WORDS], trainer)
    bpe.post_processor = (
        processors.TemplateProcessing(single="<|end|> $A", special_tokens=[("<|end|>", 0)])
        if adds_bos
        else processors.ByteLevel(trim_offsets=False)
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token="<|end|>",
        eos_token="<|end|>",
        pad_token="<|end|>",
        padding_side=padding_side,
    )


def make(
    model_type: str,
    *,
    adds_bos: bool = False,
    padding_side: str = "right",
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    **shape: Any,
) -> LanguageModel:
    """Return a random model of a family on the CPU; `shape` overrides its configuration."""
    words = tokenizer(adds_bos, padding_side)
    settings = {
        "vocab_size": len(words),
        "initializer_range": 0.2,
        "max_position_embeddings": 128,
        **CONFIGS[model_type],
        **shape,
    }
    config = AutoConfig.for_model(model_type, **settings)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    model.eval().requires_grad_(False)
    # What is kept of a model goes by its revision, which must tell these apart as it does real ones.
    revision = sha256_text(f"{config.to_json_string()} {dtype} {adds_bos}")[:12]
    return LanguageModel(model, words, family_of(model_type), f"tiny-{model_type}", None, f"random-{seed}-{revision}")


def digest(lm: LanguageModel) -> dict[str, bytes]:
    """Return every weight and buffer, bit for bit."""
    return {name: value.numpy().tobytes() for name, value in lm.model.state_dict().items()}
