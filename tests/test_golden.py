"""Agreement with the original ROME code on SmolLM2-135M, where its recorded results are beside the checkout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cfbuild.data import Record, Request
from cfbuild.edit.covariance import load_covariance
from cfbuild.edit.editor import Edit
from cfbuild.edit.rome import Rome
from cfbuild.edit.rome.options import RomeOptions
from cfbuild.lm.model import LanguageModel
from cfbuild.score.cases import score_cases
from cfbuild.store.codec import decode_record

pytestmark = [pytest.mark.model, pytest.mark.shared]

GROUPS = ("rewrite", "paraphrase", "neighborhood", "attribute")


@pytest.fixture(scope="module")
def recorded(golden: Path) -> dict[str, Any]:
    cases: dict[str, Any] = json.loads((golden / "smollm2-135m.json").read_text())
    return cases


@pytest.fixture(scope="module")
def records(recorded: dict[str, Any]) -> list[Record]:
    return [decode_record(case["record"]) for case in recorded["cases"]]


@pytest.fixture(scope="module", params=[1, pytest.param(10, marks=pytest.mark.long)], ids=["one edit", "all edits"])
def edits(
    request: pytest.FixtureRequest,
    recorded: dict[str, Any],
    records: list[Record],
    golden: Path,
    smollm2: LanguageModel,
) -> list[Edit]:
    """Return edits of the first cases that have recorded edits, made with the recorded prefixes and covariance."""
    layer, edited = recorded["layer"], [case for case in recorded["cases"] if "post" in case][: request.param]
    contexts = tuple(context.removesuffix("{}") for context in recorded["contexts"] if context != "{}")
    covariance = load_covariance(golden / f"covariance-layer{layer}.npz", smollm2.key_width(layer))
    editor = Rome(smollm2, RomeOptions(layer=layer, contexts=contexts), covariance)
    return editor.edit(
        [Request(one.prompt.text, one.subject.label, one.target_new.label) for one in records[: len(edited)]]
    )


def nlls(case: dict[str, Any], stage: str) -> np.ndarray:
    """Return the NLL of target_new and target_true, [prompts, 2], groups in order."""
    rows = [row for group in GROUPS for row in case[stage][f"{group}_prompts_probs"]]
    return np.array([(row["target_new"], row["target_true"]) for row in rows])


def ours(stage: Any) -> np.ndarray:
    return np.array([(one.target_new_nll, one.target_true_nll) for group in GROUPS for one in stage.prompts[group]])


@pytest.mark.parametrize("count", [2, pytest.param(None, marks=pytest.mark.long)], ids=["two cases", "all cases"])
def test_nlls_before_an_edit_are_the_original_codes(
    count: int | None, recorded: dict[str, Any], records: list[Record], smollm2: LanguageModel
) -> None:
    unedited = [Edit((0,), None, fault="not edited")] * len(records[:count])
    scores = score_cases(smollm2, records[:count], unedited, "none")
    for case, scored in zip(recorded["cases"][:count], scores, strict=True):
        assert np.abs(ours(scored.pre) - nlls(case, "pre")).max() < 1e-3


def test_keys_and_values_are_the_original_codes(edits: list[Edit], golden: Path) -> None:
    with np.load(golden / "smollm2-135m.npz") as arrays:
        keys, values = torch.from_numpy(arrays["key"]), torch.from_numpy(arrays["value"])
    for edit, key, value in zip(edits, keys[: len(edits)], values[: len(edits)], strict=True):
        assert edit.delta is not None
        assert float(torch.cosine_similarity(edit.delta.only.keys[0], key, dim=0)) >= 0.9999
        assert float((edit.delta.only.values[0] - value).norm() / value.norm()) < 0.01


def test_nlls_and_decisions_after_an_edit_are_the_original_codes(
    recorded: dict[str, Any], records: list[Record], edits: list[Edit], smollm2: LanguageModel
) -> None:
    cases = score_cases(smollm2, records[: len(edits)], edits, "rome")
    got = np.concatenate([ours(case.post) for case in cases])
    expected = np.concatenate([nlls(case, "post") for case in recorded["cases"][: len(edits)]])
    assert np.abs(got - expected).mean() < 0.01
    same = (got[:, 0] < got[:, 1]) == (expected[:, 0] < expected[:, 1])
    assert same.mean() >= 0.99
