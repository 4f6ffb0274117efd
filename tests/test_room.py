"""Room for batches: what fits an accelerator's memory, and what is remembered of batches that did not fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import tiny
import torch

from cfbuild.lm import room
from cfbuild.lm.batching import TOKENS_PER_BATCH, in_batches, token_budget
from cfbuild.lm.model import LanguageModel
from cfbuild.lm.room import LAYERS_AT_ONCE, Room
from cfbuild.lm.sample import generate

MEMORY = 1 << 30


def room_on_a_device(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch, memory: int = MEMORY) -> Room:
    """Return the room beside a tiny model if its device were an accelerator of so many bytes."""
    monkeypatch.setattr(room, "room_bytes", lambda model, kept: memory)
    return Room(lm.model, lm.value_width(0), lm.key_width(0))


def test_a_cpu_takes_the_usual_batches() -> None:
    lm = tiny.make("llama")
    assert lm.room.tokens(4096) == token_budget(lm) == TOKENS_PER_BATCH["cpu"]
    assert lm.room.texts(160, 100) == 160


@pytest.mark.parametrize("family", ["gpt2", "gptj", "gpt_neox", "opt", "llama", "gemma2"])
def test_batches_on_an_accelerator_follow_from_its_memory(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lm = tiny.make(family)
    small, large = (room_on_a_device(lm, monkeypatch, memory) for memory in (1 << 22, 1 << 24))
    assert 1 < small.tokens(1 << 30) < large.tokens(1 << 30) and large.tokens(7) == 7
    assert abs(large.tokens(1 << 30) - 4 * small.tokens(1 << 30)) <= 4
    deep = small.tokens(1 << 30, layers=4 * LAYERS_AT_ONCE)
    assert abs(4 * deep - small.tokens(1 << 30)) <= 4, "layers whose activations are kept for a gradient"
    assert abs(large.texts(1 << 30, 100) - 4 * small.texts(1 << 30, 100)) <= 4
    assert room_on_a_device(lm, monkeypatch, 0).tokens(4096) == 1, "never less than a token"


def test_texts_take_the_memory_of_their_keys_and_values(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = tiny.make("llama")  # 4 layers, 2 of 4 heads keep keys, 8 numbers each
    a_token = 4 * 2 * 4 * (2 * 8)
    assert room_on_a_device(lm, monkeypatch, 1000 * a_token).texts(1 << 30, 10) == 100


def runs_out_above(most: int, calls: list[int]) -> Callable[[Sequence[int]], list[int]]:
    """Work that runs out of memory over more than `most` items."""

    def work(items: Sequence[int]) -> list[int]:
        calls.append(len(items))
        if len(items) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return list(items)

    return work


def test_batches_after_one_that_did_not_fit_are_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    lm, calls = tiny.make("gpt2"), list[int]()
    monkeypatch.setitem(TOKENS_PER_BATCH, "cpu", 8)
    assert in_batches(lm, range(32), runs_out_above(3, calls), lambda _: 1) == [*range(32)]
    assert calls == [8, 4, 2, 2, 4, 2, 2, *[2] * 12], "both halves are halved again; quarters from then on"


def test_texts_after_batches_that_did_not_fit_are_the_same() -> None:
    lm, narrow = tiny.make("llama"), tiny.make("llama")
    prompts, keys = [lm.encode(f"Berlin lies in {word}") for word in "abcdef"], list("abcdef")
    narrow.room.shrink()
    assert narrow.room.texts(6, 20) == 3
    assert generate(narrow, prompts, keys, 20) == generate(lm, prompts, keys, 20)


def test_a_device_names_how_it_multiplies() -> None:
    class Elsewhere(LanguageModel):
        device = torch.device("cuda")

    lm = tiny.make("gpt2")
    assert lm.arithmetic == lm.libraries.signature
    there = Elsewhere(lm.model, lm.tokenizer, lm.family, lm.name, None, lm.revision)
    assert there.arithmetic == {"device": "cuda", "float32_products": "highest"}
