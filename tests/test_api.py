"""The public API: light to import, documented, and the same numbers as the organs that it is made of."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import tiny
import torch

import cfbuild as cf
from cfbuild.data import Record
from cfbuild.errors import ConfigError, DataError, EditError
from cfbuild.lm.model import LanguageModel

HEAVY = ("torch", "transformers", "requests", "spacy", "datasets", "jsonschema", "sklearn")


@pytest.fixture
def lm(cache: Path) -> LanguageModel:
    return tiny.make("gpt2")


@pytest.fixture(scope="module")
def records() -> tuple[Record, ...]:
    made = cf.RecordMaker(cf.snapshot(), seed=0).make(limit=3, relations=["P19", "P103"])
    return made.records


def test_importing_it_and_making_records_loads_no_model_library() -> None:
    program = (
        "import sys, json, cfbuild as cf; cf.edit; cf.score; dir(cf)\n"
        "made = cf.RecordMaker(cf.snapshot(), rules=cf.Rules(), seed=0).make(limit=2, relations=['P103'])\n"
        "assert len(made.records) == 2\n"
        f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout) == []


def test_every_name_is_there_documented_with_its_parameters_and_typed() -> None:
    assert set(cf.__all__) <= set(dir(cf))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        cf.nothing  # type: ignore[attr-defined]  # noqa: B018
    import cfbuild.api as api

    for name in cf.__all__:
        value = getattr(api, name) if name in ("edit", "score") else getattr(cf, name)
        assert inspect.getdoc(value), name
        if not inspect.isfunction(value):
            continue
        document = inspect.getdoc(value) or ""
        assert document.split()[0] in ("Return", "Write", "Edit", "Load"), name
        for parameter in inspect.signature(value).parameters.values():
            assert parameter.annotation is not parameter.empty, (name, parameter.name)
            assert re.search(rf"\b{parameter.name}\b", document) or parameter.name in ("lm", "progress"), (
                f"{name} does not say what {parameter.name} is"
            )


def test_an_edit_is_saved_loaded_applied_and_undone_to_the_bit(lm: LanguageModel, tmp_path: Path) -> None:
    before = tiny.digest(lm)
    settings = {"layer": 1, "steps": 3, "covariance": "none"}
    edit = cf.edit(lm, "{} lies in", subject="Rome", target="Germany", editor="rome", **settings)
    assert tiny.digest(lm) == before
    nlls = cf.nll(lm, "Rome lies in", ["Germany", "Italy"])
    with edit.applied(lm):
        edited = cf.nll(lm, "Rome lies in", ["Germany", "Italy"])
    assert edited != nlls and cf.nll(lm, "Rome lies in", ["Germany", "Italy"]) == nlls and tiny.digest(lm) == before
    edit.save(tmp_path / "edit.safetensors")
    (again,) = cf.load_edits(tmp_path / "edit.safetensors")
    assert again.statistics == edit.statistics and again.delta is not None and edit.delta is not None
    assert torch.equal(again.delta.only.matrix(), edit.delta.only.matrix())
    with again.applied(lm):
        assert cf.nll(lm, "Rome lies in", ["Germany", "Italy"]) == edited


def test_an_nll_is_the_mean_over_the_continuations_tokens(lm: LanguageModel) -> None:
    prompt, continuation = "Rome lies in", "New Zealand English"
    ids, target = lm.encode(prompt), lm.continuation(continuation)
    with torch.no_grad():
        logits = lm.model(torch.tensor([ids + target])).logits[0, len(ids) - 1 : -1].log_softmax(-1)
    expected = -float(logits.gather(1, torch.tensor(target)[:, None]).mean())
    assert cf.nll(lm, prompt, [continuation, "Italy"])[0] == pytest.approx(expected, abs=1e-4)


def test_scores_are_a_value_with_a_table_a_dict_and_rows(lm: LanguageModel, records: tuple[Record, ...]) -> None:
    scores = cf.score(lm, records, editor="emmet", layer=1, steps=2, covariance_tokens=300, batch=2)
    assert [case.case_id for case in scores.cases] == [record.case_id for record in records]
    table = scores.table().splitlines()
    assert table[1].startswith("unedited") and table[2].startswith("emmet")
    assert scores.as_dict()["figures"]["post"]["ES"]["cases"] == len(records)
    rows = list(scores.rows())
    assert [row["case_id"] for row in rows] == [record.case_id for record in records] and rows[0]["post"]
    with pytest.raises(DataError, match="case_id"):
        cf.score(lm, [records[0], records[0]], editor="ike")


def test_a_trace_is_drawn_in_a_notebook_and_as_a_file(lm: LanguageModel, tmp_path: Path) -> None:
    trace = cf.trace(lm, "{} lies in", subject="Rome", kinds=("state", "mlp"), rows=2, window=1)
    drawn = cf.heat_map(trace)
    drawn.save(tmp_path / "trace.svg")
    assert drawn._repr_svg_() == (tmp_path / "trace.svg").read_text(encoding="utf-8")
    cells = trace.maps["state"].size
    assert "Restored state: Rome" in drawn.svg and drawn.svg.count("<rect ") == cells + 24
    assert ElementTree.fromstring(drawn.svg).tag.endswith("svg")
    assert "Restored MLP: Rome" in cf.heat_map(trace, "mlp").svg
    with pytest.raises(ConfigError, match="no kind 'attention'; expected one of state, mlp"):
        cf.heat_map(trace, "attention")


def test_wrong_names_are_refused_and_a_failed_edit_says_why(lm: LanguageModel) -> None:
    with pytest.raises(ConfigError, match="has no setting 'depth'"):
        cf.edit(lm, "{} lies in", subject="Rome", target="Germany", depth=3)
    with pytest.raises(ConfigError, match="editor 'magic' does not exist"):
        cf.edit(lm, "{} lies in", subject="Rome", target="Germany", editor="magic")
    lm.model.get_output_embeddings().weight[lm.continuation("Germany")[0]] = float("nan")
    with pytest.raises(EditError, match="on 'Rome': the edit is not finite"):
        cf.edit(lm, "{} lies in", subject="Rome", target="Germany", layer=1, steps=2, covariance="none")


@pytest.mark.parametrize("name", ["records.jsonl", "records.json"])
def test_records_come_back_from_their_file(tmp_path: Path, name: str, records: tuple[Record, ...]) -> None:
    cf.write_records(records, tmp_path / name)
    assert cf.read_records(tmp_path / name) == list(records)
    assert name.endswith("l") or isinstance(json.loads((tmp_path / name).read_text()), list)


def test_a_broken_file_is_refused_with_its_place(tmp_path: Path, records: tuple[Record, ...]) -> None:
    cf.write_records(records, tmp_path / "records.jsonl")
    text = (tmp_path / "records.jsonl").read_text()
    (tmp_path / "records.jsonl").write_text(text.replace('"subject"', '"object"', 1))
    with pytest.raises(DataError, match=r"records\.jsonl:1: .*subject"):
        cf.read_records(tmp_path / "records.jsonl")


def test_edit_and_score_are_functions_and_still_packages() -> None:
    import cfbuild.edit.presets
    import cfbuild.score.table

    assert callable(cf.edit) and callable(cf.score)
    assert cf.edit is sys.modules["cfbuild.edit"] and cfbuild.edit.presets.ROME and cfbuild.score.table.HEADLINE
