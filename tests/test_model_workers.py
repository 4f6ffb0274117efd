"""Workers that load a model of their own: the same bytes from one process, from two, and after one was killed."""

from __future__ import annotations

import dataclasses
import importlib.util
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest
import tiny
from scored_build import records, write_scored
from small_world import small_options, write_world

from cfbuild.errors import ConfigError
from cfbuild.filter.rank import RankFilter
from cfbuild.filter.thresholds import FilterOptions
from cfbuild.lm.load import load_chosen
from cfbuild.lm.selection import ModelOptions
from cfbuild.pipeline.generate import generate
from cfbuild.pipeline.scoring import ScoringWorkers
from cfbuild.pipeline.validate_and_score import EvaluateOptions, evaluate
from cfbuild.score import passes
from cfbuild.store.folder import BuildFolder
from cfbuild.work import GPUS, LOCAL, ModelWorkerOptions, gpus_of

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install 'cfbuild[ray]'"
)
WORKERS = [
    pytest.param({"workers": 2}, id="processes"),
    pytest.param({"workers": 2, "ray": os.environ.get("RAY_ADDRESS", LOCAL)}, id="ray", marks=needs_ray),
]
OPTIONS: dict[str, Any] = {"editor": "ft", "steps": 2, "layer": 1, "skip_generation": True}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelOptions:
    folder, lm = tmp_path_factory.mktemp("model"), tiny.make("llama")
    lm.model.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    return ModelOptions(model=str(folder), device="cpu")


def kills_once(when: int) -> Any:
    """Return a progress that kills a worker at its `when`-th report."""
    reports = iter(range(1000))

    def progress(*_: object) -> None:
        if next(reports) == when and (workers := multiprocessing.active_children()):
            workers[0].kill()

    return progress


@pytest.mark.parametrize("several", WORKERS)
def test_scores_are_the_same_whoever_works(
    tmp_path: Path, model: ModelOptions, several: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes, "CASES_AT_ONCE", 2)
    lm, found = load_chosen(model), []
    for name, chosen in (("alone", {}), ("several", several)):
        folder = write_scored(tmp_path / name, records(7), scored=False)
        options = EvaluateOptions(**OPTIONS, keep_edits=True)
        workers = ScoringWorkers(ModelWorkerOptions(**chosen), model)
        report = evaluate(folder, options, lm, kills_once(3), workers=workers)
        files = [folder.path(f"runs/ft/{file}").read_bytes() for file in ("cases.jsonl", "edits.safetensors")]
        found.append((report.signature, *files))
    assert found[0] == found[1]


@pytest.mark.long  # each worker imports torch; the scores above go the same way
@pytest.mark.parametrize("several", WORKERS)
def test_a_filters_verdicts_are_the_same_whoever_works(
    tmp_path: Path, model: ModelOptions, several: dict[str, Any]
) -> None:
    thresholds, lm = FilterOptions(min_rank_share=0.3), load_chosen(model)
    found = []
    for name, chosen in (("alone", {}), ("several", several)):
        folder = BuildFolder(write_world(tmp_path / name))
        options = dataclasses.replace(small_options(), **chosen)
        summary = generate(folder, options, RankFilter(lm, thresholds, model=model), kills_once(1))
        found.append((summary, *(folder.path(file).read_bytes() for file in ("records.jsonl", "rejected.jsonl"))))
    assert found[0] == found[1] and found[0][0].kept


def test_a_worker_with_another_model_is_refused(tmp_path: Path, model: ModelOptions) -> None:
    folder = write_scored(tmp_path, records(3), scored=False)
    workers = ScoringWorkers(ModelWorkerOptions(workers=2), model)
    with pytest.raises(ConfigError, match="a worker has another model"):
        evaluate(folder, EvaluateOptions(**OPTIONS), tiny.make("gpt2"), workers=workers)


def test_a_sequence_has_one_worker() -> None:
    workers = ScoringWorkers(ModelWorkerOptions(workers=2))
    with pytest.raises(ConfigError, match="--sequence edits batch after batch"):
        workers.check(EvaluateOptions(sequence=2))
    workers.check(EvaluateOptions())


def test_each_worker_has_gpus_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(GPUS, raising=False)
    two = ModelWorkerOptions(workers=2, gpus=2)
    assert [gpus_of(seat, two) for seat in range(2)] == [["0", "1"], ["2", "3"]]
    assert gpus_of(0, ModelWorkerOptions(workers=2)) == []
    monkeypatch.setenv(GPUS, "GPU-a,GPU-b,GPU-c")
    assert gpus_of(1, ModelWorkerOptions(workers=3, gpus=1)) == ["GPU-b"]
    with pytest.raises(ConfigError, match="shows 3; give fewer --workers or --gpus"):
        gpus_of(0, two)
    assert ModelOptions().for_workers(1).device == "cuda" and ModelOptions(device="cpu").for_workers(1).device == "cpu"
