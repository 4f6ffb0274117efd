"""Edits as values: any weights, ranks and kinds in one batch; saved, loaded, applied and undone to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor

from cfbuild.edit.editor import Edit
from cfbuild.edit.saved import load_edits, save_edits
from cfbuild.errors import DataError, EditError
from cfbuild.lm.delta import MULTIPLIED_TOGETHER, Change, Delta, Dense, LowRank, applied, summed
from cfbuild.lm.likelihood import Question, score, score_before_and_after, score_edited
from cfbuild.lm.model import LanguageModel, Weight
from cfbuild.lm.sample import generate

PROMPTS = ("Berlin lies in", "Rome lies in", "She speaks", "His profession is actor is a", "The capital city of")
PARTS = {"gpt2": ("mlp_in", "attention_in", "attention_out"), "llama": ("mlp_gate", "mlp_in", "attention_value")}


def low_rank(lm: LanguageModel, weight: Weight, rank: int, seed: int) -> LowRank:
    d_out, d_in = lm.shape(weight)
    draw = torch.Generator().manual_seed(seed)
    factors = (torch.randn(rank, width, generator=draw) * 0.2 for width in (d_in, d_out))
    return LowRank(*factors)


def dense(lm: LanguageModel, weight: Weight, seed: int) -> Dense:
    return Dense(torch.randn(*lm.shape(weight), generator=torch.Generator().manual_seed(seed)) * 0.05)


def mixed(lm: LanguageModel) -> list[Delta | None]:
    """Return five deltas: two layers of different ranks, a dense one, none, a large rank, other parts than the MLP."""
    first, second = Weight(1), Weight(2)
    others = [Weight(2, part) for part in PARTS[lm.model.config.model_type]]
    return [
        Delta({first: low_rank(lm, first, 1, 1), second: low_rank(lm, second, 3, 2)}),
        Delta({second: dense(lm, second, 3)}),
        None,
        Delta({first: low_rank(lm, first, MULTIPLIED_TOGETHER + 4, 4)}),
        Delta({one: low_rank(lm, one, 2, place) for place, one in enumerate(others)}),
    ]


def with_bias(lm: LanguageModel, weight: Weight, seed: int) -> Dense:
    bias = torch.randn(lm.shape(weight)[0], generator=torch.Generator().manual_seed(seed))
    return Dense(dense(lm, weight, seed).change, bias)


@pytest.mark.parametrize("of_all", [False, True])
def test_a_bias_changes_beside_its_matrix(tmp_path: Path, of_all: bool) -> None:
    lm = tiny.make("gpt2")
    before, batch = tiny.digest(lm), questions(lm)
    delta = Delta({Weight(1): with_bias(lm, Weight(1), 6), Weight(2): dense(lm, Weight(2), 7)})
    change = delta.changes[Weight(1)]
    assert isinstance(change, Dense) and change.bias is not None
    assert change.square_norm() == pytest.approx(float(change.change.norm() ** 2 + change.bias.norm() ** 2))
    Edit((0,), delta).save(tmp_path / "edit.safetensors")
    (loaded,) = load_edits(tmp_path / "edit.safetensors")
    assert loaded.delta is not None
    for name, tensor in change.tensors().items():
        assert torch.equal(loaded.delta.changes[Weight(1)].tensors()[name], tensor)
    rows = [loaded.delta if of_all or place % 2 else None for place in range(len(batch))]
    together, plain = score_edited(lm, batch, rows), score(lm, batch)
    without = Delta({**delta.changes, Weight(1): Dense(change.change)})
    with Edit((0,), delta).applied(lm):
        assert torch.equal(
            lm.layers[1].mlp.c_proj.bias,
            torch.frombuffer(bytearray(before["transformer.h.1.mlp.c_proj.bias"]), dtype=torch.float32) + change.bias,
        )
        alone = score(lm, batch)
    assert tiny.digest(lm) == before
    for place, row in enumerate(rows):
        expected = plain if row is None else alone
        assert nlls([together[place]]) == pytest.approx(nlls([expected[place]]), abs=1e-4)
    assert abs(nlls(score_edited(lm, batch[:1], [without]))[0] - nlls(alone)[0]) > 1e-3


def test_a_bias_that_the_model_does_not_have_is_refused() -> None:
    gpt2, llama = tiny.make("gpt2"), tiny.make("llama")
    delta = Delta.of(1, with_bias(llama, Weight(1), 6))
    with pytest.raises(EditError, match="changes the bias of 'mlp_out' of layer 1 by 32 numbers; tiny-llama has no"):
        Edit((0,), delta).applied(llama)
    short = Delta.of(1, Dense(dense(gpt2, Weight(1), 6).change, torch.zeros(3)))
    with pytest.raises(EditError, match="by 3 numbers; tiny-gpt2 has 32 numbers there"):
        Edit((0,), short).applied(gpt2)


def questions(lm: LanguageModel) -> list[Question]:
    targets = (lm.continuation("Germany"), lm.continuation("New Zealand English"))
    return [Question(lm.encode(prompt), targets) for prompt in PROMPTS]


def nlls(answers: list[Any]) -> list[float]:
    return [answer.nll_nats for row in answers for answer in row]


@pytest.mark.parametrize("family", PARTS)
def test_rows_of_a_batch_have_deltas_of_their_own_weights_ranks_and_kinds(family: str) -> None:
    lm = tiny.make(family)
    before, deltas, batch = tiny.digest(lm), mixed(lm), questions(lm)
    together = score_edited(lm, batch, deltas)
    texts = generate(lm, [one.prompt for one in batch], list("abcde"), 24, deltas)
    assert tiny.digest(lm) == before
    for row, delta in enumerate(deltas):
        plain = score(lm, [batch[row]])
        if delta is None:
            assert nlls([together[row]]) == pytest.approx(nlls(plain), abs=1e-5)
            continue
        with applied(lm, delta):
            alone = score(lm, [batch[row]])
            assert generate(lm, [batch[row].prompt], ["abcde"[row]], 24) == [texts[row]]
        assert nlls([together[row]]) == pytest.approx(nlls(alone), abs=1e-4)
        assert abs(nlls(alone)[0] - nlls(plain)[0]) > 1e-3
    assert tiny.digest(lm) == before


@pytest.mark.parametrize("family", PARTS)
def test_before_and_after_begin_below_the_lowest_layer_that_any_row_changes(family: str) -> None:
    """Score a first delta of layer 2 alone with others of layer 1: replayed from layer 2 on, they would be lost."""
    lm = tiny.make(family)
    deltas = [delta for delta in (mixed(lm)[1], mixed(lm)[0], mixed(lm)[3]) if delta is not None]
    batch = questions(lm)[: len(deltas)]
    pairs = score_before_and_after(lm, batch, deltas)
    for question, delta, (before, after) in zip(batch, deltas, pairs, strict=True):
        assert nlls([before]) == pytest.approx(nlls(score(lm, [question])), abs=1e-5)
        with applied(lm, delta):
            assert nlls([after]) == pytest.approx(nlls(score(lm, [question])), abs=1e-4)


def test_rows_that_share_a_delta_share_its_product() -> None:
    lm = tiny.make("gpt2")
    weight = Weight(1)
    shared = Delta({weight: low_rank(lm, weight, 40, 5)})
    batch = questions(lm)
    together = score_edited(lm, batch, [shared] * len(batch))
    with applied(lm, shared):
        assert nlls(together) == pytest.approx(nlls(score(lm, batch)), abs=1e-4)


def test_the_norm_is_that_of_all_changes() -> None:
    lm = tiny.make("gpt2")
    delta = mixed(lm)[0]
    assert delta is not None and delta.lowest == 1
    squares = sum(float(change.matrix().norm()) ** 2 for change in delta.changes.values())
    assert delta.norm == pytest.approx(squares**0.5, rel=1e-5)
    with pytest.raises(ValueError, match="at least one"):
        Delta({})


def tensors(delta: Delta | None) -> dict[tuple[Weight, str], Tensor]:
    changes: dict[Weight, Change] = dict(delta.changes) if delta else {}
    return {(weight, name): one for weight, change in changes.items() for name, one in change.tensors().items()}


def test_edits_come_back_from_a_file_bit_for_bit(tmp_path: Path) -> None:
    lm = tiny.make("gpt2")
    edits = [
        Edit((place, place + 10), delta, statistics={"loss": 0.1, "updates": 3}, model=lm.identity)
        for place, delta in enumerate(mixed(lm))
        if delta is not None
    ]
    edits += [Edit((7,), None, prefix="Rome lies in Germany. "), Edit((8,), None, fault="the edit is not finite")]
    save_edits(tmp_path / "edits.safetensors", edits)
    loaded = load_edits(tmp_path / "edits.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["edits.safetensors"]
    for edit, again in zip(edits, loaded, strict=True):
        assert (edit.records, edit.prefix, edit.statistics) == (again.records, again.prefix, again.statistics)
        assert (edit.fault, edit.model) == (again.fault, again.model)
        kept, read = tensors(edit.delta), tensors(again.delta)
        assert kept.keys() == read.keys() and all(torch.equal(kept[key], read[key]) for key in kept)


@pytest.mark.parametrize("content", [b"", b"not safetensors", b"\x10\x00\x00\x00\x00\x00\x00\x00{}"])
def test_a_file_that_holds_no_edits_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "edits.safetensors"
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"edits\.safetensors: is not a file of edits"):
        load_edits(file)


def test_an_edit_is_applied_to_the_model_it_fits_and_undone_to_the_bit(tmp_path: Path) -> None:
    lm, wider = tiny.make("gpt2"), tiny.make("gpt2", n_embd=64)
    before, delta = tiny.digest(lm), mixed(lm)[0]
    Edit((0,), delta).save(tmp_path / "edit.safetensors")
    (edit,) = load_edits(tmp_path / "edit.safetensors")
    with edit.applied(lm):
        assert tiny.digest(lm) != before
    assert tiny.digest(lm) == before
    with pytest.raises(EditError, match=r"layer 1 by a change of shape \(32, 128\); expected \(64, 256\)"):
        edit.applied(wider)
    with pytest.raises(EditError, match="the edit changes no weight: no luck"):
        Edit((0,), None, fault="no luck").applied(lm)


def test_a_sum_of_changes_adds_their_biases() -> None:
    lm = tiny.make("gpt2")
    first, second, none = with_bias(lm, Weight(1), 6), with_bias(lm, Weight(1), 8), dense(lm, Weight(1), 7)
    total = summed(Delta.of(1, change) for change in (first, none, second))
    assert total is not None and isinstance(total.only, Dense) and total.only.bias is not None
    assert first.bias is not None and second.bias is not None
    torch.testing.assert_close(total.only.bias, first.bias + second.bias)
    alone = summed([Delta.of(1, none), Delta.of(1, none)])
    assert alone is not None and isinstance(alone.only, Dense) and alone.only.bias is None
