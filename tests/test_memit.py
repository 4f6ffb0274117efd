"""MEMIT against its specification written plainly, on tiny random models, and against the released code's numbers."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import tiny
import torch
from torch import Tensor

from cfbuild.data import Request
from cfbuild.edit import COVARIANCE_TOKENS
from cfbuild.edit.corpus import of_texts
from cfbuild.edit.covariance import Covariance, factorise, load_covariance
from cfbuild.edit.editor import Edit
from cfbuild.edit.memit import Memit, MemitOptions, solved_with
from cfbuild.edit.rome.optimise import ESSENCE_PROMPT, ValueOptimiser
from cfbuild.edit.supplies import ModelSupplies
from cfbuild.errors import ConfigError
from cfbuild.lm.delta import LowRank
from cfbuild.lm.model import LanguageModel, Weight
from cfbuild.score.cases import score_cases
from cfbuild.store.codec import decode_record

REQUESTS = [
    Request("The mother tongue of {} is", "Danielle Darrieux", "New Zealand English"),
    Request("{} lies in", "Rome", "Germany"),
    Request("The capital city of {} is", "France", "Berlin"),
]
CONTEXTS = ("Rome lies in Italy. ", "She speaks. ")
FAMILIES = ("gpt2", "llama", "gptj")


def covariance(width: int, seed: int = 1) -> Covariance:
    """Return a second moment that is not the identity."""
    drawn = torch.randn(width * 4, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return factorise(drawn.T @ drawn / len(drawn) + torch.eye(width, dtype=torch.float64), "test")


def plain_z(lm: LanguageModel, request: Request, options: MemitOptions) -> Tensor:
    """Return z of one request: the whole model for every row and step, autograd through everything, torch's Adam."""
    rows = [lm.encode_subject(request.prompt, request.subject, context) for context in ("", *options.contexts)]
    essence, essence_at = lm.encode_subject(ESSENCE_PROMPT, request.subject)
    targets = lm.continuation(request.target_new)
    origin: list[Tensor] = []
    shift = torch.zeros(lm.value_width(options.layer))

    def logits(ids: tuple[int, ...], at: int) -> Tensor:
        def add(_: object, __: object, output: object) -> object:
            hidden = output[0] if isinstance(output, tuple) else output
            origin.append(hidden[0, at].detach().clone())
            moved = hidden.clone()
            moved[0, at] = moved[0, at] + shift
            return (moved, *output[1:]) if isinstance(output, tuple) else moved

        handle = lm.layers[options.layer].register_forward_hook(add)
        try:
            return lm.model(torch.tensor([ids])).logits[0]
        finally:
            handle.remove()

    logits(rows[0][0], rows[0][1])
    h0 = origin[0]
    before = logits(essence, essence_at)[essence_at].log_softmax(-1).detach()
    shift.requires_grad_()
    adam = torch.optim.Adam([shift], lr=options.learning_rate)
    for step in range(options.steps):
        nll = torch.stack(
            [
                torch.nn.functional.cross_entropy(logits(ids + targets[:-1], at)[len(ids) - 1 :], torch.tensor(targets))
                for ids, at in rows
            ]
        ).mean()
        now = logits(essence, essence_at)[essence_at].log_softmax(-1)
        divergence = (now.exp() * (now - before)).sum()
        loss = nll + options.kl_factor * divergence + options.weight_decay * shift.norm() / h0.norm() ** 2
        if float(loss.detach()) < options.stop_loss or step == options.steps - 1:
            break
        adam.zero_grad()
        loss.backward()
        adam.step()
        with torch.no_grad():
            limit = options.clamp_norm_factor * h0.norm()
            if shift.norm() > limit:
                shift *= limit / shift.norm()
    return h0 + shift.detach()


@pytest.mark.parametrize("family", FAMILIES)
def test_z_is_what_the_plain_way_finds(family: str) -> None:
    lm = tiny.make(family)
    options = MemitOptions(layer=2, contexts=CONTEXTS, steps=6, learning_rate=0.1)
    found = dict(ValueOptimiser(lm, options, of_layer=True).values(REQUESTS))
    for place, request in enumerate(REQUESTS):
        expected = plain_z(lm, request, options)
        assert float((found[place].target_output - expected).norm() / expected.norm()) < 1e-4


def plain_keys_and_outputs(lm: LanguageModel, options: MemitOptions, layer: int) -> tuple[Tensor, Tensor]:
    """Return K [N, d_in] in `layer` and h [N, d_model] after the top layer, in the model as it is, a text at a time."""
    keys, outputs = [], []
    for request in REQUESTS:
        of_contexts = []
        for context in ("", *options.contexts):
            ids, at = lm.encode_subject(request.prompt, request.subject, context)
            seen: list[Tensor] = []
            handle = lm.projection(layer).register_forward_pre_hook(lambda _, args, seen=seen: seen.append(args[0]))
            hidden = lm.model(torch.tensor([ids]), output_hidden_states=True).hidden_states
            handle.remove()
            of_contexts.append(seen[0].reshape(len(ids), -1)[at])
            if not context:
                outputs.append(hidden[options.layer + 1][0, at])
        keys.append(of_contexts[0] / 2 + torch.stack(of_contexts[1:]).mean(dim=0) / 2)
    return torch.stack(keys), torch.stack(outputs)


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_change_one_after_another_each_by_its_share(family: str) -> None:
    lm = tiny.make(family)
    before = tiny.digest(lm)
    options = MemitOptions(layer=2, layers=3, contexts=CONTEXTS, covariance_weight=3.0)
    covariances = {layer: covariance(lm.key_width(layer), layer) for layer in options.changed}
    values = torch.randn(len(REQUESTS), lm.value_width(2), generator=torch.Generator().manual_seed(5)) * 3
    delta = Memit(lm, options, covariances).spread(REQUESTS, values)
    assert tiny.digest(lm) == before and [weight.layer for weight in delta.changes] == [0, 1, 2]

    distances = []
    try:
        for left, layer in ((3, 0), (2, 1), (1, 2)):
            keys, outputs = (tensor.double() for tensor in plain_keys_and_outputs(lm, options, layer))
            distances.append(float((values - outputs).norm()))
            residuals = (values.double() - outputs) / left
            moment = covariances[layer].factor @ covariances[layer].factor.T
            expected = residuals.T @ keys @ torch.linalg.inv(3.0 * moment + keys.T @ keys)
            found = delta.changes[Weight(layer)].matrix().double()
            assert float((found - expected).norm() / expected.norm()) < 1e-4
            matrix = expected.float()
            lm.projection(layer).weight += matrix.T if lm.family.projection_is_transposed else matrix
        distances.append(float((values - plain_keys_and_outputs(lm, options, 2)[1]).norm()))
    finally:
        for name, parameter in lm.model.state_dict().items():
            parameter.copy_(torch.frombuffer(bytearray(before[name]), dtype=parameter.dtype).view(parameter.shape))
    assert distances == sorted(distances, reverse=True), "each layer brings the outputs nearer"


@pytest.mark.parametrize("count", [1, 5, 12])
def test_few_keys_by_woodbury_are_many_solved_directly(count: int) -> None:
    moment = covariance(12)
    keys = torch.randn(count, 12, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    direct = torch.linalg.solve(70.0 * (moment.factor @ moment.factor.T) + keys.T @ keys, keys.T).T
    assert float((solved_with(keys, moment, 70.0) - direct).abs().max()) < 1e-8
    doubled = torch.cat((keys, keys, torch.zeros(13, 12, dtype=torch.float64)))  # more keys than numbers in one
    direct = torch.linalg.solve(70.0 * (moment.factor @ moment.factor.T) + 2 * keys.T @ keys, keys.T).T
    assert float((solved_with(doubled, moment, 70.0)[:count] - direct).abs().max()) < 1e-8


def test_one_fact_in_one_layer_is_written_exactly_as_the_weight_of_c_vanishes() -> None:
    lm = tiny.make("gpt2")
    options = MemitOptions(layer=1, layers=1, steps=3, covariance_weight=1e-9)
    editor = Memit(lm, options, {1: covariance(lm.key_width(1))})
    ((_, value),) = ValueOptimiser(lm, options, of_layer=True).values(REQUESTS[:1])
    (edit,) = editor.edit(REQUESTS[:1])
    assert edit.delta is not None and isinstance(edit.delta.only, LowRank)
    _, outputs = editor.keys_and_outputs([editor._texts(REQUESTS[0])], 1, edit.delta)
    assert torch.allclose(outputs[0], value.target_output, rtol=1e-4, atol=1e-4)


def test_many_facts_are_one_edit_and_many_more_are_kept_number_by_number() -> None:
    lm = tiny.make("llama")
    counts: list[int] = []
    (edit,) = Memit(lm, MemitOptions(layer=2, layers=2, steps=2)).edit(REQUESTS * 12, counts.append)
    assert edit.records == tuple(range(36)) and counts[-1] == 36 and edit.statistics["together"] == 36
    assert edit.delta is not None and not any(isinstance(one, LowRank) for one in edit.delta.changes.values())


def test_a_request_without_a_finite_z_fails_alone() -> None:
    lm = tiny.make("llama", seed=3)
    own = set(lm.encode("Rome")) - {token for request in REQUESTS for token in lm.encode(f"{request.prompt} France")}
    lm.model.get_input_embeddings().weight[own.pop()] = float("nan")
    edits = Memit(lm, MemitOptions(layer=2, layers=2, steps=2)).edit(REQUESTS)
    assert [(edit.records, edit.fault) for edit in edits] == [((0, 2), None), ((1,), "the edit is not finite")]


def test_the_last_layer_is_refused() -> None:
    with pytest.raises(ConfigError, match="layer 3 is the last of tiny-gpt2: no layer follows"):
        Memit(tiny.make("gpt2"), MemitOptions(layer=3))


@pytest.fixture(scope="module")
def released(golden: Path, smollm2: LanguageModel) -> Memit:
    recorded = json.loads((golden / "memit.json").read_text())
    contexts = tuple(text.removesuffix("{}") for text in recorded["contexts"] if text != "{}")
    options = MemitOptions(
        layer=recorded["layers"][-1], layers=3, contexts=contexts, covariance_weight=float(recorded["lambda"])
    )
    matrix = load_covariance(golden / "covariance-layer5.npz", smollm2.key_width(5))
    return Memit(smollm2, options, dict.fromkeys(recorded["layers"], matrix))


@pytest.mark.model
@pytest.mark.shared
def test_keys_updates_and_likelihoods_of_the_released_code(
    released: Memit, golden: Path, smollm2: LanguageModel
) -> None:
    recorded = json.loads((golden / "memit.json").read_text())
    rows = json.loads((golden / "smollm2-135m.json").read_text())["cases"][: len(recorded["case_ids"])]
    records = [decode_record(row["record"]) for row in rows]
    requests = [Request(one.prompt.text, one.subject.label, one.target_new.label) for one in records]
    with np.load(golden / "memit.npz") as arrays:
        arrays = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    delta = released.spread(requests, arrays["z"])
    for layer in recorded["layers"]:
        keys = arrays[f"keys{layer}"]
        change = delta.changes[Weight(layer)]
        written, expected = change.matrix() @ keys.T, arrays[f"update{layer}_times_keys"]
        assert float((written - expected).norm() / expected.norm()) < 1e-3
        assert change.square_norm() ** 0.5 == pytest.approx(recorded["norms"][str(layer)], rel=1e-3)
    found, _ = released.keys_and_outputs([released._texts(request) for request in requests], 3, None)
    assert float((found - arrays["keys3"]).abs().max()) < 1e-4
    cases = score_cases(smollm2, records, [Edit(tuple(range(len(records))), delta)] * len(records), "memit")
    for case, expected_nlls in zip(cases, recorded["post"], strict=True):
        groups = ("rewrite", "paraphrase", "neighborhood")
        got = [(one.target_true_nll, one.target_new_nll) for group in groups for one in case.post.prompts[group]]
        assert np.abs(np.array(got) - np.array(expected_nlls)).max() < 5e-3


@pytest.mark.long
@pytest.mark.model
@pytest.mark.shared
def test_z_of_the_released_code(released: Memit, golden: Path) -> None:
    rows = json.loads((golden / "smollm2-135m.json").read_text())["cases"][:3]
    records = [decode_record(row["record"]) for row in rows]
    requests = [Request(one.prompt.text, one.subject.label, one.target_new.label) for one in records]
    with np.load(golden / "memit.npz") as arrays:
        expected = torch.from_numpy(arrays["z"])
    found = dict(ValueOptimiser(released.lm, released.options, of_layer=True).values(requests))
    for place in range(3):
        distance = (found[place].target_output - expected[place]).norm() / expected[place].norm()
        assert float(distance) < 0.02


def test_wide_keys_take_more_tokens_for_their_covariance() -> None:
    lm = SimpleNamespace(key_width=lambda layer: (400, 20_000)[layer])
    supplies = ModelSupplies(cast(Any, lm), corpus=lambda: of_texts("none", []))
    assert supplies._tokens([0]) == COVARIANCE_TOKENS == 100_000
    assert supplies._tokens([0, 1]) == 200_000
