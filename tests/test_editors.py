"""The table of editors and the fine-tuning baselines, on tiny random models."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from small_world import write_world

from cfbuild.data import Request
from cfbuild.edit import EDITORS
from cfbuild.edit.editor import OpenEditor, editor_spec, open_editor
from cfbuild.edit.finetune import FineTune, FineTuneOptions
from cfbuild.errors import ConfigError
from cfbuild.lm.delta import Delta, applied
from cfbuild.lm.families import PRESETS
from cfbuild.lm.likelihood import Question, score, score_before_and_after
from cfbuild.lm.model import LanguageModel
from cfbuild.lm.sample import generate
from cfbuild.pipeline.generate import GenerateOptions
from cfbuild.pipeline.generate import generate as make_records
from cfbuild.pipeline.validate_and_score import EvaluateOptions, evaluate
from cfbuild.store.folder import BuildFolder
from cfbuild.store.jsonl import read_rows
from cfbuild.store.runs import CASES, default_name, finished_runs, new_run

FAMILIES = ("gpt2", "gptj", "opt", "llama")
REQUESTS = (
    Request("The mother tongue of {} is", "Danielle Darrieux", "New Zealand English"),
    Request("{} lies in", "Rome", "Germany"),
)


class Few:
    """Supplies that take no time: one context, no covariance."""

    def contexts(self) -> tuple[str, ...]:
        return ("Rome lies in Italy. ",)

    def covariance(self, layer: int) -> None:
        return None


def opened(lm: LanguageModel, editor: str, **asked: Any) -> OpenEditor:
    return open_editor(editor, lm, {"layer": 1, **asked}, Few())


def delta_of(lm: LanguageModel, editor: str, request: Request, **asked: Any) -> Delta:
    (edit,) = opened(lm, editor, **asked).edit([request])
    assert edit.delta is not None
    return edit.delta


def trained(lm: LanguageModel, request: Request, steps: int, rate: float, bound: float | None) -> torch.Tensor:
    """The same by the plain way: the whole model, Adam on its own weight, autograd through everything."""
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
    some = [deltas[place % 2] for place in range(len(prompts))]
    together = score_before_and_after(lm, questions, some)
    texts = generate(lm, [lm.encode(text) for text in prompts], list("abcd"), 20, some)
    for place, delta in enumerate(some):
        with applied(lm, delta):
            alone = score(lm, [questions[place]])[0]
            assert generate(lm, [lm.encode(prompts[place])], ["abcd"[place]], 20) == [texts[place]]
        before_it, after_it = together[place]
        assert [one.nll_nats for one in after_it] == pytest.approx([one.nll_nats for one in alone], abs=1e-4)
        assert before_it != after_it
    assert tiny.digest(lm) == before


def test_fine_tuning_makes_the_target_likely_and_then_stops() -> None:
    lm = tiny.make("gpt2")
    editor = FineTune(lm, FineTuneOptions(1, steps=100, learning_rate=0.02, stop_loss=1.5))
    (edit,) = editor.edit(REQUESTS[:1])
    assert float(edit.statistics["target_nll_nats"] or 9) < 1.5 and 0 < int(edit.statistics["updates"] or 0) < 100
    again = editor.edit(list(reversed(REQUESTS)))[1]
    assert (
        edit.delta is not None
        and again.delta is not None
        and torch.equal(edit.delta.only.matrix(), again.delta.only.matrix())
    )


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
    asked = {name: value for name, value in {"layer": 1, "steps": 2}.items() if name in names}
    editor_of_model = open_editor(editor, lm, asked, Few())
    signature = editor_of_model.signature
    assert signature["editor"] == editor and {name: signature[name] for name in asked} == asked
    counts: list[int] = []
    edits = editor_of_model.edit(REQUESTS, counts.append)
    assert sorted(place for edit in edits for place in edit.records) == [0, 1] and counts[-1] == 2
    assert all(edit.fault is None and (edit.prefix or float(edit.statistics["delta_norm"] or 0) > 0) for edit in edits)
    assert all(edit.model == lm.identity for edit in edits) and tiny.digest(lm) == before


def test_presets_settings_come_before_defaults_and_what_is_asked_before_both() -> None:
    lm = tiny.make("gpt2")
    assert open_editor("ft-l", lm, {}, Few()).signature == {
        "editor": "ft-l",
        "layer": 1,
        "steps": 25,
        "learning_rate": 5e-4,
        "stop_loss": 1e-2,
        "norm_constraint": 5e-4,
    }
    assert {"gpt2-medium", "gpt2-large", "gpt2-xl", "gpt-j-6b"} < set(PRESETS)
    large = LanguageModel(lm.model, lm.tokenizer, lm.family, "gpt2-large", "gpt2-large", "x")
    signature = open_editor("ft-l", large, {"steps": 3}, Few()).signature
    assert (signature["layer"], signature["norm_constraint"], signature["steps"]) == (0, 1e-3, 3)


@pytest.mark.parametrize(
    ("editor", "asked", "message"),
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
def test_settings_that_an_editor_does_not_have_are_refused(editor: str, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        opened(tiny.make("gpt2"), editor, **asked)


def test_a_build_is_scored_with_another_editor_and_with_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CFBUILD_CACHE", str(tmp_path / "cache"))
    folder = BuildFolder(write_world(tmp_path / "build"))
    make_records(folder, GenerateOptions(limit=3))
    own = tmp_path / "own_editor.py"
    own.write_text("from cfbuild.edit.finetune import FT\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for editor in ("ft", "own_editor:FT"):
        options = EvaluateOptions(
            editor=editor, layer=1, steps=2, settings={"stop_loss": 0.5}, skip_generation=True, restart=True
        )
        report = evaluate(folder, options, tiny.make("gpt2"))
        assert f"editor:{editor}|layer:1|steps:2|learning_rate:0.0005|stop_loss:0.5" in report["signature"]
        assert "covariance" not in report["settings"] and report["cases"] == 3
        cases = new_run(folder, default_name(editor)).path(CASES)
        assert {row["editor"] for _, row in read_rows(cases)} == {editor}
    assert [run.name for run in finished_runs(folder)] == ["ft", "own_editor-FT"]
    sys.modules.pop("own_editor")
