"""The script that measures templates: which prompts it asks, what they cost, and which relations it holds out."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from small_world import item, write_build

from cfbuild.data import Entity, Fact
from cfbuild.lm.model import LanguageModel
from cfbuild.templates import builtin

ROOT = Path(__file__).resolve().parents[1]
PATTERNS = ("[X] has its capital, [Y].", "[Y] is governed from [X].", "[X] is led from [Y].")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import score_templates

    return score_templates


@pytest.fixture
def world(tmp_path: Path) -> tuple[Path, Path]:
    """Return a build of two relations, one of them with ParaRel's patterns, and the folder of these patterns."""
    entities = [item(1, "Netherlands"), item(2, "Peru"), item(3, "Lima"), item(4, "Amsterdam"), Entity("Q5")]
    facts = [Fact("P36", "Q1", "Q4"), Fact("P36", "Q2", "Q3"), Fact("P36", "Q5", "Q3"), Fact("P50", "Q1", "Q2")]
    patterns = tmp_path / "pararel"
    patterns.mkdir()
    (patterns / "P36.jsonl").write_text("".join(json.dumps({"pattern": one}) + "\n" for one in PATTERNS))
    return write_build(tmp_path / "build", facts, entities, ()), patterns


def nats(lm: LanguageModel, text: str) -> list[float]:
    """Return the cost of each token of a text after those before it; of the first nothing."""
    ids = torch.tensor([lm.encode(text)])
    with torch.no_grad():
        chances = lm.model(ids).logits[0].log_softmax(-1)
    return [0.0] + [-float(chances[place, token]) for place, token in enumerate(ids[0, 1:])]


def run(script: Any, monkeypatch: pytest.MonkeyPatch, world: tuple[Path, Path], *more: str) -> None:
    monkeypatch.setattr(script, "load", lambda name: tiny.make("gpt2"))
    arguments = ["score_templates.py", "--build", str(world[0]), "--pararel", str(world[1]), "--model", "x", *more]
    monkeypatch.setattr(sys, "argv", arguments)
    assert script.main() == 0


def test_prompts_and_what_they_cost(
    script: Any, world: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(script, monkeypatch, world, "--templates", "2", "--json")
    made = json.loads(capsys.readouterr().out)
    found = {(prompt["set"], prompt["prompt"], prompt["object"]) for prompt in made["prompts"]}
    ours = [one.text for one in builtin.templates("P36") if one.kind == "rewrite"][:2]
    assert found == {
        *(("cfbuild", text.replace("{}", "Peru"), "Lima") for text in ours),
        *(("cfbuild", text.replace("{}", "the Netherlands"), "Amsterdam") for text in ours),
        *(("pararel", text.replace("{}", "Peru"), "Lima") for text in ("{} has its capital,", "{} is led from")),
        *(("pararel", f"Netherlands {text}", "Amsterdam") for text in ("has its capital,", "is led from")),
    }
    lm = tiny.make("gpt2")
    for prompt in made["prompts"]:
        whole = nats(lm, f"{prompt['prompt']} {prompt['object']}")
        count = len(lm.encode(prompt["prompt"]))
        assert prompt["prompt_nats"] == pytest.approx(sum(whole[:count]) / count, abs=1e-4)
        assert prompt["object_nats"] == pytest.approx(sum(whole[count:]) / len(whole[count:]), abs=1e-4)
    mean = [
        sum(prompt["object_nats"] for prompt in made["prompts"] if prompt["set"] == name) / 4
        for name in ("cfbuild", "pararel")
    ]
    figures = made["relations"]["P36"]
    assert [figures[name]["object"] for name in ("cfbuild", "pararel")] == pytest.approx(mean)
    assert made["relations"].keys() == {"P36"} and made["overall"] == figures


def test_a_table_to_read(
    script: Any, world: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(script, monkeypatch, world)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("| relation | object: ours") and lines[-1].startswith("| mean of 1 |")
    assert lines[2].startswith("| P36 capital |") and len(lines) == 4


def test_chosen_relations_alone_are_asked_about(
    script: Any, world: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(script, monkeypatch, world, "--relations", "P36")
    assert capsys.readouterr().out.splitlines()[-1].startswith("| mean of 1 |")
    with pytest.raises(SystemExit, match="--relations P19: expected some of P36"):
        run(script, monkeypatch, world, "--relations", "P19")


def test_half_of_the_relations_is_held_out_always_the_same(script: Any) -> None:
    every = script.part_of(builtin.relations(), "all")
    aside, written = (script.part_of(builtin.relations(), part) for part in ("held-out", "written"))
    assert sorted([*aside, *written]) == sorted(every) and abs(len(aside) - len(written)) <= 1
    assert script.held_out(tuple(reversed(every))) == set(aside)
