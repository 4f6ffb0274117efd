"""A loaded language model: its parts by role, and text to token ids the way the metrics need it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn

from cfbuild.data import SLOT
from cfbuild.errors import ModelError
from cfbuild.lm.families import VALUE_PROJECTION, Family
from cfbuild.lm.libraries import Libraries, libraries_for
from cfbuild.lm.lock import ModelLock, lock_of
from cfbuild.lm.room import Room
from cfbuild.text.scripts import space_before

Ids = tuple[int, ...]

LEADING_PROBES = ("is", "The capital city of France is Paris", "Zo\u00eb speaks")
"""Texts of different tokens and lengths, so that only tokens in front of every text are in front of all of these."""


@dataclass(frozen=True, slots=True, order=True)
class Weight:
    """A matrix of the model by its place: the layer, bottom 0, and the part's role (`families.PARTS`)."""

    layer: int
    part: str = VALUE_PROJECTION


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A causal language model with frozen weights. `revision` names the exact weights, for signatures and caches.

    `trusted` is true where the user let pickled weights and code of the model's repository be used.
    """

    model: Any
    tokenizer: Any
    family: Family
    name: str
    preset: str | None
    revision: str
    trusted: bool = False

    @property
    def identity(self) -> dict[str, str | bool]:
        """The facts of the model that settings and signatures record."""
        dtype = str(self.dtype).removeprefix("torch.")
        trusted = {"trusted": True} if self.trusted else {}
        return {"model": self.name, "revision": self.revision, "dtype": dtype, **trusted}

    @functools.cached_property
    def base(self) -> nn.Module:
        """The stack without the output head: its last hidden state has the final norm applied."""
        base: nn.Module = attrgetter(self.family.base)(self.model)
        return base

    @functools.cached_property
    def layers(self) -> nn.ModuleList:
        """The layers, bottom first."""
        layers: nn.ModuleList = attrgetter(self.family.layers)(self.base)
        return layers

    @functools.cached_property
    def past_argument(self) -> str:
        """The argument by which the stack takes keys and values of the past: `cache` from transformers 5.24 on."""
        return "cache" if "cache" in inspect.signature(self.base.forward).parameters else "past_key_values"

    @functools.cached_property
    def libraries(self) -> Libraries:
        """The libraries by which products with the weights are computed: the faster ones on this machine."""
        return libraries_for(self.model)

    @functools.cached_property
    def room(self) -> Room:
        """The room for batches beside the weights; it shrinks where a batch did not fit."""
        return Room(self.model, self.value_width(0), self.key_width(0))

    @property
    def arithmetic(self) -> dict[str, str]:
        """The way products are computed where it is not the usual one of a CPU, for signatures."""
        if self.device.type == "cpu":
            return self.libraries.signature
        others = self.libraries.signature
        return {"device": self.device.type, "float32_products": torch.get_float32_matmul_precision(), **others}

    @property
    def lock(self) -> ModelLock:
        """The lock to hold while the model runs with hooks or patches in it; one thread may take it many times."""
        return lock_of(self.model)

    @property
    def device(self) -> torch.device:
        """The device of the weights; every tensor of a computation is made there."""
        device: torch.device = self.model.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """The weights' number format."""
        dtype: torch.dtype = self.model.dtype
        return dtype

    def module(self, weight: Weight) -> nn.Module:
        """Return the module that holds a weight. Raises ModelError for a layer or part that the model does not have."""
        path = self.family.parts.get(weight.part)
        if path is None or not 0 <= weight.layer < len(self.layers):
            raise ModelError(
                f"{self.name} has no weight {weight.part!r} in layer {weight.layer}; it has {len(self.layers)} layers "
                f"and the parts {', '.join(self.family.parts)}"
            )
        module: nn.Module = attrgetter(path)(self.layers[weight.layer])
        return module

    def weight(self, weight: Weight) -> Tensor:
        """Return the matrix itself, as it is stored: [d_out, d_in], or [d_in, d_out] where `is_transposed` says so."""
        tensor = self.module(weight).weight
        assert isinstance(tensor, Tensor)
        return tensor

    def bias(self, weight: Weight) -> Tensor | None:
        """Return the bias that is added to what a weight writes, [d_out], or None where there is none."""
        bias = getattr(self.module(weight), "bias", None)
        assert bias is None or isinstance(bias, Tensor)
        return bias

    def is_transposed(self, weight: Weight) -> bool:
        """Return True if a weight is stored [d_in, d_out]."""
        return self.family.projection_is_transposed

    def shape(self, weight: Weight) -> tuple[int, int]:
        """Return (d_out, d_in) of a weight, however it is stored."""
        rows, columns = self.weight(weight).shape
        return (columns, rows) if self.is_transposed(weight) else (rows, columns)

    def projection(self, layer: int) -> nn.Module:
        """Return the module of W, the second matrix of the MLP of `layer`, which maps a key to a value."""
        return self.module(Weight(layer))

    @property
    def max_tokens(self) -> int:
        """The tokens of the longest text that the model has positions for."""
        return int(getattr(self.model.config, "max_position_embeddings", 1 << 30))

    def key_width(self, layer: int) -> int:
        """Return d_in of W, the length of a key."""
        return self.shape(Weight(layer))[1]

    def value_width(self, layer: int) -> int:
        """Return d_out of W, the length of a value."""
        return self.shape(Weight(layer))[0]

    def finish(self, hidden: Tensor) -> Tensor:
        """Return hidden states with all that follows the last layer applied: [..., d_model] -> [..., d_model]."""
        for name in self.family.after_layers:
            module = getattr(self.base, name, None)
            if module is not None:
                hidden = module(hidden)
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the float32 logits of finished hidden states: [n, d_model] -> [n, vocabulary]."""
        logits: Tensor = self.model.get_output_embeddings()(hidden.to(self.dtype)).float()
        cap = getattr(self.model.config, "final_logit_softcapping", None)
        return torch.tanh(logits / cap) * cap if cap else logits

    @functools.cached_property
    def leading_ids(self) -> Ids:
        """The tokens that the tokenizer puts in front of a text: found by trying it, not by what it declares.

        Raises ModelError if it does more with a text than to put tokens before and after it.
        """
        texts = [self._with_and_without_special(text) for text in LEADING_PROBES]
        whole, plain = texts[0]
        for count in range(len(whole) - len(plain) + 1):
            if all(whole[:count] == full[:count] and full[count:][: len(bare)] == bare for full, bare in texts):
                return whole[:count]
        raise ModelError(
            f"{self.name}: its tokenizer changes a text's tokens where it adds special ones ({plain} became {whole}); "
            "cfbuild knows tokens before and after a text only"
        )

    @property
    def starting_ids(self) -> Ids:
        """The tokens that a text written from nothing begins with: the leading ones, else the end-of-text token.

        Raises ModelError if the tokenizer has neither.
        """
        end = self.tokenizer.eos_token_id
        if not self.leading_ids and end is None:
            raise ModelError(f"{self.name}: its tokenizer has no token that a text could begin with")
        return self.leading_ids or (end,)

    def _with_and_without_special(self, text: str) -> tuple[Ids, Ids]:
        with_special, without = (
            tuple(self.tokenizer(text, add_special_tokens=added)["input_ids"]) for added in (True, False)
        )
        return with_special, without

    def encode(self, text: str) -> Ids:
        """Return a text's tokens, with the leading ones."""
        return self.leading_ids + tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def continuation(self, text: str) -> Ids:
        """Return the tokens of `text` where it continues a prompt, after a space or as its script is written.

        Raises ModelError if there are none.
        """
        ids: Ids = self._continuations(text)
        if not ids:
            raise ModelError(f"{text!r} has no tokens in the vocabulary of {self.name}")
        return ids

    @functools.cached_property
    def _continuations(self) -> Any:
        # The anchor makes the space an inner one: some tokenizers put a space of their own before a text. Before a
        # text without a space it is a mark, with which no letter shares a token.
        anchors = {" ": "is", "": "："}
        anchor_ids = {
            space: tuple(self.tokenizer(anchor, add_special_tokens=False)["input_ids"])
            for space, anchor in anchors.items()
        }

        def continuation(text: str) -> Ids:
            space = space_before(text)
            ids = tuple(self.tokenizer(f"{anchors[space]}{space}{text}", add_special_tokens=False)["input_ids"])
            if ids[: len(anchor_ids[space])] == anchor_ids[space]:
                return ids[len(anchor_ids[space]) :]
            return tuple(self.tokenizer(f"{space}{text}", add_special_tokens=False)["input_ids"])

        return functools.lru_cache(maxsize=1 << 16)(continuation)

    def encode_subject(self, prompt: str, subject: str, prefix: str = "") -> tuple[Ids, int]:
        """Return the tokens of `prefix` + `prompt` with `subject` in its slot, and the index of the subject's last one.

        Raises ModelError as `subject_span` does.
        """
        ids, _, last = self.subject_span(prompt, subject, prefix)
        return ids, last

    def subject_span(self, prompt: str, subject: str, prefix: str = "") -> tuple[Ids, int, int]:
        """Return the tokens of `prefix` + `prompt` with `subject` in its slot, and its first and last token's indices.

        Raises ModelError if the subject's first or last character is in no token.
        """
        before = prefix + prompt[: prompt.index(SLOT)]
        text = before + subject + prompt[prompt.index(SLOT) + len(SLOT) :]
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        edges = len(before) + len(subject) - len(subject.lstrip()), len((before + subject).rstrip()) - 1
        first, last = (_tokens_at(encoded["offset_mapping"], edge) for edge in edges)
        if not first or not last:
            raise ModelError(f"the subject {subject!r} has no token in {text!r}")
        leading = len(self.leading_ids)
        return self.leading_ids + tuple(encoded["input_ids"]), leading + first[0], leading + last[-1]


def _tokens_at(offsets: Sequence[tuple[int, int]], character: int) -> list[int]:
    """Return the indices of the tokens that hold a character, which may be divided among several."""
    return [index for index, (start, end) in enumerate(offsets) if start <= character < end]
