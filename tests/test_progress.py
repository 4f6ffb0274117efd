"""Progress that moves: of texts, prompts and files, and of what libraries would draw as bars."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import scored_build
import tiny
import torch
from tqdm.auto import tqdm

from cfbuild.cli import shared
from cfbuild.data import Reference, Request
from cfbuild.edit.ike import InContext, InContextOptions
from cfbuild.edit.rome import Rome
from cfbuild.edit.rome.options import RomeOptions
from cfbuild.edit.supplies import ModelSupplies
from cfbuild.lm.batching import TOKENS_PER_BATCH
from cfbuild.lm.delta import Delta, LowRank
from cfbuild.lm.likelihood import Question, score, score_before_and_after, score_edited
from cfbuild.lm.load import load
from cfbuild.lm.sample import generate, sample_texts
from cfbuild.progress import Running, reported_bars, silent
from cfbuild.score.cases import score_cases
from cfbuild.score.texts import ReferenceTexts, Writing

Reports = list[tuple[str, int, int | None]]


@pytest.fixture
def reports() -> Reports:
    return []


def heard(reports: Reports, task: str) -> list[int]:
    return [done for name, done, _ in reports if name == task]


def test_a_librarys_bar_is_reported_and_draws_nothing(reports: Reports, capfd: pytest.CaptureFixture[str]) -> None:
    with reported_bars(lambda *given: reports.append(given)):
        for _ in tqdm(range(5), desc="Converting tensors...", mininterval=0):
            pass
        with reported_bars(silent):
            list(tqdm(range(3), desc="unheard"))
        bar = tqdm(total=10, disable=True, desc="told to draw nothing")  # as off a terminal
        bar.update(10)
        bar.close()
    assert capfd.readouterr() == ("", "")
    assert heard(reports, "Converting tensors") == sorted(heard(reports, "Converting tensors"))
    assert {one for one in reports if one[1] == one[2]} == {
        ("Converting tensors", 5, 5),
        ("told to draw nothing", 10, 10),
    }
    list(tqdm(range(3), desc="drawn again"))
    assert "drawn again" in capfd.readouterr().err


def test_the_bars_that_a_load_would_draw_are_of_that_kind() -> None:
    """Those of a GGUF file's conversion, of weights that are read, and of downloads."""
    import tqdm.std
    from huggingface_hub.utils import tqdm as of_downloads
    from transformers import modeling_gguf_pytorch_utils

    assert issubclass(of_downloads, tqdm.std.tqdm)
    assert issubclass(modeling_gguf_pytorch_utils.tqdm, tqdm.std.tqdm)


def test_counts_of_calls_go_on(reports: Reports) -> None:
    running = Running(lambda *given: reports.append(given))
    for done, total in ((1, 2), (2, 2), (1, 3), (3, 3), (4, 4)):
        running("texts", done, total)
    assert reports == [("texts", done, None) for done in (1, 2, 3, 5, 9)]


def test_texts_move_with_every_token_and_end_at_their_number() -> None:
    lm = tiny.make("llama")
    counts: list[int] = []
    prompts = [lm.encode("She speaks"), lm.encode("Rome lies in"), lm.encode("Berlin")]
    texts = generate(lm, prompts, list("abc"), 40, done=counts.append)
    assert texts == generate(lm, prompts, list("abc"), 40)
    assert counts == sorted(counts) and counts[-1] == 3 and len(counts) > 30
    sample_texts(lm, 0, 4, 12, counts.append)
    assert counts[-1] == 4


def test_edits_move_with_the_steps_of_a_batch() -> None:
    requests = [Request("{} lies in", name, "Germany") for name in ("Rome", "Oslo", "Bern")]
    counts: list[int] = []
    Rome(tiny.make("gpt2"), RomeOptions(1, steps=6)).edit(requests, counts.append)
    assert counts == [0, 1, 1, 2, 2, 3], "five updates of one batch, then its end"


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_prompts_are_counted_by_batches_and_within_them_by_layers(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = tiny.make(architecture)
    names = ("Rome", "Oslo", "Bern")
    questions = [Question(lm.encode(f"{name} lies in"), (lm.continuation("Italy"),)) for name in names]
    depth, width, d_out = len(lm.layers), lm.key_width(1), lm.value_width(1)
    deltas = [Delta.of(1, LowRank(torch.ones(1, width), torch.ones(1, d_out))) for _ in names]
    calls = (
        (depth, lambda done: score(lm, questions, done)),
        (depth, lambda done: score_edited(lm, questions, deltas, done)),
        (2 * depth - 1, lambda done: score_before_and_after(lm, questions, deltas, done)),
    )
    for layers, call in calls:
        counts: list[int] = []
        call(counts.append)
        assert counts == [*(3 * layer // (layers + 1) for layer in range(1, layers + 1)), 3]
    monkeypatch.setitem(TOKENS_PER_BATCH, "cpu", 1)
    counts = []
    score(lm, questions, counts.append)
    assert counts == sorted([0, 1, 2] * depth + [1, 2, 3])


def test_reading_prompts_counts_as_a_part_of_their_texts() -> None:
    lm = tiny.make("llama")
    counts: list[int] = []
    generate(lm, [lm.starting_ids * 10] * 60, [str(place) for place in range(60)], 12, done=counts.append)
    assert counts[: len(lm.layers)] == [50 * layer // len(lm.layers) for layer in range(1, len(lm.layers) + 1)]


def test_prompts_and_texts_of_cases_are_counted_before_and_after_the_edit(reports: Reports) -> None:
    lm = tiny.make("gpt2", n_positions=512, max_position_embeddings=512)
    record = scored_build.record(3)
    (edit,) = InContext(InContextOptions("Fact: ")).edit(
        [Request(record.prompt.text, record.subject.label, record.target_new.label)]
    )
    references = ReferenceTexts([Reference(record.relation, record.target_new.id, "Q1", "x", "A text of a city.")])
    score_cases(lm, [record], [edit], "ike", Writing(references), lambda *given: reports.append(given))
    prompts = 1 + len(record.paraphrases) + len(record.neighborhood) + len(record.attribute)
    for task, number in (("prompts", 2 * prompts), ("texts", 2 * len(record.generation))):
        counts = heard(reports, task)
        assert counts == sorted(counts) and counts[-1] == number
        assert {total for name, _, total in reports if name == task} == {number}
    assert len(heard(reports, "texts")) > 20


def test_contexts_are_counted(reports: Reports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cfbuild.edit.corpus import of_texts

    monkeypatch.setenv("CFBUILD_CACHE", str(tmp_path))
    ModelSupplies(
        tiny.make("gpt2"), corpus=lambda: of_texts("none", []), progress=lambda *given: reports.append(given)
    ).contexts("rome")
    assert reports == [("contexts", 10, 20), ("contexts", 20, 20)]


def test_a_models_files_are_counted_as_they_are_read(reports: Reports, tmp_path: Path) -> None:
    lm = tiny.make("llama")
    lm.model.save_pretrained(tmp_path)
    lm.tokenizer.save_pretrained(tmp_path)
    load(str(tmp_path), progress=lambda *given: reports.append(given))
    read = [one for one in reports if one[0] == "bytes read"]
    assert (
        read[-1][1]
        == read[-1][2]
        == sum(one.stat().st_size for one in tmp_path.iterdir() if one.suffix in (".safetensors", ".json", ".model"))
    )
    assert any(name == "Loading weights" for name, _, _ in reports)


def test_progress_in_a_log_moves_and_a_quiet_command_is_silent(tmp_path: Path) -> None:
    """Scoring by a model in a folder, whose weights transformers would draw a bar for."""
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    lm = tiny.make("gpt2", n_positions=512, max_position_embeddings=512, **ends)
    lm.model.save_pretrained(tmp_path / "model")
    lm.tokenizer.save_pretrained(tmp_path / "model")
    build = scored_build.write_scored(tmp_path / "build", scored_build.records(1), scored=False)
    command = [sys.executable, "-m", "cfbuild", "validate-and-score", "--build", str(build.root)]
    command += ["--model", str(tmp_path / "model"), "--layer", "1", "--steps", "2", "--covariance", "none"]
    loud, quiet = (
        subprocess.run([*command, "--run", run, *words], capture_output=True, text=True, check=True)
        for run, words in (("loud", []), ("quiet", ["-q"]))
    )
    tasks = {line.split(":")[0] for line in loud.stderr.splitlines()}
    assert "\r" not in loud.stderr and tasks >= {"bytes read", "Loading weights", "prompts", "texts", "records"}
    assert quiet.stderr == ""


@pytest.mark.parametrize("spacing_s", [0.1, 0.9, 1.7, 2.4])
def test_lines_of_progress_are_never_more_than_five_seconds_apart(
    spacing_s: float, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Check calls that come at least every 2.5 seconds; few of them have a line."""
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    lines, written = shared._Lines(), [0.0]
    for call in range(1, 201):
        now = call * spacing_s
        lines("edits" if call < 100 else "prompts", call, 1000)
        if capsys.readouterr().err:
            written.append(now)
    assert all(later - earlier < 5.001 for earlier, later in pairwise(written))
    assert len(written) < 3 + now / 2.4
