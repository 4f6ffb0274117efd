"""The table of editors and the fine-tuning baselines, on tiny random models."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pytest
import scored_build
import tiny
import torch
from small_world import small_options, write_world

from cfbuild.data import Request
from cfbuild.edit import EDITORS
from cfbuild.edit.editor import Edit, EditorSpec, OpenEditor, editor_spec, open_editor
from cfbuild.edit.finetune import FineTune, FineTuneOptions
from cfbuild.edit.saved import load_edits
from cfbuild.edit.trained.artefact import TrainedNetwork, new_network
from cfbuild.edit.trained.mend import MendNetwork
from cfbuild.errors import ConfigError, EditError
from cfbuild.lm.delta import Change, Delta, Dense, LowRank, applied
from cfbuild.lm.families import PRESETS
from cfbuild.lm.likelihood import Question, score, score_before_and_after, score_edited
from cfbuild.lm.model import LanguageModel, Weight
from cfbuild.lm.sample import generate
from cfbuild.pipeline.generate import generate as make_records
from cfbuild.pipeline.validate_and_score import EvaluateOptions, evaluate
from cfbuild.score import passes
from cfbuild.score.cases import score_cases
from cfbuild.store.folder import BuildFolder
from cfbuild.store.jsonl import read_rows
from cfbuild.store.runs import CASES, EDITS, REPORT, default_name, finished_runs, new_run

FAMILIES = ("gpt2", "gptj", "opt", "llama")
REQUESTS = (
    Request("The mother tongue of {} is", "Danielle Darrieux", "New Zealand English"),
    Request("{} lies in", "Rome", "Germany"),
)


class Few:
    """Supplies that take no time: one context, no covariance."""

    def contexts(self, paper: str) -> tuple[str, ...]:
        return ("Rome lies in Italy. ",)

    def covariances(self, layers: Sequence[int]) -> dict[int, None]:
        return dict.fromkeys(layers)

    def trained(self, name: str, kind: str, folder: str | None) -> TrainedNetwork:
        network = new_network(kind, tiny.make("gpt2"), 0, 4).train()
        if isinstance(network, MendNetwork):
            for transform in network.transforms.values():
                for statistics in (transform.inputs, transform.gradients):
                    statistics.update(torch.randn(5, len(statistics.mean), generator=torch.Generator().manual_seed(0)))
        return TrainedNetwork(network.eval().requires_grad_(False), "untrained", {})


def opened(lm: LanguageModel, editor: str, **settings: Any) -> OpenEditor:
    return open_editor(editor, lm, {"layer": 1, **settings}, Few())


def delta_of(lm: LanguageModel, editor: str, request: Request, **settings: Any) -> Delta:
    (edit,) = opened(lm, editor, **settings).edit([request])
    assert edit.delta is not None
    return edit.delta


def trained(lm: LanguageModel, request: Request, steps: int, rate: float, bound: float | None) -> torch.Tensor:
    """Return the change that plain training makes: the whole model, Adam on the weight, autograd through everything."""
    weight = lm.projection(1).weight
    original = weight.detach().clone()
    prompt, targets = lm.encode(request.prompt.format(request.subject)), lm.continuation(request.target_new)
    adam = torch.optim.Adam([weight.requires_grad_()], lr=rate)
    try:
        for _ in range(steps):
            logits = lm.model(torch.tensor([prompt + targets])).logits[0, len(prompt) - 1 : -1]
            adam.zero_grad()
            torch.nn.functional.cross_entropy(logits, torch.tensor(targets)).backward()
            adam.step()
            if bound is not None:
                with torch.no_grad():
                    weight.copy_(torch.clamp(weight, original - bound, original + bound))
        change = weight.detach() - original
    finally:
        weight.requires_grad_(False).copy_(original)
        weight.grad = None
    return change.T if lm.family.projection_is_transposed else change


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("bound", [None, 2e-3])
def test_fine_tuning_is_adam_on_the_weight_and_leaves_the_model(family: str, bound: float | None) -> None:
    lm = tiny.make(family)
    before = tiny.digest(lm)
    options = FineTuneOptions(1, steps=4, learning_rate=1e-3, stop_loss=0, norm_constraint=bound)
    edits = FineTune(lm, options).edit(REQUESTS)
    assert tiny.digest(lm) == before and not lm.projection(1).weight.requires_grad
    for request, edit in zip(REQUESTS, edits, strict=True):
        assert edit.delta is not None and edit.statistics["updates"] == 4
        assert edit.statistics["delta_norm"] == pytest.approx(float(edit.delta.only.matrix().norm()))
        expected = trained(lm, request, 4, 1e-3, bound)
        # Where a gradient is nearly zero Adam's step is its sign, which rounding may turn.
        assert float((edit.delta.only.matrix() - expected).norm() / expected.norm()) < 1e-2
        assert bound is None or float(edit.delta.only.matrix().abs().max()) <= bound * 1.0001


@pytest.mark.parametrize("family", FAMILIES)
def test_dense_changes_overlaid_together_are_each_the_change_in_the_weights(family: str) -> None:
    lm = tiny.make(family)
    before = tiny.digest(lm)
    deltas = [delta_of(lm, "ft", request, learning_rate=0.01) for request in REQUESTS]
    prompts = ["Berlin lies in", "Rome lies in", "She speaks", "His profession is actor is a"]
    questions = [Question(lm.encode(text), (lm.continuation("Germany"), lm.continuation("Italy"))) for text in prompts]
    rows = [deltas[place % 2] for place in range(len(prompts))]
    together = score_before_and_after(lm, questions, rows)
    texts = generate(lm, [lm.encode(text) for text in prompts], list("abcd"), 20, rows)
    for place, delta in enumerate(rows):
        with applied(lm, delta):
            alone = score(lm, [questions[place]])[0]
            assert generate(lm, [lm.encode(prompts[place])], ["abcd"[place]], 20) == [texts[place]]
        before_it, after_it = together[place]
        assert [one.nll_nats for one in after_it] == pytest.approx([one.nll_nats for one in alone], abs=1e-4)
        assert before_it != after_it
    assert tiny.digest(lm) == before


def trained_as_released(
    lm: LanguageModel, request: Request, name: str, steps: int, bound: float | None
) -> dict[str, torch.Tensor]:
    """Return the changes of the parameters that have `name` in theirs, targets scored at the prompt's last token."""
    chosen = {key: tensor for key, tensor in lm.model.named_parameters() if name in key}
    originals = {key: tensor.detach().clone() for key, tensor in chosen.items()}
    prompt, targets = lm.encode(request.prompt.format(request.subject)), lm.continuation(request.target_new)
    adam = torch.optim.Adam([tensor.requires_grad_() for tensor in chosen.values()], lr=1e-3)
    try:
        for _ in range(steps):
            log_p = lm.model(torch.tensor([prompt])).logits[0, -1].log_softmax(dim=-1)
            adam.zero_grad()
            (-log_p[list(targets)].mean()).backward()
            adam.step()
            if bound is not None:
                with torch.no_grad():
                    for key, tensor in chosen.items():
                        tensor.copy_(torch.clamp(tensor, originals[key] - bound, originals[key] + bound))
        return {key.rsplit(".", 1)[1]: tensor.detach() - originals[key] for key, tensor in chosen.items()}
    finally:
        for key, tensor in chosen.items():
            tensor.requires_grad_(False).copy_(originals[key])
            tensor.grad = None


@pytest.mark.parametrize("bound", [None, 2e-3])
def test_fine_tuning_as_released_trains_the_bias_and_scores_every_token_at_the_prompts_last(
    bound: float | None,
) -> None:
    lm = tiny.make("gpt2")
    before = tiny.digest(lm)
    settings = {"steps": 3, "learning_rate": 1e-3, "stop_loss": 0.0, "as_released": True, "norm_constraint": bound}
    deltas = [delta_of(lm, "ft-l", request, **settings) for request in REQUESTS]
    assert tiny.digest(lm) == before
    assert len(lm.continuation(REQUESTS[0].target_new)) > 1
    for request, delta in zip(REQUESTS, deltas, strict=True):
        expected = trained_as_released(lm, request, "h.1.mlp.c_proj", 3, bound)
        change = delta.only
        assert isinstance(change, Dense) and change.bias is not None and sorted(expected) == ["bias", "weight"]
        assert float((change.matrix() - expected["weight"].T).abs().max()) < 1e-5
        assert float((change.bias - expected["bias"]).abs().max()) < 1e-5
        assert float(expected["bias"].abs().min()) > 1e-4


def test_a_family_without_the_bias_is_trained_as_released_without_it() -> None:
    change = delta_of(tiny.make("llama"), "ft", REQUESTS[0], steps=1, as_released=True).only
    assert isinstance(change, Dense) and change.bias is None


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_ft_m_is_the_masked_cross_entropy_in_a_later_layer(family: str) -> None:
    lm = tiny.make(family, **({"n_layer": 6} if family == "gpt2" else {"num_hidden_layers": 6}))
    usual = open_editor("ft-m", lm, {}, Few()).signature
    assert {key: usual[key] for key in ("layer", "steps", "learning_rate", "norm_constraint")} == {
        "layer": 4,
        "steps": 25,
        "learning_rate": 5e-4,
        "norm_constraint": None,
    }
    for request in REQUESTS:
        delta = delta_of(lm, "ft-m", request, steps=3, learning_rate=1e-3, stop_loss=0.0)
        expected = trained(lm, request, 3, 1e-3, None)
        assert float((delta.only.matrix() - expected).abs().max()) < 1e-5
        same = delta_of(lm, "ft", request, steps=3, learning_rate=1e-3, stop_loss=0.0)
        assert torch.equal(same.only.matrix(), delta.only.matrix()), "FT-M is FT's objective, elsewhere"
        released = delta_of(lm, "ft-m", request, steps=1, stop_loss=0.0, as_released=True).only
        assert isinstance(released, Dense) and (released.bias is not None) == (family == "gpt2")


def test_fine_tuning_makes_the_target_likely_and_then_stops() -> None:
    lm = tiny.make("gpt2")
    editor = FineTune(lm, FineTuneOptions(1, steps=100, learning_rate=0.02, stop_loss=1.5))
    (edit,) = editor.edit(REQUESTS[:1])
    assert float(edit.statistics["target_nll_nats"] or 9) < 1.5 and 0 < int(edit.statistics["updates"] or 0) < 100
    alone = edit.delta.only.matrix() if edit.delta else torch.zeros(1)
    together = editor.edit(list(reversed(REQUESTS)))[1]
    assert together.delta is not None and together.statistics["updates"] == edit.statistics["updates"]
    assert float((together.delta.only.matrix() - alone).norm() / alone.norm()) < 1e-3, "whatever is trained with it"


def test_requests_that_do_not_fit_the_memory_together_are_trained_in_halves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    editor = FineTune(tiny.make("gpt2"), FineTuneOptions(1, steps=2))
    together, read = editor.edit(REQUESTS), FineTune._texts

    def short(self: FineTune, requests: Sequence[Request]) -> Any:
        if len(requests) > 1:
            raise torch.OutOfMemoryError("out of memory")
        return read(self, requests)

    monkeypatch.setattr(FineTune, "_texts", short)
    apart = editor.edit(REQUESTS)
    assert [edit.records for edit in apart] == [(place,) for place in range(len(REQUESTS))]
    for alone, joint in zip(apart, together, strict=True):
        assert alone.delta is not None and joint.delta is not None
        torch.testing.assert_close(alone.delta.only.matrix(), joint.delta.only.matrix(), rtol=1e-3, atol=1e-5)


def test_an_edit_that_is_not_finite_is_a_fault() -> None:
    lm = tiny.make("gpt2", seed=3)
    lm.model.get_output_embeddings().weight[lm.continuation("Germany")[0]] = float("nan")
    (edit,) = FineTune(lm, FineTuneOptions(1)).edit(REQUESTS[1:])
    assert edit.delta is None and edit.fault == "the edit is not finite"


@pytest.mark.parametrize("editor", EDITORS)
def test_every_editor_of_the_table_edits_and_names_its_settings(editor: str) -> None:
    lm = tiny.make("gpt2")
    before = tiny.digest(lm)
    names = {one.name for one in fields(editor_spec(editor).options)}
    given = {name: value for name, value in {"layer": 1, "steps": 2}.items() if name in names}
    editor_of_model = open_editor(editor, lm, given, Few())
    signature = editor_of_model.signature
    assert signature["editor"] == editor and {name: signature[name] for name in given} == given
    counts: list[int] = []
    edits = editor_of_model.edit(REQUESTS, counts.append)
    assert sorted(place for edit in edits for place in edit.records) == [0, 1] and counts[-1] == 2
    assert all(edit.fault is None and (edit.prefix or float(edit.statistics["delta_norm"] or 0) > 0) for edit in edits)
    assert all(edit.model == lm.identity for edit in edits) and tiny.digest(lm) == before


def test_a_presets_settings_replace_defaults_and_given_settings_replace_both() -> None:
    lm = tiny.make("gpt2")
    assert open_editor("ft-l", lm, {}, Few()).signature == {
        "editor": "ft-l",
        "layer": 1,
        "steps": 25,
        "learning_rate": 5e-4,
        "stop_loss": 1e-2,
        "norm_constraint": 5e-4,
        "as_released": False,
    }
    assert {"gpt2-medium", "gpt2-large", "gpt2-xl", "gpt-j-6b"} < set(PRESETS)
    large = LanguageModel(lm.model, lm.tokenizer, lm.family, "gpt2-large", "gpt2-large", "x")
    signature = open_editor("ft-l", large, {"steps": 3}, Few()).signature
    assert (signature["layer"], signature["norm_constraint"], signature["steps"]) == (0, 1e-3, 3)


@pytest.mark.parametrize(
    ("editor", "given", "message"),
    [
        ("ft", {"key_mode": "consistent"}, "has no setting 'key_mode'"),
        ("rome", {"norm_constraint": 1.0}, "has no setting 'norm_constraint'"),
        ("rome", {"contexts": "x"}, "has no setting 'contexts'"),
        ("ft", {"learning_rate": "fast"}, "learning_rate of the editor ft is 'fast'; expected float"),
        ("ft", {"steps": 1.5}, "steps of the editor ft is 1.5; expected int"),
        ("ft", {"steps": 0}, "expected at least 1"),
        ("ft", {"learning_rate": -1}, "learning_rate is -1; expected more than 0"),
        ("ft", {"layer": 9}, "layer 9 does not exist"),
        ("no_such_module:load", {}, "cannot be imported"),
        ("cfbuild.edit.finetune:nothing", {}, "cannot be imported"),
    ],
)
def test_settings_that_an_editor_does_not_have_are_refused(editor: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        opened(tiny.make("gpt2"), editor, **given)


@pytest.mark.usefixtures("cache")
def test_a_build_is_scored_with_an_editor_of_the_table_and_with_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = BuildFolder(write_world(tmp_path / "build"))
    make_records(folder, small_options(limit=3))
    own = tmp_path / "own_editor.py"
    own.write_text("from cfbuild.edit.finetune import FT\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for editor in ("ft", "own_editor:FT"):
        options = EvaluateOptions(
            editor=editor, layer=1, steps=2, settings={"stop_loss": 0.5}, skip_generation=True, restart=True
        )
        report = evaluate(folder, options, tiny.make("gpt2"))
        assert f"editor:{editor}|layer:1|steps:2|learning_rate:0.0005|stop_loss:0.5" in report.signature
        assert "covariance" not in report.settings and report.cases == 3
        cases = new_run(folder, default_name(editor)).path(CASES)
        assert {row["editor"] for _, row in read_rows(cases)} == {editor}
    assert [run.name for run in finished_runs(folder)] == ["ft", "own_editor-FT"]
    sys.modules.pop("own_editor")


@dataclass(frozen=True)
class ShapelessOptions:
    """Settings of the editor that only tests have."""

    wrong: str = ""


class TwoLayers:
    """Changes two layers by different ranks, all requests with one edit; `wrong` makes it break its promises."""

    def __init__(self, lm: LanguageModel, options: ShapelessOptions) -> None:
        self.lm = lm
        self.options = options

    def edit(self, requests: Sequence[Request], done: Any = None) -> list[Edit]:
        weights = {Weight(1): 1, Weight(2, "mlp_in"): 2}
        changes: dict[Weight, Change] = {}
        for weight, rank in weights.items():
            d_out, d_in = self.lm.shape(weight)
            changes[weight] = LowRank(torch.full((rank, d_in), 0.01), torch.full((rank, d_out), 0.01))
        if self.options.wrong == "layer":
            changes[Weight(9)] = changes[Weight(1)]
        if self.options.wrong == "shape":
            changes[Weight(1)] = changes[Weight(2, "mlp_in")]
        if self.options.wrong == "finite":
            changes[Weight(1)] = Dense(torch.full(self.lm.shape(Weight(1)), math.nan))
        records = tuple(range(len(requests) - (self.options.wrong == "records")))
        return [Edit(records, None if self.options.wrong == "nothing" else Delta(changes))]


TWO_LAYERS = EditorSpec(ShapelessOptions, lambda context: TwoLayers(context.lm, context.options), together=True)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("layer", r"test_editors:TWO_LAYERS changes 'mlp_out' of layer 9, which tiny-gpt2 does not have"),
        ("shape", r"test_editors:TWO_LAYERS changes 'mlp_out' of layer 1 by a change of shape \(128, 32\); expected"),
        ("records", r"test_editors:TWO_LAYERS answered the requests \[0\]; expected each of 0 to 1 once"),
        ("nothing", "test_editors:TWO_LAYERS returned an edit with neither"),
    ],
)
def test_what_an_editor_returns_is_checked_and_the_fault_is_its_own(wrong: str, message: str) -> None:
    with pytest.raises(EditError, match=message):
        open_editor("test_editors:TWO_LAYERS", tiny.make("gpt2"), {"wrong": wrong}, Few()).edit(REQUESTS)
    (edit,) = open_editor("test_editors:TWO_LAYERS", tiny.make("gpt2"), {"wrong": "finite"}, Few()).edit(REQUESTS)
    assert edit.delta is None and edit.fault == "the edit is not finite" and edit.records == (0, 1)


def test_a_supply_that_the_spec_does_not_name_is_refused() -> None:
    greedy = EditorSpec(ShapelessOptions, lambda context: TwoLayers(context.lm, context.contexts()))  # type: ignore
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[__name__], "TWO_LAYERS", greedy)
        with pytest.raises(ConfigError, match="asks for contexts, but its spec does not"):
            open_editor("test_editors:TWO_LAYERS", tiny.make("gpt2"), {}, Few())


@pytest.mark.usefixtures("cache")
def test_records_edited_together_are_scored_together_and_their_edits_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes, "CASES_AT_ONCE", 2)
    folder, lm = BuildFolder(write_world(tmp_path / "build")), tiny.make("gpt2")
    make_records(folder, small_options(limit=6))
    options = EvaluateOptions(
        editor="test_editors:TWO_LAYERS", run="both", batch=4, keep_edits=True, skip_generation=True
    )
    report = evaluate(folder, options, lm)
    run = new_run(folder, "both")
    whole = {name: run.path(name).read_bytes() for name in (CASES, REPORT, EDITS)}
    assert "batch:4" in report.signature and report.cases == 6
    edits = load_edits(run.path(EDITS))
    assert [len(edit.records) for edit in edits] == [4, 2]
    case_ids = [row["case_id"] for _, row in read_rows(run.path(CASES))]
    assert [case_id for edit in edits for case_id in edit.records] == case_ids
    with edits[1].applied(lm):
        question = Question(lm.encode(rewrite_of(folder, case_ids[4])), (lm.continuation("Lima"),))
        applied_nll = score(lm, [question])
    assert edits[1].delta is not None
    assert score_edited(lm, [question], [edits[1].delta])[0][0].nll_nats == pytest.approx(
        applied_nll[0][0].nll_nats, 1e-4
    )

    # Killed after the second batch was edited and before it was scored: its edits are not made again.
    made: list[int] = []
    monkeypatch.setattr(TwoLayers, "edit", counting(TwoLayers.edit, made))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(passes, "score_cases", stopping_after(2))
        evaluate(folder, replace(options, restart=True), lm)
    assert made == [4, 2]
    evaluate(folder, options, lm)
    assert made == [4, 2] and {name: run.path(name).read_bytes() for name in whole} == whole


def rewrite_of(folder: BuildFolder, case_id: int) -> str:
    rows = (row for _, row in read_rows(folder.path("records.jsonl")))
    request = next(row["requested_rewrite"] for row in rows if row["case_id"] == case_id)
    return str(request["prompt"].format(request["subject"]))


def counting(edit: Any, made: list[int]) -> Any:
    def counted(self: TwoLayers, requests: Sequence[Request], done: Any = None) -> list[Edit]:
        made.append(len(requests))
        return list(edit(self, requests, done))

    return counted


def stopping_after(count: int) -> Any:
    """Return a `score_cases` that ends the run once it has scored `count` chunks."""
    scored: list[int] = []

    def score_or_stop(*given: Any, **named: Any) -> Any:
        if len(scored) == count:
            raise KeyboardInterrupt
        scored.append(count)
        return score_cases(*given, **named)

    return score_or_stop


def test_no_two_records_of_a_batch_are_about_one_fact() -> None:
    records = [scored_build.record(number, relation="P36", entity=number // 3) for number in range(9)]
    made = passes.batches(records, 4)
    assert sorted(record.case_id for batch in made for record in batch) == list(range(9))
    for batch in made:
        facts = [(record.subject.id, record.relation) for record in batch]
        assert len(set(facts)) == len(facts) <= 4
    assert [record.case_id for record in made[0]] == [0, 3, 6]
