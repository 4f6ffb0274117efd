"""Sequences: batches edited one after another on the same model, resumed, scored again at the end, drawn."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import scored_build
import tiny
import torch
from small_world import small_options, write_world
from stopping import stopping

from cfbuild.data import CaseScore, Record
from cfbuild.edit.editor import Edit
from cfbuild.edit.saved import load_edits
from cfbuild.errors import ConfigError, EditError
from cfbuild.lm.delta import Delta, Dense, LowRank, summed
from cfbuild.lm.model import LanguageModel, Weight
from cfbuild.pipeline.generate import generate
from cfbuild.pipeline.scoring import ScoredRecords, make_editor
from cfbuild.pipeline.validate_and_score import EvaluateOptions, evaluate
from cfbuild.progress import silent
from cfbuild.score import fixed_text, passes, sequence
from cfbuild.score.cases import score_cases
from cfbuild.score.run_report import Report
from cfbuild.store.codec import decode_case, decode_record
from cfbuild.store.folder import BuildFolder
from cfbuild.store.jsonl import read_json, read_values
from cfbuild.store.runs import CASES, CURVES_DRAWN, EDITS, REPORT, RETAINED, new_run

FILES = (CASES, REPORT, EDITS, RETAINED, CURVES_DRAWN)
SETTINGS: dict[str, dict[str, Any]] = {
    "alphaedit": {"layers": 2, "steps": 3, "layer": 2},
    "ultraedit": {"weights": "mlp_out:1-2", "learning_rate": 0.003},
}


def options(editor: str, **given: Any) -> EvaluateOptions:
    shared: dict[str, Any] = {"batch": 2, "sequence": 0, "keep_edits": True, "skip_generation": True, "run": "s"}
    settings = SETTINGS.get(editor, {})
    return EvaluateOptions(**{**shared, "editor": editor, "covariance_tokens": 400, "settings": settings, **given})


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return tiny.make("llama")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BuildFolder:
    monkeypatch.setenv("CFBUILD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fixed_text, "fixed_text", lambda: "The capital city of France is Paris. She speaks English.")
    built = BuildFolder(write_world(tmp_path / "build"))
    generate(built, small_options(limit=6))
    return built


def records_of(folder: BuildFolder) -> list[Record]:
    return list(read_values(folder.path("records.jsonl"), decode_record))


def cases_of(folder: BuildFolder, name: str = CASES) -> list[CaseScore]:
    return list(read_values(new_run(folder, "s").path(name), decode_case))


def bytes_of(folder: BuildFolder) -> dict[str, bytes]:
    return {name: new_run(folder, "s").path(name).read_bytes() for name in FILES}


def nlls(cases: Sequence[CaseScore], stage: str) -> list[float]:
    stages = [getattr(case, stage) for case in cases]
    return [one.target_new_nll for stage in stages for scores in stage.prompts.values() for one in scores]


@pytest.mark.parametrize("editor", SETTINGS)
def test_each_batch_is_edited_and_scored_on_the_model_that_the_earlier_ones_left(
    editor: str, folder: BuildFolder, lm: LanguageModel
) -> None:
    before = tiny.digest(lm)
    report = evaluate(folder, options(editor, limit=4), lm)
    assert tiny.digest(lm) == before
    records = records_of(folder)[:4]
    units = passes.batches(records, 2)
    assert len(units) == 2
    edits = load_edits(new_run(folder, "s").path(EDITS))
    assert [edit.records for edit in edits] == [tuple(one.case_id for one in unit) for unit in units]

    # The same by hand: weights that are really changed, one batch after another.
    really = tiny.make("llama")
    made = make_editor(really, options(editor), ScoredRecords(records, folder), silent)
    state: Any = {}
    cases = {case.case_id: case for case in cases_of(folder)}
    for unit, edit in zip(units, edits, strict=True):
        (own,), state = made.edit_after(state, [passes.request_of(one) for one in unit])
        assert own.delta is not None and edit.delta is not None
        for weight, change in own.delta.changes.items():
            found = edit.delta.changes[weight].matrix()
            assert float((found - change.matrix()).norm() / change.matrix().norm()) < 2e-3, (weight, unit[0].case_id)
            matrix = found.T if really.is_transposed(weight) else found
            really.weight(weight).add_(matrix)
        after = score_cases(really, unit, [Edit((place,), None) for place in range(len(unit))], "by hand")
        expected = nlls([cases[one.case_id] for one in unit], "post")
        assert nlls(after, "pre") == pytest.approx(expected, abs=1e-3)
    at_the_end = score_cases(really, records, [Edit((place,), None) for place in range(len(records))], "by hand")
    retained = cases_of(folder, RETAINED)
    assert [case.case_id for case in retained] == [record.case_id for record in records]
    assert nlls(retained, "post") == pytest.approx(nlls(at_the_end, "pre"), abs=1e-3)
    assert nlls(retained, "post") != pytest.approx(nlls(list(cases.values()), "post"), abs=1e-3)
    assert nlls(retained, "pre") == pytest.approx(nlls(list(cases.values()), "pre"), abs=1e-6)
    assert report.sequence is not None and report.sequence.retained["ES"].cases == len(records)
    assert "sequence:" in report.signature and "batch:2" in report.signature


@pytest.mark.parametrize("editor", SETTINGS)
def test_a_sequence_that_is_killed_anywhere_ends_with_the_same_bytes(
    editor: str, folder: BuildFolder, lm: LanguageModel
) -> None:
    report = evaluate(folder, options(editor, limit=4), lm)
    whole = bytes_of(folder)
    assert evaluate(folder, options(editor, limit=4), lm) == report  # finished: read, not made again
    assert Report.of_dict(read_json(new_run(folder, "s").path(REPORT))) == report
    for task, at in (("edits", 4), ("records", 2), ("records at the end", 0)):
        with pytest.raises(KeyboardInterrupt):
            evaluate(folder, options(editor, limit=4, restart=True), lm, stopping(task, at))
        evaluate(folder, options(editor, limit=4), lm)
        assert bytes_of(folder) == whole, (task, at)


def test_kept_work_that_is_damaged_is_done_again(folder: BuildFolder, lm: LanguageModel) -> None:
    evaluate(folder, options("ultraedit", limit=4), lm)
    whole = bytes_of(folder)
    with pytest.raises(KeyboardInterrupt):
        evaluate(folder, options("ultraedit", limit=4, restart=True), lm, stopping("records", 4))
    (kept,) = folder.progress("validate-and-score/s").glob("after-*.safetensors")
    kept.write_bytes(kept.read_bytes()[:100])
    evaluate(folder, options("ultraedit", limit=4), lm)
    assert bytes_of(folder) == whole


def test_the_curve_its_points_and_its_drawing(
    folder: BuildFolder, lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequence, "POINTS", 2)
    report = evaluate(folder, options("ft", batch=None, layer=1, steps=2, settings={"learning_rate": 0.01}), lm)
    curve = report.sequence
    assert curve is not None and curve.batch == 1 and curve.fault is None
    assert [one.edits for one in curve.readings] == [1, 2, 3, 4, 5, 6] and [one.edits for one in curve.points] == [3, 6]
    cases = cases_of(folder)
    for point, window in zip(curve.points, (cases[:3], cases[3:]), strict=True):
        won = [
            score.target_new_nll < score.target_true_nll for case in window for score in case.post.prompts["rewrite"]
        ]
        assert point.right_after["ES"] == pytest.approx(100 * sum(won) / len(won), abs=1e-3)
    total = summed([edit.delta for edit in load_edits(new_run(folder, "s").path(EDITS)) if edit.delta])
    assert curve.readings[-1].perplexity == pytest.approx(sequence.perplexity(lm, total), rel=1e-4)
    assert curve.unedited_perplexity == sequence.perplexity(lm, None) != curve.readings[-1].perplexity
    assert curve.points[-1].so_far["ES"] == pytest.approx(curve.retained["ES"].mean, abs=1e-3)
    drawn = new_run(folder, "s").path(CURVES_DRAWN).read_text()
    assert drawn.startswith("<svg xmlns=") and drawn.count("<polyline") == 10 and "NaN" not in drawn
    page = folder.path("report.html").read_text()
    assert "ES over the edits" in page and "Perplexity over the edits" in page


def test_a_model_that_collapsed_is_a_fault_of_all_later_edits(
    folder: BuildFolder, lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequence, "perplexity", lambda lm, total: 10.0 if total is None else None)
    report = evaluate(folder, options("ultraedit", keep_edits=False), lm)
    curve = report.sequence
    assert curve is not None and [one.perplexity for one in curve.readings] == [None] * 3
    assert curve.fault == "the model had collapsed after 2 edits: the fixed text's perplexity is not finite"
    cases = cases_of(folder)
    assert [case.fault for case in cases] == [None] * 2 + [curve.fault] * 4
    assert all(case.pre.prompts and (case.post is None) == (case.fault is not None) for case in cases)
    assert curve.retained["ES"].cases == 2 and not curve.points
    assert json.loads(new_run(folder, "s").path(REPORT).read_text())["sequence"]["fault"] == curve.fault


def test_an_edit_whose_norm_no_file_can_hold_is_a_fault_and_the_model_stays(
    folder: BuildFolder, lm: LanguageModel
) -> None:
    settings = {"weights": "mlp_out:1-2", "learning_rate": 1e36}
    report = evaluate(folder, options("ultraedit", keep_edits=False, sequence=1, settings=settings), lm)
    assert report.faults == {"the edit is not finite": 2} and report.sequence is not None
    assert report.sequence.readings[0].perplexity == report.sequence.unedited_perplexity


def test_only_so_many_batches_are_edited_and_prefixes_make_no_sequence(folder: BuildFolder, lm: LanguageModel) -> None:
    report = evaluate(folder, options("ultraedit", sequence=2), lm)
    assert report.cases == 4 and report.sequence is not None and len(report.sequence.readings) == 2
    with pytest.raises(EditError, match="ike puts a text in front of prompts and changes no weight"):
        evaluate(folder, options("ike", run="t", limit=1), lm)
    with pytest.raises(ConfigError, match="sequence is -1"):
        options("ft", sequence=-1)


def test_a_batch_of_an_editor_that_takes_records_alone_is_said_to_have_no_effect(
    folder: BuildFolder, lm: LanguageModel, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        evaluate(folder, options("ft", sequence=None, batch=3, layer=1, steps=1, limit=1), lm)
    assert "--batch 3 has no effect: ft edits each record by itself" in caplog.text


def test_a_fact_that_a_later_batch_rewrote_is_not_asked_of_the_model_at_the_end() -> None:
    records = [scored_build.record(number, relation="P36", entity=number // 2) for number in range(6)]
    units = passes.batches(records, 3)
    assert [[record.case_id for record in unit] for unit in units] == [[0, 2, 4], [1, 3, 5]]
    assert [record.case_id for record in sequence.not_overwritten(units)] == [1, 3, 5]
    assert [record.case_id for record in sequence.not_overwritten(units[:1])] == [0, 2, 4]
    assert [record.case_id for record in sequence.edited_records(records, 3, 1)] == [0, 2, 4]
    assert sequence.edited_records(records, 3, 0) == records


def test_points_are_spread_and_the_last_batch_is_one() -> None:
    assert sequence.curve_points(3) == [0, 1, 2] and sequence.curve_points(1) == [0]
    assert sequence.curve_points(1000)[-3:] == [899, 949, 999] and len(sequence.curve_points(1000)) == sequence.POINTS


def test_changes_add_up_by_factors_while_these_are_smaller() -> None:
    generator = torch.Generator().manual_seed(1)
    few = [LowRank(torch.randn(2, 8, generator=generator), torch.randn(2, 6, generator=generator)) for _ in range(3)]
    both = summed(Delta.of(1, one) for one in few[:1])
    assert both is not None and isinstance(both.only, LowRank)
    total = summed([*(Delta.of(1, one) for one in few), Delta({Weight(1): Dense(torch.ones(6, 8)), Weight(2): few[0]})])
    assert total is not None and isinstance(total.changes[Weight(1)], Dense)
    expected = sum(one.matrix() for one in few) + torch.ones(6, 8)
    assert torch.allclose(total.changes[Weight(1)].matrix(), torch.as_tensor(expected), atol=1e-6)
    assert isinstance(total.changes[Weight(2)], LowRank) and summed([]) is None


def test_the_text_whose_perplexity_is_measured_is_long_enough() -> None:
    assert 300 <= len(fixed_text.fixed_text().split()) <= 500
