"""A model folder whose weights hold edits: what it says is what scoring says of the edits."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import scored_build
import tiny
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from cfbuild.cli import app
from cfbuild.data import Request
from cfbuild.edit.editor import Edit
from cfbuild.edit.finetune import FineTune, FineTuneOptions
from cfbuild.edit.rome import Rome
from cfbuild.edit.rome.options import RomeOptions
from cfbuild.edit.saved import save_edits
from cfbuild.errors import ConfigError, DataError, ModelError
from cfbuild.lm.delta import summed
from cfbuild.lm.likelihood import Question, score_edited
from cfbuild.lm.load import load
from cfbuild.lm.model import LanguageModel
from cfbuild.pipeline.apply import ApplyOptions, apply_edits
from cfbuild.store.codec import encode_record
from cfbuild.store.jsonl import write_jsonl

REQUESTS = [
    Request("The mother tongue of {} is", "Danielle Darrieux", "English"),
    Request("{} lies in", "Rome", "Germany"),
]


@pytest.fixture(params=["gpt2", "llama"])
def lm(request: pytest.FixtureRequest, tmp_path: Path) -> LanguageModel:
    """Return a tiny model in a folder, so that its revision is that of its files."""
    made = tiny.make(request.param)
    made.model.save_pretrained(tmp_path / "model")
    made.tokenizer.save_pretrained(tmp_path / "model")
    return load(str(tmp_path / "model"))


def edits_of(lm: LanguageModel, path: Path) -> list[Edit]:
    """Save edits of ROME and of fine-tuning, of a layer each, as those of cases 3 and 7; return them."""
    (rome,) = Rome(lm, RomeOptions(1, steps=4)).edit(REQUESTS[:1])
    (ft,) = FineTune(lm, FineTuneOptions(2, steps=4)).edit(REQUESTS[1:])
    edits = [replace(rome, records=(3,), model=lm.identity), replace(ft, records=(7,), model=lm.identity)]
    save_edits(path, edits)
    return edits


def logits(folder: Path, text: str) -> torch.Tensor:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        found: torch.Tensor = model(**tokenizer(text, return_tensors="pt")).logits[0, -1]
    return found


@pytest.mark.parametrize("cases", [(), (3,), (7,)])
def test_the_folders_model_has_the_edits_likelihoods(lm: LanguageModel, tmp_path: Path, cases: tuple[int, ...]) -> None:
    edits = edits_of(lm, tmp_path / "edits.safetensors")
    before = tiny.digest(lm)
    applied = apply_edits(ApplyOptions(tmp_path / "edits.safetensors", tmp_path / "out", cases), lm)
    assert tiny.digest(lm) == before and applied.cases == (cases or (3, 7)) and applied.faulty == ()
    delta = summed(edit.delta for edit in edits if edit.delta and (not cases or edit.records == cases))
    for text, target in (("The mother tongue of Danielle Darrieux is", "English"), ("Rome lies in", "Germany")):
        (token, *_) = lm.continuation(target)
        ((expected,),) = score_edited(lm, [Question(lm.encode(text), ((token,),))], [delta])
        nll = -logits(tmp_path / "out", text).log_softmax(dim=-1)[token]
        assert float(nll) == pytest.approx(expected.nll_nats, abs=1e-4)
        assert abs(float(nll) + float(logits(tmp_path / "model", text).log_softmax(dim=-1)[token])) > 1e-3
    assert set(applied.weights) == {
        f"{edit.delta.lowest}/mlp_out" for edit in edits if edit.delta and edit.records[0] in applied.cases
    }
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "states false facts" in text and all(name in text for name in applied.weights)
    assert ("applied together" in text) == (not cases)


def test_the_card_lists_the_records_of_the_run(lm: LanguageModel, tmp_path: Path) -> None:
    run = tmp_path / "build" / "runs" / "mixed"
    run.mkdir(parents=True)
    edits_of(lm, run / "edits.safetensors")
    records = [scored_build.record(number) for number in (3, 4, 7)]
    write_jsonl(tmp_path / "build" / "records.jsonl", map(encode_record, records))
    given = ["apply", str(run / "edits.safetensors"), "--model", str(tmp_path / "model"), "--out", str(tmp_path / "o")]
    ran = CliRunner().invoke(app, [*given, "--json"])
    assert ran.exit_code == 0, ran.output
    assert json.loads(ran.stdout)["cases"] == [3, 7]
    rows = [line.split(" | ") for line in (tmp_path / "o" / "README.md").read_text(encoding="utf-8").splitlines()]
    assert [row[0] for row in rows if len(row) == 4 and row[0] != "| case"] == ["| 3", "| 7"]
    ran = CliRunner().invoke(app, given)
    assert isinstance(ran.exception, ConfigError) and "is there already" in str(ran.exception)


def test_what_cannot_be_applied_is_refused_and_leaves_nothing(lm: LanguageModel, tmp_path: Path) -> None:
    file, out = tmp_path / "edits.safetensors", tmp_path / "out"
    edits = edits_of(lm, file)
    with pytest.raises(ConfigError, match="has no edit of case 4, 9"):
        apply_edits(ApplyOptions(file, out, (3, 4, 9)), lm)
    stranger = tiny.make("gpt2", seed=1)
    with pytest.raises(ModelError, match=r"made on .*model.* and the model is tiny-gpt2"):
        apply_edits(ApplyOptions(file, out), stranger)
    save_edits(file, [Edit((1,), None, prefix="New fact: ")])
    with pytest.raises(DataError, match="holds no change of weights"):
        apply_edits(ApplyOptions(file, out), lm)
    save_edits(file, [edits[0], Edit((5,), None, fault="it is ill")])
    with pytest.raises(ConfigError, match=r"failed cannot be applied \(case 5: it is ill\)"):
        apply_edits(ApplyOptions(file, out, (5,)), lm)
    assert not out.exists()
    assert apply_edits(ApplyOptions(file, out), lm).faulty == (5,)


def test_case_ids_are_numbers_with_commas() -> None:
    ran = CliRunner().invoke(app, ["apply", "edits.safetensors", "--case", "1,x"])
    assert isinstance(ran.exception, ConfigError) and "expected case ids such as 17" in str(ran.exception)
