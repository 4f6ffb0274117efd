"""Attention by kernels for short texts takes the place of transformers' own, and gives it back."""

from __future__ import annotations

from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import tiny
import torch
from torch import Tensor
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from cfbuild.lm import attention, sample
from cfbuild.lm.attention import USUAL, short_attention
from cfbuild.lm.sample import generate
from cfbuild.lm.steps import RecordedStep

PROMPTS = ("Berlin lies in", "The mother tongue of Danielle Darrieux is", "In")


def attend_plainly(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor, scaling: float) -> Tensor:
    """Do what the kernel for one token a row does."""
    assert query.shape[2] == 1 and mask.shape[-1] == keys.shape[2]
    return ((query @ keys.transpose(2, 3)) * scaling + mask).softmax(dim=-1) @ values


@pytest.mark.parametrize("family", ["gpt2", "gptj", "gpt_neox", "llama"])
def test_recorded_steps_attend_by_the_kernel(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lm = tiny.make(family)
    prompts, keys = [lm.encode(prompt) for prompt in PROMPTS], list("abc")
    expected = generate(lm, prompts, keys, 20)
    monkeypatch.setattr(sample, "step_for", RecordedStep)
    kernels = SimpleNamespace(attend_from_one=Mock(wraps=attend_plainly))
    monkeypatch.setattr(attention, "gpu_kernels", lambda device: kernels)
    with short_attention(torch.device("cuda")):
        inside = ALL_ATTENTION_FUNCTIONS[USUAL]
        with short_attention(torch.device("cuda")):
            assert ALL_ATTENTION_FUNCTIONS[USUAL] is inside, "once is enough"
            assert generate(lm, prompts, keys, 20) == expected
    calls = kernels.attend_from_one.call_count
    assert (calls == 0) == (family == "llama") and calls % len(lm.layers) == 0, "fused layers have their own"


def test_what_was_there_before_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    usual, anothers = ALL_ATTENTION_FUNCTIONS[USUAL], Mock()
    for device, changes in (("cpu", False), ("cuda", True)):
        with short_attention(torch.device(device)):
            assert (ALL_ATTENTION_FUNCTIONS[USUAL] is not usual) == changes
        assert ALL_ATTENTION_FUNCTIONS[USUAL] is usual
    assert USUAL not in ALL_ATTENTION_FUNCTIONS._local_mapping
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, USUAL, anothers)
    with pytest.raises(KeyError), short_attention(torch.device("cuda")):
        raise KeyError
    assert ALL_ATTENTION_FUNCTIONS[USUAL] is anothers


@pytest.mark.parametrize(
    "given",
    [
        {"dropout": 0.1},
        {"softcap": 2.0},
        {"position_bias": torch.ones(2)},
        {"position_bias": torch.zeros(1)},
        {"width": 2},
        {"key_heads": 1},
    ],
)
def test_what_the_kernel_does_not_know_goes_to_the_usual_function(
    given: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels, usual = Mock(), Mock(return_value=(torch.ones(1), None))
    monkeypatch.setattr(attention, "gpu_kernels", lambda device: kernels)
    given = dict(given)
    width, key_heads = int(given.pop("width", 1)), int(given.pop("key_heads", 2))  # type: ignore[call-overload]
    query, keys = torch.ones(3, 2, width, 8), torch.ones(3, key_heads, 5, 8)
    short = attention._ShortAttention(usual)
    short(None, query, keys, keys, torch.zeros(3, 1, width, 5), scaling=0.5, is_causal=None, **given)
    usual.assert_called_once()
    kernels.attend_from_one.assert_not_called()


def test_short_texts_in_narrow_formats_take_the_memory_efficient_kernel() -> None:
    enabled = []

    def usual(*_: object, **__: object) -> tuple[Tensor, None]:
        backends = torch.backends.cuda
        enabled.append(
            (backends.cudnn_sdp_enabled(), backends.flash_sdp_enabled(), backends.mem_efficient_sdp_enabled())
        )
        return torch.ones(1), None

    short = attention._ShortAttention(usual)
    for dtype, seen in ((torch.bfloat16, 64), (torch.bfloat16, 65), (torch.float32, 64)):
        states = torch.ones(3, 2, seen, 8, dtype=dtype)
        short(None, states, states, states, None)
    assert enabled == [(False, False, True), enabled[1], enabled[1]] and enabled[1] == (True, True, True)
