"""MEND and KE against their specification written plainly, on tiny random models, and against the released code."""

from __future__ import annotations

import json
import random
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
from torch.func import functional_call

from benchmarks import plain_mend
from cfbuild.data import Request
from cfbuild.edit.trained.artefact import new_network
from cfbuild.edit.trained.ke import KeNetwork
from cfbuild.edit.trained.lessons import Lesson, Lessons, record_lessons, split, text_lessons
from cfbuild.edit.trained.material import Material, TargetedPrompt, Tokens, TopLayers, edited_weights, material
from cfbuild.edit.trained.mend import MendNetwork, Statistics
from cfbuild.edit.trained.network_editor import ReleasedMend, TrainedEditor, TrainedOptions, rates_as_released
from cfbuild.edit.trained.training import Training, TrainingSettings
from cfbuild.lm.delta import Delta
from cfbuild.lm.load import load
from cfbuild.lm.model import Ids, LanguageModel, Weight

FAMILIES = ("gpt2", "llama", "opt", "gptj")
SETTINGS = TrainingSettings(
    steps=300,
    batch=4,
    learning_rate=1e-3,
    rate_learning_rate=1e-3,
    edit_weight=0.1,
    valid_every=100,
    patience=99,
    seed=0,
)
TEXTS = (
    "The capital city of France is Paris.",
    "She speaks English, German, Spanish.",
    "Berlin lies in Germany, and Rome lies in Italy.",
)


def lessons_of(lm: LanguageModel, count: int = 20) -> Lessons:
    """Lessons of random tokens: edits, two wordings each, and texts that must stay."""
    draw = random.Random(3)
    width = lm.model.config.vocab_size

    def ids(length: int) -> Ids:
        return tuple(draw.randrange(1, width) for _ in range(length))

    def lesson() -> Lesson:
        prompt, target, rival = ids(draw.randint(3, 7)), ids(draw.randint(1, 3)), ids(2)
        prompts = (prompt, ids(2) + prompt, prompt[1:])
        examples = [TargetedPrompt(one, target) for one in prompts]
        return Lesson(
            examples[0], tuple(examples[1:]), tuple(TargetedPrompt(one, rival) for one in prompts), (ids(5), ids(9))
        )

    made = tuple(lesson() for _ in range(count))
    return Lessons(made, made[: count // 2], (ids(6), ids(11)))


def network_of(lm: LanguageModel, kind: str, lessons: Lessons | None = None, started: bool = True) -> Any:
    """Return a network whose every part acts: numbers that begin as zero are small random ones."""
    network = new_network(kind, lm, 0, 8, (lessons or lessons_of(lm)).tokens)
    if started:
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    return network


def material_of(lm: LanguageModel, examples: Sequence[TargetedPrompt]) -> Material:
    weights = edited_weights(lm)
    top = TopLayers(lm, weights[0].layer)
    return material(top, top.rows(tuple(one.ids for one in examples)), examples, weights)


def plain_material(lm: LanguageModel, example: TargetedPrompt) -> dict[Weight, tuple[Tensor, Tensor]]:
    """x and the gradient of every token of one edit, by the whole model and autograd through all of it."""
    tokens = plain_mend.material_of(lm, edited_weights(lm), example).tokens
    return {weight: (found.inputs, found.gradients) for weight, found in tokens.items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_material_of_a_padded_batch_is_that_of_the_whole_model_one_edit_at_a_time(family: str) -> None:
    lm = tiny.make(family)
    before = tiny.digest(lm)
    examples = [lesson.inner for lesson in lessons_of(lm, 3).train]
    assert len({len(one.ids) for one in examples}) > 1
    made = material_of(lm, examples)
    for place, example in enumerate(examples):
        expected = plain_material(lm, example)
        assert [*expected] != [] and set(expected) == set(made.tokens)
        for weight, (inputs, gradients) in expected.items():
            tokens = made.tokens[weight]
            assert torch.allclose(tokens.inputs[tokens.spans[place]], inputs, atol=1e-5)
            assert torch.allclose(tokens.gradients[tokens.spans[place]], gradients, atol=1e-6, rtol=1e-4)
    assert tiny.digest(lm) == before


def test_a_gated_mlp_has_three_matrices_and_another_two() -> None:
    assert [one.part for one in edited_weights(tiny.make("llama"))] == ["mlp_gate", "mlp_in", "mlp_out"] * 3
    assert [one.part for one in edited_weights(tiny.make("gpt2"))] == ["mlp_out", "mlp_in"] * 3
    assert {one.layer for one in edited_weights(tiny.make("gpt2"))} == {1, 2, 3}


def test_running_statistics_are_those_of_all_rows() -> None:
    rows = torch.randn(57, 6, generator=torch.Generator().manual_seed(0)) * torch.tensor([1e-6, 1e-3, 1, 10, 3, 0.1])
    by_one, by_parts = Statistics(6), Statistics(6)
    for row in rows:
        by_one.update(row[None])
    for part in (rows[:1], rows[1:20], rows[20:20], rows[20:]):
        by_parts.update(part)
    for statistics in (by_one, by_parts):
        assert int(statistics.count) == 57
        np.testing.assert_allclose(statistics.mean, rows.numpy().mean(axis=0), rtol=1e-4, atol=1e-9)
        np.testing.assert_allclose(statistics.deviation, rows.numpy().std(axis=0, ddof=1), rtol=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_at_the_start_the_transform_is_the_identity_on_normalised_numbers_and_can_learn(family: str) -> None:
    lm = tiny.make(family)
    lessons = lessons_of(lm)
    seen = material_of(lm, [lesson.inner for lesson in lessons.train[:5]])
    network = network_of(lm, "mend", started=False).train()
    deltas = network(seen)
    for shape in {lm.shape(weight) for weight in network.weights}:
        weights = [weight for weight in network.weights if lm.shape(weight) == shape]
        inputs = torch.cat([seen.tokens[weight].inputs for weight in weights])
        gradients = torch.cat([seen.tokens[weight].gradients for weight in weights])
        for weight in weights:
            tokens = seen.tokens[weight]
            for delta, span in zip(deltas, tokens.spans, strict=True):
                x = (tokens.inputs[span] - inputs.mean(0)) / (inputs.std(0) + 1e-7)
                g = (tokens.gradients[span] - gradients.mean(0)) / (gradients.std(0) + 1e-7)
                assert torch.allclose(delta.changes[weight].matrix(), 1e-4 * g.T @ x, rtol=1e-3, atol=1e-6)
    sum(change.matrix().square().sum() for change in deltas[0].changes.values()).backward()
    for transform in network.transforms.values():
        assert float(transform.blocks[0].out.grad.abs().max()) > 0, "a relu would pass no gradient here"


@pytest.mark.parametrize("kind", ["mend", "ke"])
def test_a_padded_batch_is_its_edits_one_at_a_time(kind: str) -> None:
    lm = tiny.make("llama")
    lessons = lessons_of(lm)
    network = network_of(lm, kind, lessons).train()
    network(material_of(lm, [lesson.inner for lesson in lessons.train]))  # statistics
    network.eval()
    examples = [lesson.inner for lesson in lessons.train[:3]]
    together = network(material_of(lm, examples))
    alone = [network(material_of(lm, [one]))[0] for one in examples]
    for weight in network.weights:
        summed = sum(delta.changes[weight].matrix() for delta in alone)
        assert torch.allclose(sum(delta.changes[weight].matrix() for delta in together), summed, rtol=1e-4, atol=1e-5)


def plain_losses(lm: LanguageModel, network: Any, drawn: Sequence[Any]) -> Tensor:
    """Return the loss of a step: the whole model for every text, each edit's change formed densely and put into W."""
    lessons = [lesson.lesson for lesson in drawn]
    plain = [plain_material(lm, lesson.inner) for lesson in lessons]
    tokens = {
        weight: Tokens(
            torch.cat([lesson[weight][0] for lesson in plain]),
            torch.cat([lesson[weight][1] for lesson in plain]),
            tuple(len(lesson[weight][0]) for lesson in plain),
        )
        for weight in network.weights
    }
    deltas = network(
        Material(tuple(lesson.inner.prompt + lesson.inner.target for lesson in lessons), tokens, torch.zeros(0))
    )
    names = {id(parameter): name for name, parameter in lm.model.named_parameters()}
    edit, stay = [], []
    for lesson, delta in zip(drawn, deltas, strict=True):
        changed = {}
        for weight, change in delta.changes.items():
            matrix = change.matrix()
            original = lm.weight(weight)
            changed[names[id(original)]] = original + (matrix.T if lm.is_transposed(weight) else matrix)
        outer = lesson.lesson.outers[lesson.wording]
        logits = functional_call(lm.model, changed, (torch.tensor([outer.prompt + outer.target]),)).logits[0]
        edit.append(torch.nn.functional.cross_entropy(logits[len(outer.prompt) - 1 : -1], torch.tensor(outer.target)))
        text = torch.tensor([lesson.texts[lesson.place]])
        base = lm.model(text).logits[0].log_softmax(-1)
        now = functional_call(lm.model, changed, (text,)).logits[0].log_softmax(-1)
        stay.append((base.exp() * (base - now)).sum(-1).mean())
    return 0.1 * torch.stack(edit).mean() + torch.stack(stay).mean()


@pytest.mark.parametrize("kind", ["mend", "ke"])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_the_gradient_through_the_overlay_is_that_of_dense_weights(family: str, kind: str) -> None:
    lm = tiny.make(family)
    before = tiny.digest(lm)
    lessons = lessons_of(lm)
    network = network_of(lm, kind, lessons)
    network.train()
    network(material_of(lm, [lesson.inner for lesson in lessons.train]))
    network.eval()  # both ways with the same statistics
    training = Training(lm, network, network.weights, lessons, SETTINGS)
    drawn = [*training.draw(0), *training.draw(1)]
    assert {len(lesson.texts) for lesson in drawn} == {1, 5}, "general texts and a lesson's own"
    edit, locality = training.losses(drawn)
    ours = torch.autograd.grad(0.1 * edit + locality, [*network.parameters()])
    loss = plain_losses(lm, network, drawn)
    theirs = torch.autograd.grad(loss, [*network.parameters()])
    assert float((0.1 * edit + locality).detach()) == pytest.approx(float(loss.detach()), rel=1e-5)
    for (name, _), gradient, expected in zip(network.named_parameters(), ours, theirs, strict=True):
        assert float((gradient - expected).abs().max()) <= 1e-5 * max(1.0, float(expected.abs().max())), name
    assert all(float(gradient.abs().max()) > 0 for gradient in theirs)
    assert tiny.digest(lm) == before and not any(weight.requires_grad for weight in lm.model.parameters())


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_ke_change_is_the_gated_gradient(family: str) -> None:
    lm = tiny.make(family)
    lessons = lessons_of(lm)
    network = network_of(lm, "ke", lessons).eval()
    example = lessons.train[0].inner
    (delta,) = network(material_of(lm, [example]))
    condition = network.condition((example.prompt + example.target,))
    weights = [lm.weight(weight) for weight in network.weights]
    for weight in weights:
        weight.requires_grad_()
    try:
        logits = lm.model(torch.tensor([example.prompt + example.target])).logits[0, len(example.prompt) - 1 : -1]
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(example.target))
        gradients = torch.autograd.grad(loss, weights)
    finally:
        for weight in weights:
            weight.requires_grad_(False)
    for weight, head, gradient in zip(network.weights, network.heads, gradients, strict=True):
        columns_a, rows_a, columns_b, rows_b, gate = (one[0] for one in head(condition))
        assert float(rows_a.detach().sum()) == pytest.approx(1) and rows_a.shape == (gradient.shape[0],)
        expected = gate * (gradient * torch.outer(rows_a, columns_a) + torch.outer(rows_b, columns_b))
        change = delta.changes[weight]
        found = change.matrix().T if lm.is_transposed(weight) else change.matrix()
        assert torch.allclose(found, expected, atol=1e-5) and float(expected.detach().abs().max()) > 1e-4
        assert len(change.keys) <= len(example.ids) + 1


def test_the_gradients_of_ke_s_heads_are_finite_differences() -> None:
    lm = tiny.make("gpt2")
    lessons = lessons_of(lm)
    network = network_of(lm, "ke", lessons).double().eval()
    seen = material_of(lm, [lessons.train[0].inner])
    tokens = {weight: replace(token, inputs=token.inputs.double(), gradients=token.gradients.double() * 100)
              for weight, token in seen.tokens.items()}  # fmt: skip
    seen = replace(seen, tokens=tokens)

    def value() -> Tensor:
        (delta,) = network(seen)
        return sum(
            (change.matrix() * torch.linspace(-1, 1, change.shape[1])).sum() for change in delta.changes.values()
        )

    value().backward()
    step = 1e-6
    for head in (network.heads[0], network.heads[-1]):
        for name, parameter in head.named_parameters():
            flat, gradient = parameter.data.view(-1), parameter.grad.view(-1)
            for place in (0, len(flat) // 2, len(flat) - 1):
                flat[place] += step
                above = float(value().detach())
                flat[place] -= 2 * step
                below = float(value().detach())
                flat[place] += step
                assert (above - below) / (2 * step) == pytest.approx(float(gradient[place]), rel=1e-4, abs=1e-8), name


def test_a_token_that_training_does_not_meet_is_read_as_the_model_embeds_it() -> None:
    lm = tiny.make("gpt2")
    network = new_network("ke", lm, 0, tokens={0, 5, 9})
    assert isinstance(network, KeNetwork) and network.tokens.tolist() == [5, 9], "token 0 is padding"
    with torch.no_grad():
        network.own += 1
    table = lm.model.get_input_embeddings().weight
    read = network._embedded(torch.tensor([5, 7, 0, 9]))
    assert torch.allclose(read, torch.stack([table[5] + 1, table[7], table[0], table[9] + 1]))
    longer = network.condition(((5, 7), (9, 5, 7, 8)))
    assert torch.allclose(longer[0], network.condition(((5, 7),))[0], atol=1e-6), "fillers are not read"


@pytest.mark.parametrize(
    ("kind", "family", "rate"), [("mend", "llama", 1e-3), pytest.param("ke", "gpt2", 5e-3, marks=pytest.mark.long)]
)
def test_the_loss_falls_on_memorised_edits(kind: str, family: str, rate: float, tmp_path: Path) -> None:
    lm = tiny.make(family)
    before = tiny.digest(lm)
    lessons = lessons_of(lm)
    lessons = Lessons(lessons.train, lessons.train, lessons.texts)
    network = network_of(lm, kind, lessons, started=False)
    settings = replace(SETTINGS, steps=40, valid_every=20, learning_rate=rate)
    training = Training(lm, network, network.weights, lessons, settings)
    training._validate()
    training.run(tmp_path)
    first, best = training.history[0], training.best
    assert best.loss < 0.85 * first.loss and best.step >= 20
    assert best.es > 80 and best.edit < 0.75 * first.edit
    assert tiny.digest(lm) == before


def test_training_ends_where_nothing_improves_and_keeps_the_best(tmp_path: Path) -> None:
    lm = tiny.make("gpt2")
    lessons = lessons_of(lm)
    network = network_of(lm, "mend", lessons)
    wild = replace(SETTINGS, learning_rate=0.02, rate_learning_rate=0.02, valid_every=1, patience=3, steps=100)
    training = Training(lm, network, network.weights, lessons, wild)
    training.run(tmp_path)
    assert training.step < 100 and training.best not in training.history[-3:]
    training.history = []
    training._validate()
    losses = [json.loads(json.dumps(one.loss)) for one in training.history]
    assert losses[0] == pytest.approx(torch.load(tmp_path / "checkpoint.pt")["history"][-4]["loss"], rel=1e-4)


def test_an_iteration_that_is_not_finite_is_skipped() -> None:
    lm = tiny.make("gpt2")
    lessons = lessons_of(lm)
    network = network_of(lm, "mend", lessons)
    training = Training(lm, network, network.weights, lessons, SETTINGS)
    training._train_step()
    kept = {name: value.clone() for name, value in network.named_parameters()}
    with torch.no_grad():
        network.rates[0] = float("inf")
    training._train_step()
    assert training._skipped == 1
    assert all(torch.equal(value, kept[name]) for name, value in network.named_parameters() if name != "rates")


# ---------------------------------------------------------------------------------------------------- the editors


REQUESTS = (
    Request("The mother tongue of {} is", "Danielle Darrieux", "New Zealand English"),
    Request("{} lies in", "Rome", "Germany"),
    Request("The capital city of {} is", "France", "Berlin"),
)


def seen_mend(lm: LanguageModel) -> MendNetwork:
    network: MendNetwork = network_of(lm, "mend").train()
    network(material_of(lm, [lesson.inner for lesson in lessons_of(lm).train]))
    return network.eval().requires_grad_(False)


def matrices(delta: Delta | None) -> dict[Weight, Tensor]:
    assert delta is not None
    return {weight: change.matrix() for weight, change in delta.changes.items()}


def test_an_edit_does_not_depend_on_the_others_of_its_call_but_as_released() -> None:
    lm = tiny.make("gpt2")
    network = seen_mend(lm)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    right, released = TrainedEditor(lm, TrainedOptions(), network), ReleasedMend(lm, TrainedOptions(), network)

    def last(editor: TrainedEditor, *places: int) -> dict[Weight, Tensor]:
        return matrices(editor.edit([REQUESTS[place] for place in places])[-1].delta)

    for weight, alone in last(right, 2).items():
        assert torch.allclose(last(right, 0, 1, 2)[weight], alone, atol=1e-6)
    assert any(
        not torch.allclose(last(released, 0, 2)[weight], tensor, atol=1e-6)
        for weight, tensor in last(released, 2).items()
    )
    for weight, again in last(released, 0, 2).items():
        assert torch.equal(last(released, 0, 2)[weight], again), "a call begins anew"
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def test_as_released_hands_out_rates_in_the_order_of_the_models_parameters() -> None:
    gpt2, llama = tiny.make("gpt2"), tiny.make("llama")
    assert rates_as_released(gpt2, edited_weights(gpt2)) == [1, 0, 3, 2, 5, 4], "c_proj and c_fc change places"
    assert rates_as_released(llama, edited_weights(llama)) == [*range(9)]
    network = seen_mend(gpt2)
    with torch.no_grad():
        network.rates.copy_(torch.arange(1.0, 7))
        # One request restarts the statistics, so that only the rates are left to differ.
        anew = ReleasedMend(gpt2, TrainedOptions(), network).edit(REQUESTS[:1])[0]
        network.restart_statistics()
        network.train()
        (plain,) = network(material_of(gpt2, [example_of(gpt2, REQUESTS[0])]))
    for place, weight in enumerate(network.weights):
        expected = plain.changes[weight].matrix() * [2, 1, 4, 3, 6, 5][place] / (place + 1)
        assert float((matrices(anew.delta)[weight] - expected).norm() / expected.norm()) < 1e-3


def example_of(lm: LanguageModel, request: Request) -> TargetedPrompt:
    prompt, _ = lm.encode_subject(request.prompt, request.subject)
    return TargetedPrompt(prompt, lm.continuation(request.target_new))


# ---------------------------------------------------------------------------------------------------- what is learned


def test_no_subject_is_in_two_parts() -> None:
    records = [scored_build.record(number, entity=number // 3) for number in range(120)]
    records += [scored_build.record(200, subject=records[0].subject.label, entity=70)]
    records += [scored_build.record(201, subject="Another Name", entity=70)]  # by way of record 200, like record 0
    parts = split(records, 0)
    assert sorted(record.case_id for part in (parts.train, parts.valid, parts.test) for record in part) == sorted(
        record.case_id for record in records
    )
    assert parts == split(records, 0) and parts != split(records, 1)
    assert len(parts.test) >= 0.2 * len(records) and 0 < len(parts.valid) <= 0.05 * len(records)
    parts_drawn = (parts.train, parts.valid, parts.test)
    for keys in (
        lambda record: record.subject.id,
        lambda record: record.subject.label,
        lambda record: (record.subject.id, record.relation),
    ):
        sets = [{keys(record) for record in part} for part in parts_drawn]
        assert all(a.isdisjoint(b) for place, a in enumerate(sets) for b in sets[place + 1 :])
    places = {record.case_id: place for place, part in enumerate(parts_drawn) for record in part}
    assert places[0] == places[200] == places[201]
    assert len(split(records, 0, train=10).train) <= 10


def test_lessons_of_records_use_clean_wordings_and_no_neighbour_of_another_part() -> None:
    lm = tiny.make("gpt2")
    records = [scored_build.record(number) for number in range(30)]
    parts = split(records, 0)
    held_out = parts.test[0]
    near = replace(records[0].neighborhood[0], entity=held_out.subject.id)
    unnamed = replace(records[0].neighborhood[0], entity="", text=f"{held_out.subject.label} lives in the city of")
    changed = replace(parts.train[0], neighborhood=(near, unnamed, *parts.train[0].neighborhood[:2]))
    parts = replace(parts, train=(changed, *parts.train[1:]))
    lessons = record_lessons(lm, parts, TEXTS, 0, 8)
    assert len(lessons.train) == len(parts.train) and len(lessons.valid) == len(parts.valid)
    lesson = lessons.train[0]
    true = lm.continuation(changed.target_true.label)
    assert {*lesson.locality} == {lm.encode(one.text) + true for one in changed.neighborhood[2:]}
    assert lesson.inner == TargetedPrompt(lm.encode(changed.rewrite), lm.continuation(changed.target_new.label))
    assert [one.prompt for one in lesson.outers] == [lm.encode(one.clean) for one in changed.paraphrases]
    assert [one.target for one in lesson.rivals] == [true] * len(lesson.examples)
    assert all(0 < len(text) <= 8 for text in lessons.texts)


def test_lessons_of_texts_end_in_what_the_model_wrote() -> None:
    lm = tiny.make("gpt2")
    lessons = text_lessons(lm, [*TEXTS, "short"] * 9, 0, 16)
    assert lessons == text_lessons(lm, [*TEXTS, "short"] * 9, 0, 16)
    assert len(lessons.train) + len(lessons.valid) == 27 and len(lessons.valid) == 1
    for lesson in (*lessons.train, *lessons.valid):
        assert len(lesson.inner.target) == 10 and not lesson.rivals
        for outer in lesson.outers:
            cut = len(lesson.inner.prompt) - len(outer.prompt)
            assert 0 <= cut <= len(lesson.inner.prompt) // 2
            assert outer.target == lesson.inner.target and outer.prompt == lesson.inner.prompt[cut:]


# ---------------------------------------------------------------------------------------------------- the released code


@pytest.mark.shared
def test_the_transform_of_the_released_code(golden: Path) -> None:
    release = json.loads((golden / "mend.json").read_text())
    with np.load(golden / "mend.npz") as arrays:
        arrays = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    lm = load(str(golden / "tiny-gpt2"), device="cpu")
    weights = [Weight(layer, part) for layer in (1, 2) for part in ("mlp_out", "mlp_in")]
    assert release["inner_params"] == [
        f"transformer.h.{weight.layer}.mlp.{'c_proj' if weight.part == 'mlp_out' else 'c_fc'}.weight"
        for weight in weights
    ]
    network = MendNetwork({weight: lm.shape(weight) for weight in weights}, 16)
    names = {"out": "u", "into": "v", "bias": "bias", "scale": "scale", "shift": "shift"}
    for shape in release["shapes"]:
        for number in range(2):
            block = network.transforms[shape].blocks[number]
            for ours, theirs in names.items():
                getattr(block, ours).data.copy_(arrays[f"{shape}_block{number}_{theirs}"])
    examples = [
        TargetedPrompt(lm.encode(prompt), lm.continuation(target.strip())) for prompt, target in release["edits"]
    ]
    top = TopLayers(lm, 1)
    network.train()
    for example in examples[:3]:
        network(material(top, top.rows((example.ids,)), [example], weights))
    for shape in release["shapes"]:
        transform = network.transforms[shape]
        for statistics, name in ((transform.inputs, "u"), (transform.gradients, "v")):
            assert int(statistics.count) == int(arrays[f"{shape}_k"])
            for found, kind in ((statistics.mean, "mean"), (statistics.deviation, "std")):
                expected = arrays[f"{shape}_{name}_{kind}"]
                assert float((found - expected).abs().max()) <= 1e-5 * max(1.0, float(expected.abs().max()))
    network.eval()
    seen = material(top, top.rows((examples[3].ids,)), examples[3:], weights)
    assert float(seen.losses[0]) == pytest.approx(release["loss_of_last"], abs=1e-5)
    with torch.no_grad():
        network.rates.fill_(1)
        (delta,) = network(seen)
    for weight, name in zip(weights, release["inner_params"], strict=True):
        name = name.replace(".", "_")
        kept = arrays[f"delta_{name}"].abs().sum(1) > 0
        assert torch.allclose(seen.tokens[weight].inputs, arrays[f"x_{name}"][kept], atol=1e-5)
        assert torch.allclose(seen.tokens[weight].gradients, arrays[f"delta_{name}"][kept], atol=1e-5)
        expected = arrays[f"update_{name}"]  # stored [in, out]
        assert float((delta.changes[weight].matrix().T - expected).norm() / expected.norm()) < 1e-5
