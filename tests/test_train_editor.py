"""The command that trains an editor, from a build to a score, on tiny random models."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
from small_world import small_options, write_world
from stopping import stopping
from typer.testing import CliRunner

from cfbuild.cli import app, command
from cfbuild.edit.trained.artefact import MADE_OF, NETWORK, load_network
from cfbuild.errors import BuildStateError, ConfigError, ModelError
from cfbuild.lm.model import LanguageModel
from cfbuild.pipeline.generate import generate
from cfbuild.pipeline.rebuild import rebuild
from cfbuild.pipeline.train_editor import HISTORY, TEST, TrainOptions, train_editor
from cfbuild.pipeline.validate_and_score import EvaluateOptions, evaluate
from cfbuild.store.folder import BuildFolder
from cfbuild.store.jsonl import read_rows

SMALL: dict[str, Any] = {"rank": 4, "steps": 4, "batch": 2, "valid_every": 2, "text_tokens": 6, "limit": 30}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CFBUILD_CACHE", str(tmp_path / "cache"))


def build(root: Path) -> BuildFolder:
    folder = BuildFolder(write_world(root, people=40))
    generate(folder, small_options(limit=30))
    return folder


def files_of(folder: BuildFolder, name: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.path(f"editors/{name}").iterdir())}


@pytest.mark.parametrize("editor", ["mend", "ke"])
def test_a_killed_training_goes_on_to_the_same_bytes(tmp_path: Path, editor: str) -> None:
    lm = tiny.make("gpt2")
    before = tiny.digest(lm)
    whole, killed = build(tmp_path / "whole"), build(tmp_path / "killed")
    options = TrainOptions(editor=editor, **SMALL)
    summary = train_editor(whole, options, lm)

    with pytest.raises(KeyboardInterrupt):
        train_editor(killed, options, lm, stopping("training", 3))
    steps: list[int] = []
    train_editor(killed, options, lm, lambda task, done, _: steps.append(done) if task == "training" else None)
    assert steps == [3, 4], "it goes on after the last validation"
    made = files_of(whole, f"{editor}-cf")
    assert {*made} == {NETWORK, MADE_OF, HISTORY, TEST} and files_of(killed, f"{editor}-cf") == made
    assert not killed.path(f"progress/train-editor/{editor}-cf").exists() and tiny.digest(lm) == before

    # What is finished is not done again, and other settings are refused.
    assert train_editor(whole, options, lm, stopping("training", 3)) == summary and summary.steps == 4
    with pytest.raises(BuildStateError, match="batch: 2 then, 3 now"):
        train_editor(whole, replace(options, batch=3), lm)
    signature = json.loads(made[MADE_OF])
    assert signature["settings"]["learned_from"] and signature["model"]["revision"].startswith("random-0-")
    assert [row["step"] for _, row in read_rows(whole.path(f"editors/{editor}-cf/{HISTORY}"))] == [2, 4]
    ids = [row["case_id"] for _, row in read_rows(whole.path(f"editors/{editor}-cf/{TEST}"))]
    assert (*ids,) == summary.test and len(ids) >= 6


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> BuildFolder:
    folder = build(tmp_path_factory.mktemp("trained") / "build")
    train_editor(folder, TrainOptions(editor="mend", **SMALL), tiny.make("gpt2"))
    return folder


def test_a_trained_editor_is_scored_on_what_it_has_not_seen(trained: BuildFolder) -> None:
    home, lm = trained.path("editors/mend-cf"), tiny.make("gpt2")
    options = EvaluateOptions(file=home / TEST, editor="mend-cf", skip_generation=True)
    report = evaluate(trained, options, lm)
    digest = load_network(home, "mend-cf", "mend", lm).digest
    assert f"trained:{digest}" in report.signature and str(home) not in report.signature
    assert report.cases == len([*read_rows(home / TEST)]) and not report.faulty
    by_folder = replace(options, settings={"trained": str(home)})
    assert evaluate(trained, by_folder, lm).signature == report.signature, "the same network is the same run"
    assert str(home) not in trained.path("manifest.json").read_text(encoding="utf-8")
    released = evaluate(trained, replace(options, run="released", settings={"as_released": True}), lm)
    assert "as_released:True" in released.signature and released.figures != report.figures


def test_a_card_names_the_command_of_a_training(trained: BuildFolder) -> None:
    (words,) = (one for one in rebuild(trained.manifest().verbs).commands if one[0] == "train-editor")
    assert words[1] == "mend" and "--rank" in words and "--records" not in words
    assert assemble_again(words).rank == SMALL["rank"]


def assemble_again(words: Sequence[str]) -> TrainOptions:
    """Return the options that the words of a command give."""
    given = command("train-editor").make_context("train-editor", [*words[1:]]).params
    return TrainOptions(editor=given["editor"], rank=given["rank"])


def test_a_missing_network_is_told_with_the_command_that_makes_it(trained: BuildFolder) -> None:
    for name, shown in {
        "ke-cf": "cfbuild train-editor ke`",
        "mend": "cfbuild train-editor mend --texts FILE`",
    }.items():
        with pytest.raises(ConfigError, match=f"holds no trained network, and the editor {name} needs one.*{shown}"):
            evaluate(trained, EvaluateOptions(editor=name, skip_generation=True), tiny.make("gpt2"))


def test_a_network_is_refused_for_another_model_another_kind_and_broken(trained: BuildFolder, tmp_path: Path) -> None:
    home = trained.path("editors/mend-cf")
    for model in (tiny.make("gpt2", seed=1), tiny.make("llama", seed=2)):
        with pytest.raises(
            ConfigError, match=r"was trained for tiny-gpt2 \(random-0-\w+\).*train-editor mend --model tiny-"
        ):
            load_network(home, "mend-cf", "mend", model)
    with pytest.raises(ConfigError, match="is a network of mend; the editor ke-cf needs one of ke"):
        load_network(home, "ke-cf", "ke", tiny.make("gpt2"))
    body = bytearray((home / NETWORK).read_bytes())
    (tmp_path / MADE_OF).write_bytes((home / MADE_OF).read_bytes())
    body[-1] ^= 1
    (tmp_path / NETWORK).write_bytes(body)
    with pytest.raises(ModelError, match=r"is not the file that its made_of.json describes"):
        load_network(tmp_path, "mend-cf", "mend", tiny.make("gpt2"))
    (tmp_path / NETWORK).write_bytes(body[:100])
    with pytest.raises(ModelError, match="holds no network that can be read"):
        load_network(tmp_path, "mend-cf", "mend", tiny.make("gpt2"))


def test_a_broken_checkpoint_is_told(tmp_path: Path) -> None:
    lm, folder = tiny.make("gpt2"), build(tmp_path / "build")
    options = TrainOptions(editor="mend", **SMALL)

    with pytest.raises(KeyboardInterrupt):
        train_editor(folder, options, lm, stopping("training", 2))
    folder.path("progress/train-editor/mend-cf/checkpoint.pt").write_bytes(b"nothing")
    with pytest.raises(ModelError, match=r"is no checkpoint of this training.*--restart"):
        train_editor(folder, options, lm)
    assert train_editor(folder, replace(options, restart=True), lm).steps == 4


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"editor": "rome"}, "train-editor rome: expected mend or ke"),
        ({"editor": "mend", "steps": 0}, "steps is 0; expected at least 1"),
        ({"editor": "mend", "learning_rate": -1.0}, "learning_rate is -1.0; expected more than 0"),
        ({"editor": "mend", "limit": 2}, "0 to validate on; expected at least one of each"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train_editor(build(tmp_path / "build"), TrainOptions(**{**SMALL, **given}), tiny.make("gpt2"))


def saved(lm: LanguageModel, place: Path) -> str:
    lm.model.save_pretrained(place)
    lm.tokenizer.save_pretrained(place)
    return str(place)


def test_the_commands_from_records_and_from_texts_to_scores(tmp_path: Path) -> None:
    model = saved(tiny.make("llama"), tmp_path / "model")
    folder = build(tmp_path / "build")
    texts = tmp_path / "texts.txt"
    texts.write_text(
        "\n\n".join(f"Text {number} tells of a city by the sea." for number in range(25)), encoding="utf-8"
    )
    small = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
    shared = ["--build", str(folder.root), "--model", model]
    runner = CliRunner()
    shown = runner.invoke(app, ["train-editor", "mend", *shared, *small], catch_exceptions=False)
    assert shown.exit_code == 0 and "step 4: loss" in shown.output and "drawdown" in shown.output
    file = folder.path(f"editors/mend-cf/{TEST}")
    assert f"--file {file} --editor mend-cf" in shown.output
    shown = runner.invoke(app, ["train-editor", "ke", *shared, *small, "--texts", str(texts), "--json", "-q"])
    assert shown.exit_code == 0 and json.loads(shown.stdout)["editor"] == "ke"
    for editor in ("mend-cf", "ke"):
        words = ["validate-and-score", *shared, "--file", str(file), "--editor", editor, "--skip-generation", "--json"]
        shown = runner.invoke(app, [*words, "-q"], catch_exceptions=False)
        assert shown.exit_code == 0 and json.loads(shown.stdout)["cases"] > 5
