"""GELU in one pass over memory."""

from __future__ import annotations

import pytest
import tiny
import torch

from cfbuild.lm.activations import one_pass_gelu


@pytest.mark.parametrize("family", ["gpt2", "gptj"])
def test_one_pass_gives_the_modules_numbers_and_gradients_while_open(family: str) -> None:
    lm = tiny.make(family)
    (gelu,) = [part for part in lm.layers[1].modules() if "GELU" in type(part).__name__]
    inputs = torch.linspace(-6, 6, 500, requires_grad=True)

    def numbers() -> tuple[torch.Tensor, torch.Tensor]:
        outputs = gelu(inputs)
        return outputs.detach(), torch.autograd.grad(outputs.sum(), inputs)[0]

    before = numbers()
    with one_pass_gelu(lm, range(len(lm.layers))):
        assert "forward" in gelu.__dict__
        torch.testing.assert_close(numbers(), before, rtol=1e-5, atol=3e-6)
    assert "forward" not in gelu.__dict__ and torch.equal(numbers()[0], before[0])


def test_other_activations_and_patched_ones_stay() -> None:
    lm, neox = tiny.make("gpt2"), tiny.make("gpt_neox")
    (gelu,) = [part for part in lm.layers[0].modules() if "GELU" in type(part).__name__]
    gelu.forward = torch.relu
    with one_pass_gelu(lm, [0]), one_pass_gelu(neox, [0]):
        assert gelu.forward is torch.relu
        assert not any("forward" in part.__dict__ for part in neox.layers[0].modules())
