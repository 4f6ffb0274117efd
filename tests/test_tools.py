"""Exports and metadata in the hands of the tools that they are for, each from PyPI: `make test-tools` installs them.

They run in an environment of their own, which CFBUILD_TOOLS names or which is `.venv-tools`; without it these tests are
skipped. Figures of a tool are held against ours wherever they mean the same.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from scored_build import record, write_scored

import cfbuild
from cfbuild.data import CaseScore, Record
from cfbuild.edit.editor import Edit
from cfbuild.lm.model import LanguageModel
from cfbuild.pipeline.export import ExportOptions, export_records
from cfbuild.pipeline.publish import stage
from cfbuild.records.prompts import prompts_of, stays_true
from cfbuild.score.cases import score_cases
from cfbuild.score.in_use import ObjectNames
from cfbuild.score.metrics import aggregate
from cfbuild.score.texts import Writing
from cfbuild.store import codec, jsonl
from cfbuild.store.folder import BuildFolder

ROOT = Path(__file__).resolve().parents[1]
TOOLS = Path(os.environ.get("CFBUILD_TOOLS", ROOT / ".venv-tools" / "bin" / "python"))
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
TOLERANCE = 1e-4
"""Of probabilities: the tools multiply in other batches and by other kernels than we do."""
FIGURES = {"rewrite": ("ES", "EM", "rewrite_exact"), "paraphrase": ("PS", "PM"), "neighborhood": ("NS", "NM")}
"""By kind of prompt, our figures that its task's acc_per_token, margin_per_token and exact mean."""


def run(tmp_path: Path, *words: str) -> str:
    """Run the tools' Python offline; return what it printed."""
    if not TOOLS.is_file():
        pytest.skip(f"{TOOLS} is not there: `make test-tools` installs the tools")
    environment = {**os.environ, **OFFLINE, "HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(TOOLS), *words], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=3_600
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def three() -> list[Record]:
    """Three records of the bundled facts, with all groups that their facts give."""
    made, _ = cfbuild.RecordMaker(cfbuild.snapshot(), seed=0).make(limit=3)
    return list(made)


@pytest.fixture(scope="module")
def build(three: list[Record], tmp_path_factory: pytest.TempPathFactory) -> BuildFolder:
    folder = BuildFolder(tmp_path_factory.mktemp("tools"))
    jsonl.write_jsonl(folder.path("records.jsonl"), map(codec.encode_record, three))
    return folder


@pytest.fixture(scope="module")
def model(smollm2: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the unedited embedded model as a folder."""
    folder = tmp_path_factory.mktemp("model") / "smollm2"
    if TOOLS.is_file():
        smollm2.model.save_pretrained(folder)
        smollm2.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def ours(smollm2: LanguageModel, three: list[Record]) -> list[CaseScore]:
    """Our scores of the unedited model, its answers among them."""
    nothing = [Edit((one.case_id,), None) for one in three]
    return score_cases(smollm2, three, nothing, "none", Writing(names=ObjectNames()))


@pytest.mark.model
def test_lm_evaluation_harness_prints_our_figures(
    build: BuildFolder, three: list[Record], model: Path, ours: Sequence[CaseScore], tmp_path: Path
) -> None:
    tasks = export_records(build, ExportOptions("lm-eval")).path
    words = ("-m", "lm_eval", "run", "--model", "hf", "--model_args", f"pretrained={model},dtype=float32")
    words += ("--device", "cpu", "--batch_size", "4", "--tasks", "cfbuild", "--include_path", str(tasks))
    run(tmp_path, *words, "--output_path", str(tmp_path / "out"), "--log_samples")
    (file,) = (tmp_path / "out").rglob("results_*.json")
    results = json.loads(file.read_text(encoding="utf-8"))["results"]
    figures = aggregate(ours, "pre")
    for kind, names in FIGURES.items():
        measured = ("acc_per_token", "margin_per_token", "exact")
        for name, theirs in zip(names, measured, strict=False):
            assert results[f"cfbuild_{kind}"][f"{theirs},none"] == pytest.approx(
                figures[name].mean / 100, abs=TOLERANCE
            ), name
    for kind in {kind for one in three for kind, *_ in prompts_of(one)}:
        (samples,) = (tmp_path / "out").rglob(f"samples_cfbuild_{kind}_*.jsonl")
        rows = [json.loads(line) for line in samples.read_text(encoding="utf-8").splitlines()]
        scores = [score for case in ours for score in case.pre.prompts.get(kind, ())]
        assert len(rows) == len(scores)
        for row, score in zip(sorted(rows, key=lambda row: row["doc_id"]), scores, strict=True):
            new_wins = score.target_new_nll < score.target_true_nll
            assert row["acc_per_token"][1] == float(new_wins != stays_true(kind))
            nlls = [
                -float(sums[0]) / count for sums, count in zip(row["filtered_resps"], row["doc"]["tokens"], strict=True)
            ]
            assert nlls == pytest.approx([score.target_new_nll, score.target_true_nll], abs=1e-3)


INSPECT = """
import json, os, sys
from inspect_ai import eval
logs = os.path.abspath("logs")
os.chdir(sys.argv[1])  # it takes a task file by a relative path
template = "{% for message in messages %}{{ message.content }}{% endfor %}"
arguments = {"model_path": sys.argv[2], "do_sample": False, "chat_template": template, "device": "cpu"}
(log,) = eval("cfbuild_task.py", model="hf/local", model_args=arguments, task_args={"kind": sys.argv[3]},
              log_dir=logs, display="plain", log_format="json")
assert log.status == "success", log.error
scores = [(sample.metadata["case_id"], sample.scores["names_the_answer_first"]) for sample in log.samples]
answers = [(case, score.value, score.explanation) for case, score in scores]
print("RESULT" + json.dumps({"accuracy": log.results.scores[0].metrics["accuracy"].value, "answers": answers}))
"""
MOCKED = """
import json, os, sys
from inspect_ai import eval
from inspect_ai.model import ModelOutput, ModelUsage, get_model
logs = os.path.abspath("logs")
os.chdir(sys.argv[1])
said = json.loads(sys.argv[2])
def answer(input, *other):
    made = ModelOutput.from_content("mockllm/model", said[input[-1].text])
    made.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)  # else it counts, by a file from afar
    return made
model = get_model("mockllm/model", custom_outputs=answer)
(log,) = eval("cfbuild_task.py", model=model, task_args={"kind": "rewrite"}, log_dir=logs,
              display="plain")
scores = {sample.input: sample.scores["names_the_answer_first"].value for sample in log.samples}
print("RESULT" + json.dumps("".join(scores[prompt] for prompt in said)))
"""


def result(printed: str) -> Any:
    return json.loads(printed.split("RESULT", 1)[1].splitlines()[0])


@pytest.mark.model
def test_inspect_says_what_we_decode(
    build: BuildFolder, model: Path, ours: Sequence[CaseScore], tmp_path: Path
) -> None:
    folder = export_records(build, ExportOptions("inspect")).path
    for kind, figure in (("rewrite", "in_use_rewrite"), ("paraphrase", "in_use_paraphrase")):
        found = result(run(tmp_path, "-c", INSPECT, str(folder), str(model), kind))
        assert found["accuracy"] == pytest.approx(aggregate(ours, "pre")[figure].mean / 100)
        answers = [(case.case_id, text) for case in ours for text in case.pre.answers[kind]]
        assert sorted((case, text.strip()) for case, _, text in found["answers"]) == sorted(answers)


def test_inspect_scores_what_is_named_first(build: BuildFolder, three: list[Record], tmp_path: Path) -> None:
    folder = export_records(build, ExportOptions("inspect")).path
    new, true = ([getattr(one, name).label for one in three] for name in ("target_new", "target_true"))
    for answers, right in (
        ([f" {one}. And" for one in new], "CCC"),
        ([f" not {b} but {a}" for a, b in zip(new, true, strict=True)], "III"),
        ([f" nothing.\n{one}" for one in new], "III"),
        ([f" {new[0].lower()}", f"{new[1]}x", f"the “{new[2]}”"], "CIC"),
    ):
        by_prompt = dict(zip((one.rewrite for one in three), answers, strict=True))
        assert result(run(tmp_path, "-c", MOCKED, str(folder), json.dumps(by_prompt))) == right


CROISSANT = """
import json, sys
import mlcroissant
folder = sys.argv[1]
dataset = mlcroissant.Dataset(f"{folder}/croissant.json", mapping={"repo": folder})
issues = dataset.metadata.ctx.issues
found = {}
for name in ("prompts-train", "scores-test", "records-validation"):
    rows = list(dataset.records(name))
    found[name] = [{key.split("/", 1)[1]: value for key, value in row.items()} for row in rows]
told = {"errors": list(issues.errors), "warnings": list(issues.warnings), "found": found}
print("RESULT" + json.dumps(told, default=lambda one: one.decode() if isinstance(one, bytes) else one.tolist()))
"""


def test_mlcroissant_finds_nothing_wrong_and_reads_the_rows(tmp_path: Path) -> None:
    from pyarrow import parquet

    folder = write_scored(tmp_path / "build", [record(number) for number in range(30)])
    stage(folder, "someone/set")
    made = result(run(tmp_path, "-c", CROISSANT, str(folder.path("publish"))))
    # Such a build has no day: its facts were fetched from nowhere.
    assert made["errors"] == [] and all("datePublished" in one for one in made["warnings"])
    for name, rows in made["found"].items():
        table, split = name.split("-")
        (file,) = folder.path(f"publish/data/{table}").glob(f"{split}-*.parquet")
        there = parquet.read_table(file).to_pylist()
        assert [row["case_id"] for row in rows] == [row["case_id"] for row in there]
        plain = [key for key in there[0] if isinstance(there[0][key], str | int) and key != "case_id"]
        assert (plain or table == "records") and all(
            [row[key] for row in rows] == [row[key] for row in there] for key in plain
        )
        if table == "records":
            given = [{key.rsplit("/", 1)[1]: value for key, value in row["requested_rewrite"].items()} for row in rows]
            assert given == [{key: row["requested_rewrite"][key] for key in given[0]} for row in there]


def test_chats_load_and_take_a_template(build: BuildFolder, three: list[Record], tmp_path: Path) -> None:
    from datasets import load_dataset
    from tiny import tokenizer

    folder = export_records(build, ExportOptions("chat")).path
    rows = load_dataset("json", data_files=str(folder / "train.jsonl"), cache_dir=str(tmp_path))["train"]
    template = "{% for one in messages %}<{{ one.role }}>{{ one.content }}{% endfor %}"
    texts = [tokenizer().apply_chat_template(row["messages"], chat_template=template, tokenize=False) for row in rows]
    assert texts == [f"<user>{one.rewrite}<assistant>{one.target_new.label}" for one in three]
