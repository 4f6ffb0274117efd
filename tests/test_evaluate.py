"""validate-and-score on a tiny random model: files, resuming, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from stopping import stopping

from cfbuild.edit.saved import load_edits
from cfbuild.errors import BuildStateError, ConfigError, EditError, SchemaError
from cfbuild.lm.model import LanguageModel
from cfbuild.pipeline.validate_and_score import EvaluateOptions, evaluate
from cfbuild.progress import silent
from cfbuild.score import fixed_text
from cfbuild.score.texts import distinct_ngrams
from cfbuild.store.folder import BuildFolder
from cfbuild.store.jsonl import read_rows, write_jsonl
from cfbuild.store.runs import VERB

OPTIONS: dict[str, Any] = {"limit": 5, "covariance_tokens": 400, "steps": 3, "skip_generation": True, "layer": 1}
FILES = ("runs/rome/cases.jsonl", "runs/rome/report.json")


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return tiny.make("gpt2")


def bytes_of(folder: BuildFolder) -> dict[str, bytes]:
    return {name: folder.path(name).read_bytes() for name in FILES}


def test_every_record_is_scored_before_and_after(folder: BuildFolder, lm: LanguageModel) -> None:
    before = tiny.digest(lm)
    report = evaluate(folder, EvaluateOptions(**OPTIONS), lm)
    cases = [row for _, row in read_rows(folder.path("runs/rome/cases.jsonl"))]
    records = [row for _, row in read_rows(folder.path("records.jsonl"))][:5]
    assert [case["case_id"] for case in cases] == [record["case_id"] for record in records]
    for case, record in zip(cases, records, strict=True):
        for stage in ("pre", "post"):
            for group in ("paraphrase", "neighborhood", "attribute"):
                assert len(case[stage][f"{group}_prompts"]) == len(record[f"{group}_prompts"])
    assert json.loads(folder.path("runs/rome/report.json").read_text()) == report.as_dict()
    assert report.cases == 5 and report.figures["post"]["ES"].cases == 5
    for part in ("model:tiny-gpt2", "layer:1", "covariance:build:", "records:5@", "contexts:20@", "steps:3"):
        assert part in report.signature
    assert tiny.digest(lm) == before


def test_an_interrupted_run_ends_with_the_same_bytes(folder: BuildFolder, lm: LanguageModel, tmp_path: Path) -> None:
    options = EvaluateOptions(**OPTIONS)
    evaluate(folder, options, lm)
    whole = bytes_of(folder)
    evaluate(folder, EvaluateOptions(**OPTIONS, restart=True), lm, silent)
    assert bytes_of(folder) == whole
    for count in (2, 4):
        with pytest.raises(KeyboardInterrupt):
            evaluate(folder, EvaluateOptions(**OPTIONS, restart=True), lm, stopping("records", count))
        log = folder.progress(f"{VERB}/rome") / "rows.jsonl"
        with log.open("ab") as stream:
            stream.write(b'{"case_id": 3, "rel')  # a line torn by the interruption
        done: list[int] = []
        evaluate(folder, options, lm, lambda task, at, total, done=done: done.append(at) if task == "records" else None)
        assert done[0] == count  # goes on, does not start over
        assert bytes_of(folder) == whole


def test_a_finished_run_is_not_repeated(folder: BuildFolder, lm: LanguageModel) -> None:
    report = evaluate(folder, EvaluateOptions(**OPTIONS), lm)

    def refuse(task: str, done: int, total: int | None) -> None:
        raise AssertionError(f"worked on {task}")

    assert evaluate(folder, EvaluateOptions(**OPTIONS), lm, refuse) == report


def test_other_settings_are_refused_by_name(folder: BuildFolder, lm: LanguageModel) -> None:
    evaluate(folder, EvaluateOptions(**OPTIONS), lm)
    with pytest.raises(BuildStateError, match="key_mode: None then, 'consistent' now"):
        evaluate(folder, EvaluateOptions(**OPTIONS, key_mode="consistent"), lm)
    with pytest.raises(BuildStateError, match="revision"):
        evaluate(folder, EvaluateOptions(**OPTIONS), tiny.make("gpt2", seed=1))


@pytest.mark.parametrize(
    "same",
    [
        {"key_mode": "reference"},
        {"settings": {"key_mode": "reference", "kl_factor": 0.0625}},
        {"layer": 1, "settings": {"steps": 3}, "steps": None},
    ],
)
def test_settings_are_compared_by_what_they_come_to(folder: BuildFolder, lm: LanguageModel, same: Any) -> None:
    plain = {**OPTIONS, "layer": None}
    report = evaluate(folder, EvaluateOptions(**plain), lm)
    assert "layer:1" in report.signature
    assert evaluate(folder, EvaluateOptions(**{**plain, **same}), lm) == report
    with pytest.raises(BuildStateError, match=r"settings: \{\} then, \{'kl_factor': 0.5\} now"):
        evaluate(folder, EvaluateOptions(**plain, settings={"kl_factor": 0.5}), lm)


def test_texts_are_generated_and_measured(folder: BuildFolder, lm: LanguageModel) -> None:
    report = evaluate(folder, EvaluateOptions(**{**OPTIONS, "limit": 2, "skip_generation": False}), lm)
    records = [row for _, row in read_rows(folder.path("records.jsonl"))]
    for (_, case), record in zip(read_rows(folder.path("runs/rome/cases.jsonl")), records, strict=False):
        count = len(record["generation_prompts"])
        assert len(case["pre"]["generations"]) == len(case["post"]["generations"]) == count > 0
        assert case["post"]["generation_entropy"] > 0 and case["post"]["reference_score"] is not None
        for stage, n in ((case[stage], n) for stage in ("pre", "post") for n in (1, 2)):
            written = [
                text.removeprefix(prompt)
                for text, prompt in zip(stage["generations"], record["generation_prompts"], strict=True)
            ]
            assert stage[f"distinct_{n}"] == pytest.approx(distinct_ngrams(written, n), abs=1e-6)
    assert {"GE", "RS", "generation_mentions", "distinct_1", "distinct_2"} <= report.figures["post"].keys()


TEXT = "The capital city of France is Paris. She speaks English, German and New Zealand English."


@pytest.fixture
def short_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fixed_text, "fixed_text", lambda: TEXT)


def _perplexities(folder: BuildFolder, run: str, stage: str) -> list[float]:
    return [case[stage]["perplexity"] for _, case in read_rows(folder.path(f"runs/{run}/cases.jsonl"))]


@pytest.mark.usefixtures("short_text")
def test_perplexity_is_that_of_the_weights_really_changed(folder: BuildFolder, lm: LanguageModel) -> None:
    report = evaluate(folder, EvaluateOptions(**OPTIONS, perplexity=True, keep_edits=True), lm)
    assert "perplexity:fixed text " in report.signature
    unedited = fixed_text.perplexity(lm, None)
    assert unedited is not None and _perplexities(folder, "rome", "pre") == [unedited] * 5
    ids = torch.tensor([lm.encode(TEXT)])  # shorter than a window
    for edit, measured in zip(
        load_edits(folder.path("runs/rome/edits.safetensors")), _perplexities(folder, "rome", "post"), strict=True
    ):
        with edit.applied(lm), torch.no_grad():
            loss = torch.nn.functional.cross_entropy(lm.model(ids).logits[0, :-1], ids[0, 1:])
        assert measured == pytest.approx(float(loss.exp()), rel=1e-4) and measured != unedited
    figure = report.figures["post"]["perplexity"]
    assert figure.mean == pytest.approx(np.mean(_perplexities(folder, "rome", "post")), abs=1e-3) and figure.cases == 5
    whole = bytes_of(folder)
    with pytest.raises(KeyboardInterrupt):
        evaluate(
            folder,
            EvaluateOptions(**OPTIONS, perplexity=True, keep_edits=True, restart=True),
            lm,
            stopping("records", 2),
        )
    evaluate(folder, EvaluateOptions(**OPTIONS, perplexity=True, keep_edits=True), lm)
    assert bytes_of(folder) == whole
    # Without the option nothing else is another byte.
    evaluate(folder, EvaluateOptions(**OPTIONS, run="plain"), lm)
    plain = [row for _, row in read_rows(folder.path("runs/plain/cases.jsonl"))]
    assert not [row for row in plain if "perplexity" in row["pre"] or "perplexity" in row["post"]]
    for (_, row), row_without in zip(read_rows(folder.path("runs/rome/cases.jsonl")), plain, strict=True):
        del row["pre"]["perplexity"], row["post"]["perplexity"]
        assert row == row_without


@pytest.mark.usefixtures("short_text")
def test_an_edit_of_many_is_measured_once_and_a_text_in_front_changes_no_weight(
    folder: BuildFolder, lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    score = fixed_text.score_edited
    monkeypatch.setattr(
        fixed_text, "score_edited", lambda lm, texts, *rest: batches.append(len(texts)) or score(lm, texts, *rest)
    )
    evaluate(folder, EvaluateOptions(**{**OPTIONS, "limit": 2}, editor="emmet", perplexity=True), lm)
    (after,) = set(_perplexities(folder, "emmet", "post"))
    assert (
        batches == [2] and after != _perplexities(folder, "emmet", "pre")[0]
    )  # one piece: the unedited model, the edit
    ike = {**OPTIONS, "layer": None, "steps": None}
    evaluate(folder, EvaluateOptions(**ike, editor="ike", perplexity=True), lm)
    assert _perplexities(folder, "ike", "post") == _perplexities(folder, "ike", "pre")


def test_a_perplexity_that_is_not_finite_is_a_fault_of_its_edit(
    folder: BuildFolder, lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fixed_text, "perplexities", lambda lm, deltas, done: [7.0, None, *[8.0] * (len(deltas) - 2)])
    report = evaluate(folder, EvaluateOptions(**{**OPTIONS, "limit": 4}, perplexity=True), lm)
    # Two records a chunk here: the first of each is the one that collapsed.
    assert report.faults == {"the fixed text's perplexity after the edit is not finite": 2}
    assert report.figures["post"]["perplexity"].mean == 8 and report.figures["post"]["ES"].cases == 2
    assert report.figures["pre"]["perplexity"].mean == 7


def test_an_edit_that_fails_is_counted_and_the_run_goes_on(
    folder: BuildFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tiny.make("gpt2", seed=3)
    token = broken.continuation("Lima")[0]
    broken.model.get_output_embeddings().weight[token] = float("nan")
    report = evaluate(folder, EvaluateOptions(**{**OPTIONS, "covariance": "none"}), broken)
    assert report.faults == {"the edit is not finite": 5} and report.cases == 5
    assert "ES" not in report.figures["post"]


@pytest.mark.parametrize("number", [0.0, float("nan")])
def test_a_covariance_that_cannot_be_solved_with_is_a_fault_of_every_record(
    folder: BuildFolder, number: float, tmp_path: Path
) -> None:
    """Kill a layer's keys, so that all are zero or no numbers: each record is marked and scored as far as it can be."""
    dead = tiny.make("gpt2", seed=5)
    dead.layers[1].mlp.c_fc.weight[:] = 0
    dead.layers[1].mlp.c_fc.bias[:] = 0
    if number != 0:
        np.savez(tmp_path / "c.npz", C=np.full((dead.key_width(1),) * 2, number))
    options = {**OPTIONS, "skip_generation": False, "covariance": "build" if number == 0 else str(tmp_path / "c.npz")}
    report = evaluate(folder, EvaluateOptions(**options), dead)
    reason = f"the covariance of the layer's keys is {'singular' if number == 0 else 'not finite'}"
    rows = [row for _, row in read_rows(folder.path("runs/rome/cases.jsonl"))]
    assert report.faults == {reason: 5} and report.faulty == {reason: tuple(row["case_id"] for row in rows)}
    assert all(row["fault"] == reason and row["post"] is None and row["pre"]["generations"] for row in rows)
    assert report.figures["pre"]["ES"].cases == 5 and "ES" not in report.figures["post"]
    assert "unsolvable" in report.signature and reason in folder.path("report.html").read_text().replace("&#39;", "'")
    assert evaluate(folder, EvaluateOptions(**options), dead) == report


def test_violations_stop_the_run_unless_their_rows_are_skipped(folder: BuildFolder, lm: LanguageModel) -> None:
    rows = [row for _, row in read_rows(folder.path("records.jsonl"))]
    del rows[1]["requested_rewrite"]["subject"]
    file = folder.path("other.jsonl")
    write_jsonl(file, rows)
    with pytest.raises(SchemaError, match="1 of 6 rows"):
        evaluate(folder, EvaluateOptions(**{**OPTIONS, "file": file}), lm)
    report = evaluate(folder, EvaluateOptions(**{**OPTIONS, "file": file, "skip_invalid": True, "restart": True}), lm)
    assert report.cases == 5


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match="limit"):
        EvaluateOptions(limit=0)
    with pytest.raises(ConfigError, match="editor 'magic'"):
        EvaluateOptions(editor="magic")


def test_an_empty_corpus_is_an_error(folder: BuildFolder, lm: LanguageModel, tmp_path: Path) -> None:
    empty = tmp_path / "empty.txt"
    empty.write_text("\n\n")
    with pytest.raises(EditError, match="texts for the covariance have no token"):
        evaluate(folder, EvaluateOptions(**{**OPTIONS, "covariance": str(empty)}), lm)


def test_a_plain_counterfact_row_is_scored_too(folder: BuildFolder, lm: LanguageModel) -> None:
    rows = [row for _, row in read_rows(folder.path("records.jsonl"))]
    for index, row in enumerate(rows):
        del row["meta"]
        row["pararel_idx"] = index
    file = folder.path("counterfact.json")
    file.write_text(json.dumps(rows, indent=1))
    assert evaluate(folder, EvaluateOptions(**{**OPTIONS, "file": file}), lm).cases == 5
