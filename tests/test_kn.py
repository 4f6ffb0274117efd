"""KN against its specification written plainly, on tiny random models, and against the released code's numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scored_build
import tiny
import torch
from torch import Tensor

from cfbuild.data import Request
from cfbuild.edit import kn as kn_module
from cfbuild.edit.kn import NOTHING_KEPT, Kn, KnOptions, kept_neurons
from cfbuild.edit.saved import load_edits, save_edits
from cfbuild.errors import ConfigError
from cfbuild.lm.delta import LowRank
from cfbuild.lm.load import load
from cfbuild.lm.model import Ids, LanguageModel, Weight
from cfbuild.score.passes import request_of

REQUESTS = (
    Request("The mother tongue of {} is", "Danielle Darrieux", "New Zealand English", "French"),
    Request("{} lies in", "Rome", "Germany", "New Zealand English"),
    Request("{}", "R", "Germany", "Paris"),
)
SITES = {
    "gpt2": ("pre", "post"),
    "opt": ("pre", "post"),
    "gptj": ("pre", "post"),
    "llama": ("pre",),
    "gemma2": ("pre",),
}
SHAPES: dict[str, dict[str, Any]] = {"opt": {"word_embed_proj_dim": 32}}
CASES = [(family, site) for family, sites in SITES.items() for site in sites]


def bare(lm: LanguageModel, text: str) -> Ids:
    return tuple(lm.tokenizer(text, add_special_tokens=False)["input_ids"])


def plain_attribution(lm: LanguageModel, prompt: Ids, target: Ids, options: KnOptions) -> Tensor:
    """Return the attribution, [layers, d_in]: whole texts, a row at a time, hooks and autograd through everything."""
    total = torch.zeros(len(lm.layers), lm.key_width(0))
    for place, token in enumerate(target):
        text = prompt if options.as_released else prompt + target[:place]
        for layer in range(len(lm.layers)):
            total[layer] += plain_gradients(lm, text, token, layer, options) / len(target)
    return total


def plain_gradients(lm: LanguageModel, text: Ids, token: int, layer: int, options: KnOptions) -> Tensor:
    """Return one layer's integrated gradients of p(token) after a text, [d_in]."""
    before = options.site == "pre" and "mlp_gate" not in lm.family.parts
    module = lm.module(Weight(layer, "mlp_in" if before else "mlp_out"))
    whole: list[Tensor] = []
    scaled: list[Tensor] = []

    def put(neurons: Tensor, share: float) -> Tensor:
        rows = neurons.reshape(len(text), -1).clone()
        whole.append(rows[-1].clone())
        scaled.append((share * rows[-1]).requires_grad_())
        rows[-1] = scaled[-1]
        return rows.reshape(neurons.shape)

    gradients = []
    for step in range(options.steps):
        share = step / (options.steps - 1)
        if before:
            hook = module.register_forward_hook(lambda _, __, output, share=share: put(output, share))
        else:
            hook = module.register_forward_pre_hook(lambda _, args, share=share: (put(args[0], share),))
        try:
            probability = lm.model(torch.tensor([text])).logits[0, -1].softmax(dim=-1)[token]
        finally:
            hook.remove()
        gradients.append(torch.autograd.grad(probability, scaled[-1])[0])
    return whole[0] / options.steps * torch.stack(gradients).sum(dim=0)


def plain_kept(attributions: Sequence[Tensor], share: float, refine_share: float) -> set[tuple[int, int]]:
    sets = [{tuple(pair) for pair in (one > share * one.max()).nonzero().tolist()} for one in attributions]
    every = set().union(*sets)
    return {pair for pair in every if sum(pair in of_prompt for of_prompt in sets) > refine_share * len(sets)}


def prompt_of(lm: LanguageModel, request: Request) -> Ids:
    return lm.encode(request.prompt.replace("{}", request.subject))


@pytest.mark.parametrize("as_released", [False, True])
@pytest.mark.parametrize(("family", "site"), CASES)
def test_attributions_are_integrated_gradients(family: str, site: str, as_released: bool) -> None:
    lm = tiny.make(family, **SHAPES.get(family, {}))
    before = tiny.digest(lm)
    options = KnOptions(steps=5, site=site, as_released=as_released)
    found = Kn(lm, options).attributions(REQUESTS)
    assert tiny.digest(lm) == before
    for request, attribution in zip(REQUESTS, found, strict=True):
        true = str(request.target_true)
        target = bare(lm, true) if as_released else lm.continuation(true)
        expected = plain_attribution(lm, prompt_of(lm, request), target, options)
        assert attribution.shape == (1, *expected.shape)
        assert float((attribution[0] - expected).abs().max()) < 1e-5 * float(expected.abs().max())


def test_sites_and_ways_differ() -> None:
    lm = tiny.make("gpt2")
    ways = [KnOptions(steps=5), KnOptions(steps=5, site="post"), KnOptions(steps=5, as_released=True)]
    first, *others = (Kn(lm, options).attributions(REQUESTS[:2])[1] for options in ways)
    for found in others:
        assert float((first - found).abs().max()) > 1e-2 * float(first.abs().max())


@pytest.mark.parametrize("rows", [0, 40, 10_000])
def test_layers_that_share_a_pass_do_not_see_each_other(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    lm = tiny.make("llama")
    options = KnOptions(steps=4)
    expected = Kn(lm, options).attributions(REQUESTS)
    monkeypatch.setattr(kn_module, "ROWS_IN_A_PASS", rows)
    for request, whole in zip(REQUESTS, expected, strict=True):
        (alone,) = Kn(lm, options).attributions([request])
        assert torch.allclose(alone, whole, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("as_released", [False, True])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_an_edit_is_minus_twice_the_old_answer_plus_the_new_objects_tokens(family: str, as_released: bool) -> None:
    lm = tiny.make(family)
    options = KnOptions(steps=5, as_released=as_released)
    counts: list[int] = []
    edits = Kn(lm, options).edit(REQUESTS, counts.append)
    assert counts[-1] == len(REQUESTS) and [edit.records for edit in edits] == [(0,), (1,), (2,)]
    embeddings = lm.model.get_input_embeddings().weight
    for request, edit in zip(REQUESTS, edits, strict=True):
        prompt = prompt_of(lm, request)
        old = int(lm.model(torch.tensor([prompt])).logits[0, -1].argmax())
        new = bare(lm, request.target_new) if as_released else lm.continuation(request.target_new)
        value = -2 * embeddings[old] + embeddings[list(new)].sum(dim=0)
        true = str(request.target_true)
        target = bare(lm, true) if as_released else lm.continuation(true)
        kept = plain_kept([plain_attribution(lm, prompt, target, options)], 0.2, 0.4)
        assert edit.delta is not None and edit.statistics["neurons"] == len(kept) > 0
        assert {weight.layer for weight in edit.delta.changes} == {layer for layer, _ in kept}
        for weight, change in edit.delta.changes.items():
            assert isinstance(change, LowRank) and len(change.keys) == 1 and weight.part == "mlp_out"
            expected = torch.zeros(lm.shape(weight))
            expected[:, [index for layer, index in kept if layer == weight.layer]] = value[:, None]
            assert torch.allclose(change.matrix(), expected, atol=1e-6)


def test_edits_that_write_one_value_into_several_layers_are_kept_in_a_file(tmp_path: Path) -> None:
    edits = Kn(tiny.make("llama"), KnOptions(steps=5)).edit(REQUESTS)
    assert any(edit.delta is not None and len(edit.delta.changes) > 1 for edit in edits)
    save_edits(tmp_path / "edits.safetensors", edits)
    for edit, kept in zip(edits, load_edits(tmp_path / "edits.safetensors"), strict=True):
        assert edit.delta is not None and kept.delta is not None and kept.statistics == edit.statistics
        assert kept.delta.changes.keys() == edit.delta.changes.keys()
        for weight, change in edit.delta.changes.items():
            assert torch.equal(kept.delta.changes[weight].matrix(), change.matrix())


@pytest.mark.parametrize("refine_share", [0.5, 0.7, 0.99])
def test_refined_over_two_prompts_is_their_intersection(refine_share: float) -> None:
    lm = tiny.make("gpt2")
    request = replace(REQUESTS[1], paraphrases=("The capital city of Rome is in",))
    options = KnOptions(steps=5, refine=True, refine_share=refine_share)
    target = lm.continuation(str(request.target_true))
    prompts = (prompt_of(lm, request), lm.encode(request.paraphrases[0]))
    both = [plain_kept([plain_attribution(lm, prompt, target, options)], 0.2, 0) for prompt in prompts]
    (edit,) = Kn(lm, options).edit([request])
    assert edit.delta is not None
    kept = {
        (weight.layer, int(index))
        for weight, change in edit.delta.changes.items()
        for index in change.matrix().any(dim=0).nonzero()
    }
    assert kept == both[0] & both[1] and kept < both[0] and kept < both[1]
    (coarse,) = Kn(lm, replace(options, refine=False)).edit([request])
    assert coarse.statistics["neurons"] == len(both[0])


def test_a_request_without_a_true_object_attributes_the_models_own_answer() -> None:
    lm = tiny.make("gpt2")
    request = replace(REQUESTS[1], target_true=None)
    prompt = prompt_of(lm, request)
    own = int(lm.model(torch.tensor([prompt])).logits[0, -1].argmax())
    options = KnOptions(steps=5)
    (found,) = Kn(lm, options).attributions([request])
    assert torch.allclose(found[0], plain_attribution(lm, prompt, (own,), options), atol=1e-5)


def test_no_neuron_above_the_threshold_and_numbers_that_are_not_finite_are_faults() -> None:
    attributions = -torch.ones(1, 2, 3)
    assert not bool(kept_neurons(attributions, 0.2, 0.4).any())
    lm = tiny.make("gpt2", seed=3)
    lm.model.get_output_embeddings().weight[lm.continuation("Germany")[0]] = float("nan")
    (edit,) = Kn(lm, KnOptions(steps=3)).edit(REQUESTS[1:2])
    assert edit.delta is None and edit.fault == "the edit is not finite"
    lm = tiny.make("gpt2")
    for layer in range(len(lm.layers)):  # neurons that nobody reads
        lm.projection(layer).weight.zero_()
    (edit,) = Kn(lm, KnOptions(steps=3)).edit(REQUESTS[1:2])
    assert edit.delta is None and edit.fault == NOTHING_KEPT


@pytest.mark.parametrize("given", [{"site": "in"}, {"steps": 1}, {"share": 1.0}, {"refine_share": 1.0}])
def test_settings_without_sense_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        KnOptions(**given)


def test_embeddings_of_another_width_are_refused() -> None:
    with pytest.raises(ConfigError, match="have 16 numbers and its layers write 32"):
        Kn(tiny.make("opt"), KnOptions())


def test_a_request_of_a_record_has_its_true_object_and_clean_paraphrases() -> None:
    record = scored_build.record(1, relation="P36", entity=1)
    request = request_of(record)
    assert (request.target_new, request.target_true) == (record.target_new.label, record.target_true.label)
    assert request.paraphrases == tuple(one.clean for one in record.paraphrases) != ()


@pytest.mark.shared
def test_numbers_of_the_released_code(golden: Path) -> None:
    lm = load(str(golden / "tiny-gpt2"), device="cpu")
    recorded = json.loads((golden / "kn.json").read_text())
    requests = []
    for case in recorded["cases"]:
        subject, _, rest = case["prompt"].partition(" ")
        requests.append(Request(f"{{}} {rest}", subject, case["target_new"], case["target_true"]))
    editor = Kn(lm, KnOptions(steps=recorded["steps"], share=recorded["threshold"], as_released=True))
    found, edits = editor.attributions(requests), editor.edit(requests)
    with np.load(golden / "kn.npz") as arrays:
        arrays = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    for place, case in enumerate(recorded["cases"]):
        expected, delta = arrays[f"attribution{place}"], edits[place].delta
        assert float((found[place][0] - expected).abs().max() / expected.abs().max()) < 1e-5
        assert kept_neurons(found[place], 0.2, 0.4).nonzero().tolist() == case["neurons"]
        assert delta is not None
        for layer in range(len(lm.layers)):
            change, written = delta.changes.get(Weight(layer)), arrays[f"change{place}_{layer}"].T
            assert torch.allclose(change.matrix() if change else torch.zeros_like(written), written, atol=1e-6)
