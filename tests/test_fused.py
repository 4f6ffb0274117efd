"""Fused layers say what the model's own layers say, forwards and backwards."""

from __future__ import annotations

import copy
from contextlib import ExitStack, nullcontext
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor

from cfbuild.lm.batch import Batch, Packing, Past, additive_mask, left_padded
from cfbuild.lm.forward import remember, replay, replay_packed, run, run_packed, trace, trace_packed
from cfbuild.lm.fused import fused_layers
from cfbuild.lm.hooks import projection_output
from cfbuild.lm.kernels import REGISTER, softmax_in_registers, weighted_sums
from cfbuild.lm.model import LanguageModel

CLOSE = {"rtol": 1e-4, "atol": 1e-5}
FUSED = ("llama", "mistral", "qwen2")


@pytest.fixture(params=FUSED)
def lm(request: pytest.FixtureRequest) -> LanguageModel:
    return tiny.make(request.param)


def _batches(lm: LanguageModel) -> dict[str, tuple[Batch, Any]]:
    """Return batches that are causal; padded on the left; and a few tokens over a past of unequal length."""
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(3, 200, (4, 9), generator=draw)
    texts = [tuple(row[: 9 - index].tolist()) for index, row in enumerate(ids)]
    padded, real = left_padded(texts, lm)
    width = 3
    causal = torch.ones(width, width, dtype=torch.bool).tril().expand(4, -1, -1)
    visible = torch.cat((real[:, None, :].expand(-1, width, -1), causal), dim=2)
    rest = Batch(
        torch.randint(3, 200, (4, width), generator=draw),
        real.sum(dim=1)[:, None] + torch.arange(width),
        additive_mask(visible, lm.dtype),
    )
    past = Past(len(lm.layers), 9 + width)
    with torch.no_grad():
        remember(lm, padded, real, past)
    return {
        "causal": (Batch(ids, torch.arange(9).expand(4, -1), None), None),
        "left": (padded, None),
        "past": (rest, past),
    }


def _states_and_gradient(lm: LanguageModel, batch: Batch, past: Any, real: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        traced = trace(lm, batch, 1, past=past)
    below = traced.below.clone().requires_grad_()
    hidden = replay(lm, traced, below)
    weights = torch.sin(torch.arange(hidden.numel(), dtype=hidden.dtype)).view_as(hidden) * real[..., None]
    (gradient,) = torch.autograd.grad((hidden * weights).sum(), below)
    return hidden.detach()[real], gradient[real]


@pytest.mark.parametrize("kind", ["causal", "left", "past"])
def test_states_and_gradients_are_those_of_the_modules(lm: LanguageModel, kind: str) -> None:
    batch, past = _batches(lm)[kind]
    real = batch.ids != 0
    expected = _states_and_gradient(lm, batch, past, real)
    with fused_layers(lm):
        got = _states_and_gradient(lm, batch, past, real)
    for module, fused in zip(expected, got, strict=True):
        torch.testing.assert_close(fused, module, **CLOSE)
    with fused_layers(lm, 0):
        rough = _states_and_gradient(lm, batch, past, real)
    for module, fused in zip(expected, rough, strict=True):
        error = float((fused - module).norm() / module.norm())
        assert 0 < error < 0.06  # bfloat16 has 8 bits, and each of these layers is as small as its rounding is large


@pytest.mark.parametrize("hooked", [False, True])
def test_a_narrow_model_is_nearer_to_its_float32_self_than_its_modules_are(lm: LanguageModel, hooked: bool) -> None:
    lm.model.to(torch.bfloat16)
    wide = LanguageModel(copy.deepcopy(lm.model).float(), lm.tokenizer, lm.family, lm.name, None, lm.revision)
    ids = torch.randint(3, 200, (16, 9), generator=torch.Generator().manual_seed(0))
    batch = Batch(ids, torch.arange(9).expand(16, -1), None)
    with torch.no_grad():
        expected, modules = run(wide, batch), run(lm, batch).float()
        with fused_layers(lm), projection_output(lm, 1, lambda _, outputs: outputs) if hooked else nullcontext():
            fused = run(lm, batch).float()
            assert lm.logits(fused).dtype == torch.float32
    assert 0 < float((fused - expected).norm()) < float((modules - expected).norm())


def test_a_past_is_the_same_for_every_pass_and_grows_where_it_is_told_to(lm: LanguageModel) -> None:
    past = Past(1, capacity=4)
    first, second, third = torch.randn(3, 2, 1, 2, 8).unbind()
    past.update(first, -first, 0)
    past.length = 2
    for own in (second, third):
        keys, values = past.update(own, -own, 0)
        torch.testing.assert_close(keys, torch.cat((first, own), dim=2))
        torch.testing.assert_close(values, -keys)
    followed = second.clone().requires_grad_()
    keys, _ = past.update(followed, followed, 0)
    past.update(third, third, 0)  # is written where no gradient is waiting
    (gradient,) = torch.autograd.grad(keys.sum(), followed)
    assert bool((gradient == 1).all())
    past.select(torch.tensor([1]))
    assert past.get_seq_length() == 2
    torch.testing.assert_close(past.update(third[1:], third[1:], 0)[0], torch.cat((first, third), dim=2)[1:])


@pytest.mark.parametrize("hooked", [False, True])
@pytest.mark.parametrize("fused", [False, True])
def test_packed_rows_say_what_padded_ones_say(lm: LanguageModel, fused: bool, hooked: bool) -> None:
    batch, past = _batches(lm)["past"]
    real = torch.tensor([[True, True, True], [True, False, False], [True, True, False], [True, True, True]])
    packing, at = Packing.of(real), torch.tensor([0, 3, 5, 8])
    with torch.no_grad():
        traced = trace(lm, batch, 1, past=past)
    padded = traced.below.clone().requires_grad_()
    expected = replay(lm, traced, padded)[real][at]
    with ExitStack() as stack:
        if fused:
            stack.enter_context(fused_layers(lm))
        if hooked:
            stack.enter_context(projection_output(lm, 1, lambda _, outputs: outputs))
        packed = packing.pack(traced.below).requires_grad_()
        got = replay_packed(lm, traced, packing, packed, at)
        (gradient,) = torch.autograd.grad(got.sin().sum(), packed)
    (whole,) = torch.autograd.grad(expected.sin().sum(), padded)
    torch.testing.assert_close(got, expected, **CLOSE)
    torch.testing.assert_close(gradient, whole[real], **CLOSE)


def test_a_token_of_two_rows_has_no_gradient(lm: LanguageModel) -> None:
    ids = torch.tensor([[5, 6, 7], [5, 6, 8]])
    batch, mask = Batch(ids, torch.arange(3).expand(2, -1), None), torch.ones(2, 3, dtype=torch.bool)
    packing = Packing(2, 3, torch.tensor([0, 1, 2, 5]), torch.tensor([0, 1, 2, 0, 1, 3]), mask)
    with torch.no_grad(), fused_layers(lm):
        expected = run(lm, batch)[:, -1]
        torch.testing.assert_close(run_packed(lm, batch, packing, torch.tensor([2, 3])), expected, **CLOSE)
    with fused_layers(lm):
        traced, below = trace_packed(lm, batch, packing, 1)
        with pytest.raises(NotImplementedError, match="several rows"):
            replay_packed(lm, traced, packing, below.detach().requires_grad_(), torch.tensor([2, 3]), 1)


def test_rows_that_fill_no_register_have_the_softmax_of_any_other() -> None:
    for seen in (1, 7, REGISTER, REGISTER + 1):
        logits = torch.randn(3, 5, seen, generator=torch.Generator().manual_seed(seen))
        torch.testing.assert_close(softmax_in_registers(logits), logits.softmax(dim=-1))


@pytest.mark.parametrize("seen", [1, 5, 40])
def test_sums_of_values_are_the_product_wherever_the_values_lie(seen: int) -> None:
    draw = torch.Generator().manual_seed(0)
    packing, buffer = Packing.full(6, 1, torch.device("cpu")), torch.randn(6, 40, 8, generator=draw)
    for values in (buffer[:, :seen], buffer[1::2, :seen], buffer[:1, :seen], buffer.transpose(1, 2)[:, :, :8]):
        weights = torch.randn(len(values), 3, values.shape[1], generator=draw)
        torch.testing.assert_close(weighted_sums(weights, values, packing), torch.bmm(weights, values), **CLOSE)


def test_keys_across_are_the_same_keys_and_stay_across_when_rows_leave() -> None:
    draw = torch.Generator().manual_seed(0)
    plain, across = Past(1, 7), Past(1, 7, keys_across={0})
    for rows, width in ((3, 4), (2, 1), (2, 2)):
        keys, values = torch.randn(2, rows, 2, width, 8, generator=draw)
        assert all(map(torch.equal, plain.update(keys, values, 0), across.update(keys, values, 0)))
        assert across.buffers(0)[0].stride(2) == 1
        for past in (plain, across):
            past.length += width
            past.select(torch.arange(2))


def test_a_hook_on_the_value_projection_is_heard(lm: LanguageModel) -> None:
    batch, _ = _batches(lm)["causal"]
    heard: list[Tensor] = []

    def note(_: Tensor, outputs: Tensor) -> Tensor:
        heard.append(outputs)
        return outputs

    with torch.no_grad(), fused_layers(lm), projection_output(lm, 1, note):
        trace(lm, batch, 1)
    assert len(heard) == 1


def test_layers_are_their_own_again_whatever_happens(lm: LanguageModel) -> None:
    with pytest.raises(ValueError), fused_layers(lm, 1):
        assert all("forward" in layer.__dict__ for layer in lm.layers)
        raise ValueError
    assert not any("forward" in module.__dict__ for module in lm.model.modules())


def test_families_without_fused_layers_keep_their_own() -> None:
    lm = tiny.make("gpt2")
    with fused_layers(lm):
        assert not any("forward" in layer.__dict__ for layer in lm.layers)
