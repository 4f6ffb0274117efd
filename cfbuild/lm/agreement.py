"""Checks of a model before it is used; each raises a ModelError that names the part at fault.

The tokenizer must return the text that it got; no layer may share its weights; and run by its parts, plain and fused,
the model must return the logits that it returns as a whole.
"""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from typing import Any

import torch
from torch import Tensor

from cfbuild.errors import ModelError
from cfbuild.lm.batch import Batch, Past, additive_mask, left_padded
from cfbuild.lm.forward import Trace, remember, replay, states_in, trace, trace_below
from cfbuild.lm.fused import fused_layers
from cfbuild.lm.model import LanguageModel
from cfbuild.lm.trust import is_own_code

AGREEMENT, AGREEMENT_NARROW = 1e-3, 5e-2
"""Largest difference between two ways to run a model, relative to the largest number: in float32, in 16 bits."""
TOKENS, HALF = 6, 3
"""Tokens that the parts are tried on (the first ids, which every vocabulary has), and how many of them are a past."""
ROUND_TRIP = (
    "The capital city of France is Paris",
    "She speaks New Zealand English, isn't it? Yes: in 1990 , too .",
    "two  spaces\tand Zoë Ångström",
)
"""Texts with what some tokenizers lose: spaces, also before marks, capitals, accents (composed, as in NFC)."""


def check_model(lm: LanguageModel) -> None:
    """Raise ModelError if the model would return wrong numbers or texts."""
    check_weights(lm)
    check_tokenizer(lm)
    check_parts(lm)


def check_weights(lm: LanguageModel) -> None:
    """Raise ModelError if a layer shares a weight with another part."""
    ends = {"the embedding": lm.model.get_input_embeddings(), "the head": lm.model.get_output_embeddings()}
    seen: dict[int, str] = {}
    for part, module in (*ends.items(), *((f"layer {index}", layer) for index, layer in enumerate(lm.layers))):
        for name, weight in module.named_parameters():
            owner = seen.setdefault(weight.data_ptr(), f"{part}, {name}")
            if part not in ends and owner != f"{part}, {name}" and weight.numel():
                raise ModelError(
                    f"{lm.name}: one weight is both {owner} and {part}, {name}; an edit of either changes both"
                )


def check_tokenizer(lm: LanguageModel) -> None:
    """Raise ModelError unless decoding returns the text that was encoded."""
    for text in ROUND_TRIP:
        ids = lm.encode(text)
        back = lm.tokenizer.decode(ids, skip_special_tokens=True)
        if back != text:
            raise ModelError(
                f"{lm.name}: its tokenizer's decode gives back {back!r} for {text!r}; prompts could not be told from "
                "what the model writes after them"
            )


@torch.no_grad()
def check_parts(lm: LanguageModel) -> None:
    """Raise ModelError unless the model, run by its parts, plain and fused, returns the logits of the whole."""
    ids = tuple(range(TOKENS))
    whole = lm.model(input_ids=torch.tensor([ids], device=lm.device)).logits[0, HALF:].float()
    traced = _trace_of_second_half(lm, ids)
    for way in ("plain", "fused"):
        with fused_layers(lm) if way == "fused" else nullcontext():
            parts = lm.logits(replay(lm, traced)[0])
        if not _agree(lm, parts, whole):
            subject = "its code" if is_own_code(lm.model) else "it"
            raise ModelError(
                f"{lm.name}: run by its parts, {subject} gives other logits than as a whole (first different: "
                f"{_culprit(lm, ids, way)}, {way}); cfbuild cannot score it"
            )


def _trace_of_second_half(lm: LanguageModel, ids: tuple[int, ...]) -> Trace:
    """Return the trace of the tokens from HALF on, with those before as their past."""
    past = Past(len(lm.layers), len(ids))
    remember(lm, *left_padded([ids[:HALF]], lm), past)
    visible = torch.ones(len(ids), len(ids), dtype=torch.bool, device=lm.device).tril()[None, HALF:]
    positions = torch.arange(HALF, len(ids), device=lm.device)[None]
    rest = Batch(torch.tensor([ids[HALF:]], device=lm.device), positions, additive_mask(visible, lm.dtype))
    return trace_below(lm, rest, 0, 1, past=past)  # the layers above the first need not run for it


def _agree(lm: LanguageModel, got: Tensor, expected: Tensor) -> bool:
    limit = AGREEMENT if lm.dtype == torch.float32 else AGREEMENT_NARROW
    return got.shape == expected.shape and float((got - expected).abs().max()) <= limit * float(expected.abs().max())


def _culprit(lm: LanguageModel, ids: tuple[int, ...], way: str) -> str:
    """Return the name of the first part that differs from the same part in the whole model; `way` is plain or fused."""
    row = torch.arange(len(ids), device=lm.device)[None]
    inputs, outputs = _layer_states(lm, ids)
    traced = trace(lm, Batch(torch.tensor([ids], device=lm.device), row, None), 0)
    with fused_layers(lm) if way == "fused" else nullcontext():
        for index, layer in enumerate(lm.layers):
            args, kwargs = traced.calls[index]
            output = states_in(layer(inputs[index], *args, **kwargs))
            if not _agree(lm, output.float(), outputs[index].float()):
                return f"layer {index}"
    if not _agree(lm, lm.finish(outputs[-1]).float(), traced.hidden.float()):
        return "what follows the last layer"
    if not _agree(lm, lm.logits(traced.hidden[0]), lm.model(input_ids=torch.tensor([ids], device=lm.device)).logits[0]):
        return "the output head"
    return "keys and values of a past"


def _layer_states(lm: LanguageModel, ids: tuple[int, ...]) -> tuple[list[Tensor], list[Tensor]]:
    """Return each layer's input and output in the whole model, [1, tokens, d_model]."""
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []

    def keep(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        inputs.append(args[0] if args else kwargs["hidden_states"])
        outputs.append(states_in(output))

    with lm.lock, ExitStack() as hooks:
        for layer in lm.layers:
            hooks.callback(layer.register_forward_hook(keep, with_kwargs=True).remove)
        lm.model(input_ids=torch.tensor([ids], device=lm.device))
    return inputs, outputs
