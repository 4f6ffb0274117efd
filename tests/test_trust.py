"""`--trust`: pickled weights and code of a repository, for the model that is named and for no other."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from small_world import small_options, write_world
from typer.testing import CliRunner

from cfbuild.cli import app
from cfbuild.errors import BuildStateError, ConfigError, ModelError
from cfbuild.filter.rank import FilterOptions, RankFilter
from cfbuild.lm.likelihood import Question, score
from cfbuild.lm.load import load
from cfbuild.lm.model import LanguageModel
from cfbuild.pipeline.generate import generate
from cfbuild.pipeline.validate_and_score import EvaluateOptions, evaluate
from cfbuild.store.folder import BuildFolder

CODE = """
import pathlib
from transformers import {base}Config, {head}

pathlib.Path({marker!r}).touch()


class OwnConfig({base}Config):
    model_type = "own"


class OwnModel({head}):
    config_class = OwnConfig
{more}
"""
LOUDER = """
    def forward(self, *given, **named):
        output = super().forward(*given, **named)
        output.logits = output.logits * 2
        return output
"""
ELSEWHERE = """
    def __init__(self, config):
        super().__init__(config)
        self.other = self.model
        del self.model
"""
MAP = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}


def saved(folder: Path, kind: str) -> Path:
    lm = tiny.make(kind)
    lm.model.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def pickled(tmp_path: Path) -> Path:
    folder = saved(tmp_path / "model", "llama")
    (folder / "model.safetensors").unlink()
    torch.save(tiny.make("llama").model.state_dict(), folder / "pytorch_model.bin")
    return folder


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file that the code makes when it runs."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    return tmp_path / "ran"


@pytest.fixture
def with_code(tmp_path: Path, marker: Path) -> Callable[..., str]:
    def make(kind: str = "llama", head: str = "LlamaForCausalLM", more: str = "") -> str:
        folder = saved(tmp_path / "own", kind)
        (folder / "own.py").write_text(CODE.format(base=head[:-11], head=head, marker=str(marker), more=more))
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "model_type": "own", "auto_map": MAP}))
        return str(folder)

    return make


def answers(lm: LanguageModel) -> list[float]:
    question = Question(lm.encode("She speaks"), (lm.continuation("French"), lm.continuation("German")))
    return [one.nll_nats for one in score(lm, [question])[0]]


def test_pickled_weights_load_where_the_model_is_named(pickled: Path) -> None:
    for trust in (None, pickled.name, str(pickled) + "/", "gpt2-xl", "*", ""):
        with pytest.raises((ModelError, ConfigError), match="--trust"):
            load(str(pickled), device="cpu", trust=trust)
    lm = load(str(pickled), device="cpu", trust=str(pickled))
    assert answers(lm) == pytest.approx(answers(tiny.make("llama")), abs=1e-5) and lm.identity["trusted"] is True
    torch.save(tiny.make("llama", seed=1).model.state_dict(), pickled / "pytorch_model.bin")
    assert load(str(pickled), device="cpu", trust=str(pickled)).revision != lm.revision


def test_safetensors_come_before_pickles_also_where_trusted(pickled: Path) -> None:
    torch.save(tiny.make("llama", seed=1).model.state_dict(), pickled / "pytorch_model.bin")
    tiny.make("llama").model.save_pretrained(pickled)
    lm = load(str(pickled), device="cpu", trust=str(pickled))
    assert answers(lm) == pytest.approx(answers(tiny.make("llama")), abs=1e-5)


class Evil:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("form", ["zip", "old", "plain"])
def test_a_trusted_pickle_is_read_as_weights_and_runs_nothing(pickled: Path, tmp_path: Path, form: str) -> None:
    content = {"model.embed_tokens.weight": Evil(tmp_path / "ran")}
    if form == "plain":
        (pickled / "pytorch_model.bin").write_bytes(pickle.dumps(content, 2))
    else:
        torch.save(content, pickled / "pytorch_model.bin", _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(str(pickled), device="cpu", trust=str(pickled))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["../other.bin", "/etc/passwd", "model.safetensors.bin/../x.bin"])
def test_an_index_of_pickles_leads_to_pickles_of_its_folder_only(pickled: Path, name: str) -> None:
    (pickled / "pytorch_model.bin").unlink()
    (pickled / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": {"lm_head.weight": name}}))
    with pytest.raises(ModelError, match=r"pytorch_model\.bin\.index\.json: expected a weight_map"):
        load(str(pickled), device="cpu", trust=str(pickled))


@pytest.mark.parametrize(("kind", "head"), [("llama", "LlamaForCausalLM"), ("gpt2", "GPT2LMHeadModel")])
def test_code_of_a_repository_runs_where_the_model_is_named(
    with_code: Callable[..., str], marker: Path, kind: str, head: str
) -> None:
    folder = with_code(kind, head)
    for trust in (None, "smollm2-135m", str(Path(folder).parent)):
        with pytest.raises((ModelError, ConfigError), match="--trust"):
            load(folder, device="cpu", trust=trust)
    assert not marker.exists()
    lm, plain = load(folder, device="cpu", trust=folder), tiny.make(kind)
    assert marker.exists() and type(lm.model).__name__ == "OwnModel"
    assert answers(lm) == pytest.approx(answers(plain), abs=1e-5)
    assert lm.family.projection_is_transposed == plain.family.projection_is_transposed and not lm.family.is_llama_like
    assert lm.key_width(1) == plain.key_width(1)
    named = lm.revision
    Path(folder, "own.py").write_text(Path(folder, "own.py").read_text() + "\n# changed\n")
    assert load(folder, device="cpu", trust=folder).revision != named


def test_code_of_a_known_type_stays_unused_where_the_model_is_not_named(
    with_code: Callable[..., str], marker: Path
) -> None:
    folder = with_code()
    config = json.loads(Path(folder, "config.json").read_text())
    Path(folder, "config.json").write_text(json.dumps({**config, "model_type": "llama"}))
    assert type(load(folder, device="cpu").model).__module__.startswith("transformers.models")
    assert not marker.exists()


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_trust_does_not_reach_code_of_another_repository(
    with_code: Callable[..., str], marker: Path, file: str
) -> None:
    folder = with_code()
    path = Path(folder, file)
    names = {"AutoTokenizer": [None, "someone/else--own.OwnTokenizer"]}
    path.write_text(json.dumps({**json.loads(path.read_text()), "auto_map": {**MAP, **names}}))
    with pytest.raises(ModelError, match="code of another repository, someone/else"):
        load(folder, device="cpu", trust=folder)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("more", "message"), [(LOUDER, "by its parts, its code gives other logits"), (ELSEWHERE, "names its parts")]
)
def test_code_that_cfbuild_would_run_wrongly_is_refused(with_code: Callable[..., str], more: str, message: str) -> None:
    folder = with_code(more=more)
    with pytest.raises(ModelError, match=message):
        load(folder, device="cpu", trust=folder)


def test_trust_stands_in_settings_and_is_not_mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CFBUILD_CACHE", str(tmp_path / "cache"))
    plain = tiny.make("gpt2")
    trusted = replace(plain, trusted=True)
    folder = BuildFolder(write_world(tmp_path / "build"))
    generate(folder, small_options(limit=3), RankFilter(trusted, FilterOptions(0.0)))
    options = EvaluateOptions(covariance_tokens=300, steps=2, skip_generation=True, layer=1)
    report = evaluate(folder, options, trusted)
    verbs = folder.manifest().verbs
    assert verbs["generate"].config["model_filter"]["trusted"] is True
    assert verbs["validate-and-score/rome"].config["trusted"] is True and "trusted" in report.signature
    with pytest.raises(BuildStateError, match="trusted: True then, None now"):
        evaluate(folder, options, plain)


def test_the_option_names_the_model_or_is_refused(tmp_path: Path, pickled: Path) -> None:
    root = write_world(tmp_path / "build")
    words = ["generate", "--build", str(root), "--model", str(pickled), "--limit", "2", "--min-rank", "0"]
    words += ["--min-pool", "2", "--min-neighbors", "0", "--json"]
    refused = CliRunner().invoke(app, [*words, "--trust", "someone/else"], catch_exceptions=True)
    assert isinstance(refused.exception, ConfigError) and "someone/else" in str(refused.exception)
    shown = CliRunner().invoke(app, [*words, "--device", "cpu", "--trust", str(pickled)], catch_exceptions=False)
    assert shown.exit_code == 0, shown.output
    assert json.loads((root / "manifest.json").read_text())["verbs"]["generate"]["config"]["model_filter"]["trusted"]
