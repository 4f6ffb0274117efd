"""A loaded language model: its parts by role, and the tokens of prompts, subjects and continuations."""

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
"""The token ids of a text."""

LEADING_PROBES = ("is", "The capital city of France is Paris", "Zo\u00eb speaks")
"""Texts that differ in their first tokens and lengths: what is in front of all of them is in front of every text."""


@dataclass(frozen=True, slots=True, order=True)
class Weight:
    """The place of a matrix in the model: its layer, and the role of its part (a key of `families.PARTS`)."""

    layer: int
    part: str = VALUE_PROJECTION


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A causal language model with frozen weights.

    model, tokenizer: as transformers has them. preset: the model's short name, if any. revision: names the exact
    weights, for signatures and caches. trusted: whether pickled weights and code of its repository were allowed.
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
        """Return the name, revision and number format of the model, which signatures record."""
        dtype = str(self.dtype).removeprefix("torch.")
        trusted = {"trusted": True} if self.trusted else {}
        return {"model": self.name, "revision": self.revision, "dtype": dtype, **trusted}

    @functools.cached_property
    def base(self) -> nn.Module:
        """Return the model without the output head; its last hidden state has the final norm applied."""
        base: nn.Module = attrgetter(self.family.base)(self.model)
        return base

    @functools.cached_property
    def layers(self) -> nn.ModuleList:
        """Return the layers, bottom first."""
        layers: nn.ModuleList = attrgetter(self.family.layers)(self.base)
        return layers

    @functools.cached_property
    def past_argument(self) -> str:
        """Return the name of the argument of `base` that takes a past: `cache` from transformers 5.24 on."""
        return "cache" if "cache" in inspect.signature(self.base.forward).parameters else "past_key_values"

    @functools.cached_property
    def libraries(self) -> Libraries:
        """Return the libraries that compute products with the weights: the faster ones on this machine."""
        return libraries_for(self.model)

    @functools.cached_property
    def room(self) -> Room:
        """Return the room for batches in the memory; it shrinks when a batch does not fit."""
        return Room(self.model, self.value_width(0), self.key_width(0), self.libraries.parts_bytes)

    @property
    def arithmetic(self) -> dict[str, str]:
        """Return what signatures record of how products are computed: nothing where it is a CPU's usual way."""
        libraries = self.libraries.signature
        if self.device.type == "cpu":
            return libraries
        return {"device": self.device.type, "float32_products": torch.get_float32_matmul_precision(), **libraries}

    @property
    def lock(self) -> ModelLock:
        """Return the lock to hold while the model runs with hooks or patches; a thread may take it again."""
        return lock_of(self.model)

    @property
    def device(self) -> torch.device:
        """Return the device of the weights, on which every tensor of a computation is made."""
        device: torch.device = self.model.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """Return the weights' number format."""
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
        """Return the matrix as it is stored: [d_out, d_in], or [d_in, d_out] if it `is_transposed`."""
        tensor = self.module(weight).weight
        assert isinstance(tensor, Tensor)
        return tensor

    def bias(self, weight: Weight) -> Tensor | None:
        """Return the bias of the module that holds a weight, [d_out], or None if it has none."""
        bias = getattr(self.module(weight), "bias", None)
        assert bias is None or isinstance(bias, Tensor)
        return bias

    def is_transposed(self, weight: Weight) -> bool:
        """Return whether a weight is stored [d_in, d_out]."""
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
        """Return the number of positions of the model: the most tokens of a text."""
        return int(getattr(self.model.config, "max_position_embeddings", 1 << 30))

    def key_width(self, layer: int) -> int:
        """Return the length of a key: d_in of the layer's W."""
        return self.shape(Weight(layer))[1]

    def value_width(self, layer: int) -> int:
        """Return the length of a value: d_out of the layer's W."""
        return self.shape(Weight(layer))[0]

    def finish(self, hidden: Tensor) -> Tensor:
        """Return the last layer's hidden states after all that follows it, as a final norm: [..., d_model]."""
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
        """Return the tokens that the tokenizer puts in front of every text, found by trying it.

        Raises ModelError if it does more to a text's tokens than to put others before and after them.
        """
        texts = [(self._tokenize(text, add_special_tokens=True), self._tokenize(text)) for text in LEADING_PROBES]
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
        """Return the tokens that a text without a prompt begins with: the leading ones, else the end-of-text token.

        Raises ModelError if the tokenizer has neither.
        """
        end = self.tokenizer.eos_token_id
        if not self.leading_ids and end is None:
            raise ModelError(f"{self.name}: its tokenizer has no token that a text could begin with")
        return self.leading_ids or (end,)

    def _tokenize(self, text: str, *, add_special_tokens: bool = False) -> Ids:
        return tuple(self.tokenizer(text, add_special_tokens=add_special_tokens)["input_ids"])

    def encode(self, text: str) -> Ids:
        """Return a text's tokens, with the leading ones."""
        return self.leading_ids + self._tokenize(text)

    def continuation(self, text: str) -> Ids:
        """Return the tokens of `text` as it continues a prompt: behind a space, if its script has spaces.

        Raises ModelError if there are none.
        """
        ids: Ids = self._continuations(text)
        if not ids:
            raise ModelError(f"{text!r} has no tokens in the vocabulary of {self.name}")
        return ids

    @functools.cached_property
    def _continuations(self) -> Any:
        """Return the function that finds a continuation's tokens and remembers them."""
        # The anchor makes the space an inner one: some tokenizers put a space of their own before a text. Before a
        # text without a space it is a mark, with which no letter shares a token.
        anchors = {" ": "is", "": "："}
        anchor_ids = {space: self._tokenize(anchor) for space, anchor in anchors.items()}

        def continuation(text: str) -> Ids:
            space = space_before(text)
            before = anchor_ids[space]
            ids = self._tokenize(f"{anchors[space]}{space}{text}")
            return ids[len(before) :] if ids[: len(before)] == before else self._tokenize(f"{space}{text}")

        return functools.lru_cache(maxsize=1 << 16)(continuation)

    def encode_subject(self, prompt: str, subject: str, prefix: str = "") -> tuple[Ids, int]:
        """Return `subject_span(prompt, subject, prefix)` without the index of the subject's first token."""
        ids, _, last = self.subject_span(prompt, subject, prefix)
        return ids, last

    def subject_span(self, prompt: str, subject: str, prefix: str = "") -> tuple[Ids, int, int]:
        """Return the tokens of `prefix` + `prompt`, and the indices of the subject's first and last token in them.

        prompt: with {} for the subject. Raises ModelError if the subject's first or last character is in no token.
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
    """Return the indices of the tokens that hold a character, which may be divided among several.

    offsets: each token's first character, and the first behind it.
    """
    return [index for index, (start, end) in enumerate(offsets) if start <= character < end]
