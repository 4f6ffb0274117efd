"""UltraEdit against its specification written plainly: hooks on the whole model, Welford row by row, a dense solve."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch
from test_memit import REQUESTS

from cfbuild.data import Request
from cfbuild.edit.ultraedit import TOO_FEW, UltraEdit, UltraEditOptions, parse_weights, usual_weights
from cfbuild.errors import ConfigError
from cfbuild.lm.delta import applied
from cfbuild.lm.model import LanguageModel, Weight

WEIGHTS = {"gpt2": "mlp_in:1,mlp_out:1-2,attention_out:3", "llama": "mlp_gate:1,mlp_in:1-2,mlp_out:1-3"}
RATE = 0.01


class Welford:
    """Mean and deviation of rows, one row at a time."""

    def __init__(self) -> None:
        self.count, self.mean, self.square = 0, np.zeros(1), np.zeros(1)

    def add(self, row: np.ndarray) -> None:
        self.count += 1
        apart = row - self.mean
        self.mean = self.mean + apart / self.count
        self.square = self.square + apart * (row - self.mean)


def plain_rows(lm: LanguageModel, weight: Weight, requests: list[Request]) -> tuple[np.ndarray, np.ndarray]:
    """x and g of a matrix at each position that predicts a target token, a text at a time, through the whole model."""
    inputs, gradients = [], []
    for request in requests:
        prompt, targets = lm.encode(request.prompt.format(request.subject)), lm.continuation(request.target_new)
        seen: list[torch.Tensor] = []

        def listen(_: object, args: tuple[torch.Tensor], output: torch.Tensor, seen: list[torch.Tensor] = seen) -> None:
            seen.extend((args[0], output))
            output.retain_grad()

        handle = lm.module(weight).register_forward_hook(listen)
        embedded = lm.model.get_input_embeddings()(torch.tensor([prompt + targets])).requires_grad_()
        logits = lm.model(inputs_embeds=embedded).logits[0, len(prompt) - 1 : -1]
        handle.remove()
        torch.nn.functional.cross_entropy(logits, torch.tensor(targets), reduction="sum").backward()
        rows = slice(len(prompt) - 1, len(prompt) - 1 + len(targets))
        assert seen[1].grad is not None
        inputs.append(seen[0].detach().reshape(-1, seen[0].shape[-1])[rows].double().numpy())
        gradients.append(seen[1].grad.reshape(-1, seen[1].shape[-1])[rows].double().numpy())
    return np.concatenate(inputs), np.concatenate(gradients)


def plain_change(x: np.ndarray, g: np.ndarray, moments: Welford) -> np.ndarray:
    """Return the change of the matrix, [d_out, d_in]."""
    rows = np.concatenate((x, g), axis=1)
    for row in rows:
        moments.add(row)
    normal = (rows - moments.mean) / (np.sqrt(moments.square / (moments.count - 1)) + 1e-7)
    x_normal, g_normal = normal[:, : x.shape[1]], normal[:, x.shape[1] :]
    values = -RATE * (x_normal**2).sum(axis=1, keepdims=True) * g_normal
    return np.asarray(np.linalg.solve(x.T @ x + np.eye(x.shape[1]), x.T @ values)).T


@pytest.mark.parametrize("family", WEIGHTS)
def test_two_batches_are_what_the_plain_way_finds(family: str) -> None:
    lm = tiny.make(family)
    before = tiny.digest(lm)
    lm.model.to(torch.float64)  # so that only the arithmetic is compared
    editor = UltraEdit(lm, UltraEditOptions(WEIGHTS[family], RATE))
    moments = {weight: Welford() for weight in editor.weights}
    (first,), state = editor.edit_after({}, REQUESTS[:2])
    assert first.delta is not None and first.records == (0, 1) and set(first.delta.changes) == set(editor.weights)
    for weight, change in first.delta.changes.items():
        expected = plain_change(*plain_rows(lm, weight, REQUESTS[:2]), moments[weight])
        assert np.abs(change.matrix().numpy() - expected).max() < 1e-5 * np.abs(expected).max(), weight
    with applied(lm, first.delta):
        (second,), after = editor.edit_after(state, REQUESTS[2:])
        assert second.delta is not None
        for weight, change in second.delta.changes.items():
            expected = plain_change(*plain_rows(lm, weight, REQUESTS[2:]), moments[weight])
            assert np.abs(change.matrix().numpy() - expected).max() < 1e-5 * np.abs(expected).max(), weight
            assert int(after[f"{weight.layer}/{weight.part}/count"]) == moments[weight].count
    lm.model.to(torch.float32)
    assert tiny.digest(lm) == before


@pytest.mark.parametrize("family", WEIGHTS)
def test_an_edit_makes_targets_likelier_whatever_is_in_the_batch_of_the_pass(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = tiny.make(family)
    editor = UltraEdit(lm, UltraEditOptions("mlp_out:1-2", RATE))
    counts: list[int] = []
    (edit,) = editor.edit(REQUESTS, counts.append)
    assert edit.delta is not None and counts[-1] == 3
    monkeypatch.setattr("cfbuild.edit.ultraedit.COST_OF_GRADIENT", 1 << 20)  # a pass for each text
    (alone,) = editor.edit(REQUESTS)
    assert alone.delta is not None
    for weight, change in edit.delta.changes.items():
        expected = alone.delta.changes[weight].matrix()
        assert float((change.matrix() - expected).norm() / expected.norm()) < 1e-3
    with applied(lm, edit.delta):
        (after,) = editor.edit(REQUESTS)
    assert float(after.statistics["target_nll_nats"] or 0) < float(edit.statistics["target_nll_nats"] or 0)


def test_a_single_token_row_cannot_be_normalised_and_numbers_that_are_none_are_a_fault() -> None:
    lm = tiny.make("gpt2")
    editor = UltraEdit(lm, UltraEditOptions("mlp_out:1", RATE))
    short = Request("{} lies in", "Rome", "a")
    assert len(lm.continuation("a")) == 1
    (edit,), state = editor.edit_after({}, [short])
    assert edit.delta is None and edit.fault == TOO_FEW and int(state["1/mlp_out/count"]) == 1
    (edit,), _ = editor.edit_after(state, [short])
    assert edit.delta is not None
    lm.model.get_output_embeddings().weight[lm.continuation("Germany")[0]] = float("nan")
    (edit,), unchanged = editor.edit_after(state, REQUESTS[1:2])
    assert edit.fault == "the gradients are not finite" and unchanged is state


def test_matrices_are_named_by_part_and_layers() -> None:
    lm = tiny.make("llama")
    assert parse_weights("mlp_out:3, mlp_gate:1-2", lm) == (
        Weight(1, "mlp_gate"),
        Weight(2, "mlp_gate"),
        Weight(3, "mlp_out"),
    )
    assert usual_weights(lm) == "mlp_out:2-3"
    for wrong, message in (("mlp_out", "is not of the form"), ("mlp_out:4", "has no mlp_out:4"), ("w:1", "has no w:1")):
        with pytest.raises(ConfigError, match=message):
            parse_weights(wrong, lm)
    with pytest.raises(ConfigError, match="learning_rate is 0"):
        UltraEditOptions("mlp_out:1", 0)
