"""compare: a run an editor, the table's marks, paired differences and costs, and the table in each format."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from scored_build import records, write_scored
from stopping import stopping
from typer.testing import CliRunner

from cfbuild.audit.validate import read_records
from cfbuild.cli import app
from cfbuild.data import CaseScore, PromptScore, Request, StageScore
from cfbuild.edit.editor import Context, Edit, EditorSpec
from cfbuild.errors import BuildStateError, ConfigError
from cfbuild.lm.delta import Delta, Dense
from cfbuild.lm.memory import PeakMemory
from cfbuild.lm.model import Ids, LanguageModel, Weight
from cfbuild.option import assemble, named_values
from cfbuild.pipeline.compare import CompareOptions, compare, run_options
from cfbuild.pipeline.report import report
from cfbuild.pipeline.validate_and_score import EvaluateOptions, evaluate
from cfbuild.progress import no_progress
from cfbuild.score import cases
from cfbuild.score.cost import Cost
from cfbuild.score.marks import BEST, FAILING, RULE, marks_of
from cfbuild.score.metrics import CaseValues, Figure, paired_differences
from cfbuild.score.run_report import Report
from cfbuild.score.table import ScoreTable
from cfbuild.score.typeset import as_latex, as_markdown
from cfbuild.store.folder import BuildFolder
from cfbuild.store.jsonl import read_rows

OPTIONS: dict[str, Any] = {"limit": 5, "covariance_tokens": 400, "steps": 2, "skip_generation": True, "layer": 1}


@dataclass(frozen=True)
class Nothing:
    layer: int = 1


class ZeroEditor:
    """An editor whose edits are zero."""

    def __init__(self, context: Context[Nothing]) -> None:
        self.lm, self.options = context.lm, context.options

    def edit(self, requests: Sequence[Request], done: Any = no_progress) -> list[Edit]:
        layer, shape = self.options.layer, self.lm.shape(Weight(self.options.layer))
        return [Edit((i,), Delta.of(layer, Dense(torch.zeros(shape)))) for i in range(len(requests))]


def _needs_training(context: Context[Nothing]) -> ZeroEditor:
    raise ConfigError("is not trained; run `cfbuild train-editor`")


ZERO = EditorSpec(Nothing, ZeroEditor)
UNTRAINED = EditorSpec(Nothing, _needs_training)


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return tiny.make("gpt2")


def test_each_editor_has_a_run_and_a_row_and_nothing_is_done_twice(folder: BuildFolder, lm: LanguageModel) -> None:
    options = CompareOptions(**OPTIONS, editors=("rome", "ft", "ike"), in_use=True)
    made = compare(folder, options, lm)
    assert [row.run for row in made.table.rows] == [None, "rome", "ft", "ike"]
    assert [bool(row.differences) for row in made.table.rows] == [False, False, True, True]
    assert all(row.cost and row.cost.records == 5 and row.cost.seconds > 0 for row in made.table.rows[1:])
    before = {path: path.stat().st_mtime_ns for path in folder.path("runs").rglob("*.json*")}
    assert compare(folder, options, lm).table == made.table
    assert {path: path.stat().st_mtime_ns for path in folder.path("runs").rglob("*.json*")} == before
    page = made.page.read_text(encoding="utf-8")
    assert 'data-row="ike"' in page and "Difference from rome, paired by record" in page


def test_two_runs_have_the_same_cases_and_report_though_not_the_same_seconds(
    folder: BuildFolder, lm: LanguageModel
) -> None:
    def files() -> dict[str, bytes]:
        return {name: folder.path(f"runs/ft/{name}").read_bytes() for name in ("cases.jsonl", "report.json")}

    options = {**OPTIONS, "editor": "ft"}
    evaluate(folder, EvaluateOptions(**options), lm)
    once, manifest = files(), folder.path("manifest.json").read_bytes()
    timing = folder.path("runs/ft/timing.json")
    assert json.loads(timing.read_text())["records"] == 5 and "timing" not in manifest.decode()
    timing.write_text(timing.read_text().replace('"seconds": ', '"seconds": 1'))
    folder.refuse_changed()
    evaluate(folder, EvaluateOptions(**options, restart=True), lm)
    assert files() == once and folder.path("manifest.json").read_bytes() == manifest


def test_seconds_are_kept_over_an_interruption(folder: BuildFolder, lm: LanguageModel) -> None:
    with pytest.raises(KeyboardInterrupt):
        evaluate(folder, EvaluateOptions(**{**OPTIONS, "editor": "ft"}), lm, stopping("records", 2))
    kept = {path.name: path.read_bytes() for path in folder.progress("validate-and-score/ft").glob("timing-*")}
    evaluate(folder, EvaluateOptions(**{**OPTIONS, "editor": "ft"}), lm)
    seconds = json.loads(folder.path("runs/ft/timing.json").read_text())["seconds"]
    assert kept and seconds >= round(sum(json.loads(one)["seconds"] for one in kept.values()), 3)


def test_editors_that_cannot_be_made_are_all_named_before_anything_runs(folder: BuildFolder, lm: LanguageModel) -> None:
    editors = ("ft", "test_compare:UNTRAINED", "rome")
    with pytest.raises(ConfigError) as raised:
        compare(folder, CompareOptions(**OPTIONS, editors=editors, settings={"rome.key_mode": 3}), lm)
    message = str(raised.value)
    assert "2 of 3 editors" in message and "UNTRAINED: is not trained" in message and "rome: key_mode" in message
    assert not folder.path("runs").exists() and not folder.path("progress/validate-and-score").exists()


def test_a_run_with_other_settings_is_refused_before_anything_runs(folder: BuildFolder, lm: LanguageModel) -> None:
    evaluate(folder, EvaluateOptions(**{**OPTIONS, "editor": "ike", "steps": None, "layer": None, "limit": 4}), lm)
    with pytest.raises(ConfigError, match=r"ike: .*limit: 4 then, 5 now"):
        compare(folder, CompareOptions(**OPTIONS, editors=("ft", "ike")), lm)
    assert not folder.path("runs/ft").exists()


def test_settings_go_to_their_editor_or_to_all_that_have_them() -> None:
    given = named_values(["ft-l.steps=7", "norm-constraint=0.001", "rome.kl-factor=0.5"])
    options = CompareOptions(editors=("rome", "ft", "ft-l", "ike"), steps=3, settings=given)
    rome, ft, bounded, ike = run_options(options)
    assert rome.editor_settings == {"steps": 3, "kl_factor": 0.5} and ft.editor_settings == {
        "steps": 3,
        "norm_constraint": 0.001,
    }
    assert bounded.editor_settings == {"steps": 7, "norm_constraint": 0.001} and ike.editor_settings == {}
    assert [one.name for one in (rome, ft, bounded, ike)] == ["rome", "ft", "ft-l", "ike"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"editors": ()}, "no editor"),
        ({"editors": ("rome", "rome")}, "twice"),
        ({"editors": ("rome", "magic")}, "'magic' does not exist"),
        ({"editors": ("rome",), "settings": {"ft.steps": 3}}, "'ft' is none of the editors"),
        ({"texts": 0}, "texts is 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CompareOptions(**given)


def test_a_setting_of_no_editor_is_refused() -> None:
    with pytest.raises(ConfigError, match="none of the editors ike has"):
        run_options(CompareOptions(editors=("ike",), settings={"nonsense": 3}))


def test_options_are_those_of_scoring_but_the_editor_and_the_run() -> None:
    shown = CliRunner().invoke(app, ["compare", "--help"], env={"COLUMNS": "200"}).output
    for flag in ("--editors", "--limit", "--texts", "--in-use", "--format", "--set", "--covariance", "--model"):
        assert flag in shown
    assert "--run " not in shown and "--editor " not in shown
    assert assemble(CompareOptions, {"editors": ("ft",), "limit": 3}).limit == 3


def test_texts_of_the_first_records_only(folder: BuildFolder, lm: LanguageModel) -> None:
    made = evaluate(folder, EvaluateOptions(**{**OPTIONS, "editor": "ft", "skip_generation": False, "texts": 3}), lm)
    rows = [row for _, row in read_rows(folder.path("runs/ft/cases.jsonl"))]
    assert [bool(row["pre"]["generations"]) for row in rows] == [True] * 3 + [False] * 2
    assert made.figures["post"]["GE"].cases == 3 and made.figures["post"]["ES"].cases == 5
    assert "first 3 records" in made.signature


def counted(monkeypatch: pytest.MonkeyPatch, name: str) -> list[int]:
    """Have the prompts of each call of a function of `cases` counted; return the growing list of counts."""
    function, counts = getattr(cases, name), []

    def count(lm: LanguageModel, prompts: Sequence[Ids], *rest: Any) -> Any:
        counts.append(len(prompts))
        return function(lm, prompts, *rest)

    monkeypatch.setattr(cases, name, count)
    return counts


def test_the_unedited_models_texts_are_written_once_for_all_runs(
    folder: BuildFolder, lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = counted(monkeypatch, "generate")
    monkeypatch.setattr(cases, "GENERATION_TOKENS", 20)
    options = {**OPTIONS, "limit": 2, "skip_generation": False}
    compare(folder, CompareOptions(**options, editors=("ft", "ike")), lm)
    texts = sum(len(record.generation) for record in read_records(folder.path("records.jsonl")).records[:2])
    assert written == [2 * texts, texts], "before any edit and after those of ft together, after those of ike"
    of_ft, of_ike = ([row for _, row in read_rows(folder.path(f"runs/{name}/cases.jsonl"))] for name in ("ft", "ike"))
    assert [case["pre"]["generations"] for case in of_ft] == [case["pre"]["generations"] for case in of_ike]
    compare(folder, CompareOptions(**options, editors=("ft",), seed=1, restart=True), lm)
    assert written == [2 * texts, texts, 2 * texts], "other draws, other texts"


def test_the_unedited_models_answers_are_written_once_for_all_runs(
    folder: BuildFolder, lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = counted(monkeypatch, "answer")
    compare(folder, CompareOptions(**{**OPTIONS, "limit": 2}, in_use=True, editors=("ft", "ike")), lm)
    prompts = 2 * (1 + len(read_records(folder.path("records.jsonl")).records[0].paraphrases))
    assert written == [prompts] * 3, "before any edit, after those of ft, after those of ike"
    of_ft, of_ike = ([row for _, row in read_rows(folder.path(f"runs/{name}/cases.jsonl"))] for name in ("ft", "ike"))
    assert [case["pre"]["rewrite_answers"] for case in of_ft] == [case["pre"]["rewrite_answers"] for case in of_ike]


# -------------------------------------------------------------------------------------------- edits that change nothing


def test_a_run_whose_edits_changed_nothing_says_so(
    folder: BuildFolder, lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cfbuild.cli.shared.OutputOptions.load_model", lambda *_: lm)
    editor = "test_compare:ZERO"
    words = ["validate-and-score", "--build", str(folder.root), "--editor", editor, "--skip-generation", "--limit", "4"]
    shown = CliRunner().invoke(app, words, catch_exceptions=False)
    remark = "No edit of test_compare-ZERO changed anything: the scores of all 4 records are what they were before."
    assert shown.exit_code == 0 and remark in shown.stderr
    assert json.loads(folder.path("runs/test_compare-ZERO/report.json").read_text())["unchanged"] == 4
    made = report(folder)
    assert remark in made.table.remarks and made.unchanged == (remark,)
    assert remark in made.page.read_text(encoding="utf-8")
    honest = evaluate(folder, EvaluateOptions(**{**OPTIONS, "editor": "ft"}), lm)
    assert honest.unchanged == 0 and "unchanged" not in honest.as_dict() and honest.remarks("ft") == []


# ----------------------------------------------------------------------------------------- paired differences and marks


def scored(case_id: int, editor: str, margins: tuple[float, float, float]) -> CaseScore:
    """Return a case of one prompt of each group; a margin: how much likelier o* is than the true object, in nats."""
    groups = ("rewrite", "paraphrase", "neighborhood")
    stage = StageScore({g: (PromptScore(3.0 - m, 3.0, m > 0, m < 0),) for g, m in zip(groups, margins, strict=True)})
    return CaseScore(case_id, "P36", editor, stage, stage)


def test_paired_differences_are_numpys_over_the_records_that_both_have() -> None:
    draw = np.random.default_rng(5)
    firsts = [scored(i, "a", tuple(draw.normal(1, 1, 3))) for i in range(40)]
    others = [scored(i, "b", tuple(draw.normal(0.5, 1, 3))) for i in range(10, 60)]
    others[3] = CaseScore(13, "P36", "b", others[3].pre, None, fault="no edit")
    figures = paired_differences(CaseValues.of(firsts), CaseValues.of(others))
    common = [i for i in range(10, 40) if i != 13]

    def margin(case: CaseScore, group: str, sign: int = 1) -> float:
        assert case.post is not None
        (answer,) = case.post.prompts[group]
        return 100 * sign * float(np.exp(-answer.target_new_nll) - np.exp(-answer.target_true_nll))

    old = {case.case_id: case for case in firsts}
    new = {case.case_id: case for case in others}
    for name, group, sign in (("EM", "rewrite", 1), ("PM", "paraphrase", 1), ("NM", "neighborhood", -1)):
        by_hand = np.array([margin(new[i], group, sign) - margin(old[i], group, sign) for i in common])
        assert figures[name].mean == pytest.approx(by_hand.mean())
        assert figures[name].half_width == pytest.approx(1.96 * by_hand.std() / np.sqrt(len(common)))
        assert figures[name].cases == len(common) == 29
    groups = (("rewrite", 1), ("paraphrase", 1), ("neighborhood", -1))
    harmonic = {}
    for side, of_side in (("old", old), ("new", new)):
        rates = [np.mean([100 * (margin(of_side[i], group, sign) > 0) for i in common]) for group, sign in groups]
        harmonic[side] = 3 / sum(1 / rate for rate in rates)
    assert figures["S"].mean == pytest.approx(harmonic["new"] - harmonic["old"]) and figures["S"].half_width > 0


def test_the_same_run_differs_from_itself_by_nothing() -> None:
    cases = CaseValues.of([scored(i, "a", (1.0, -1.0, -1.0)) for i in range(5)])
    assert {(one.mean, one.half_width) for one in paired_differences(cases, cases).values()} == {(0.0, 0.0)}


def figures(**means: float | tuple[float, float]) -> dict[str, Figure]:
    pairs = {name: given if isinstance(given, tuple) else (given, 1.0) for name, given in means.items()}
    return {name: Figure(mean, width, 100) for name, (mean, width) in pairs.items()}


def test_marks_of_rows_that_are_good_unspecific_narrow_and_idle() -> None:
    unedited = figures(ES=22.2, EM=-4.8, PS=24.7, PM=-5.0, NS=78.1, NM=5.0)
    rows = {
        "good": figures(ES=100.0, EM=97.9, PS=96.4, PM=62.7, NS=75.4, NM=4.2),
        "unspecific": figures(ES=100.0, EM=98.8, PS=87.9, PM=46.6, NS=40.4, NM=-6.2),
        "narrow": figures(ES=99.1, EM=91.5, PS=48.0, PM=28.9, NS=70.3, NM=3.5),
        "idle": figures(ES=28.7, EM=-3.4, PS=28.0, PM=-3.3, NS=77.9, NM=4.9),
    }
    marks = dict(zip(rows, marks_of(list(rows.values()), unedited), strict=True))
    assert {name for name, mark in marks["unspecific"].items() if mark == FAILING} == {"NS", "NM"}
    assert {name for name, mark in marks["narrow"].items() if mark == FAILING} == {"PS"}
    assert {name for name, mark in marks["idle"].items()} == {"ES", "EM", "PS", "PM"}  # and best in nothing
    assert marks["good"] == dict.fromkeys(("ES", "EM", "PS", "PM", "NS", "NM"), BEST)
    assert marks["unspecific"]["ES"] == marks["unspecific"]["EM"] == BEST and "PS" not in marks["unspecific"]


@pytest.mark.parametrize(
    ("mean", "unedited", "mark"),
    [((49.0, 1.5), 80.0, None), ((48.0, 1.5), 80.0, FAILING), ((20.0, 1.0), 30.0, None), ((20.0, 1.0), 49.5, FAILING)],
)
def test_neighbors_fail_by_the_whole_interval_and_only_if_the_edit_did_it(
    mean: tuple[float, float], unedited: float, mark: str | None
) -> None:
    (marks,) = marks_of([figures(ES=99.0, NS=mean)], figures(NS=unedited))
    assert marks.get("NS") == mark


def test_a_single_run_is_best_in_nothing_and_runs_tie_whose_intervals_meet() -> None:
    assert marks_of([figures(ES=99.0)], {}) == [{}]
    rows = [figures(ES=90.0, PS=(80.0, 2.0)), figures(ES=90.0, PS=(84.0, 2.0)), figures(ES=90.0, PS=(79.9, 2.0))]
    assert [row.get("PS") for row in marks_of(rows, {})] == [BEST, BEST, None]


# -------------------------------------------------------------------------------------------------------------- formats


def table() -> ScoreTable:
    draw = np.random.default_rng(1)
    runs = {
        "rome": [scored(i, "rome", (2.0, 1.0, -1.0)) for i in range(20)],
        "a_b%&#": [scored(i, "ft", (2.0, *draw.normal(0, 1, 1), 2.0)) for i in range(20)],
    }
    reports = {
        name: Report.of_cases(cases, {"model": "tiny_1", "editor": cases[0].editor}) for name, cases in runs.items()
    }
    costs = {"rome": Cost(20, 16, 50.0, 123_400_000, "cpu"), "a_b%&#": Cost(20, 20, 0.5, None, "cpu")}
    return ScoreTable.of(reports, costs, {name: CaseValues.of(cases) for name, cases in runs.items()})


def test_the_table_as_text_has_marks_costs_and_differences() -> None:
    lines = table().as_text().splitlines()
    assert lines[0].split()[-2:] == ["s/edit", "MB"] and lines[2].split()[-2:] == ["2.5", "123"]
    assert lines[3].split()[-1] == "0.025" and "0.0 ± 0.0!" in lines[3] and "100.0 ± 0.0*" in lines[2]
    assert "difference from rome, paired by record" in lines and RULE in lines
    assert any("Records in a call: rome 16, a_b%&# 20." in line for line in lines)


def test_the_table_as_markdown_is_whole_and_brings_no_markup_of_names() -> None:
    text = as_markdown(table())
    first = text.split("\n\n")[0].splitlines()
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in first}) == 1 and "a\\_b%&\\#" in text
    assert "**100.0 ± 0.0**\\*" in first[3] and "*0.0 ± 0.0*!" in first[4] and "| 2.5 | 123 |" in first[3]
    assert "Difference from rome, paired by record:" in text


def test_the_table_as_latex_is_whole(tmp_path: Path) -> None:
    text = as_latex(table())
    assert text.count("\\begin{tabular}") == text.count("\\end{tabular}") == text.count("\\toprule") >= 3
    assert text.count("{") == text.count("}") and "a\\_b\\%\\&\\#" in text and "\\mathbf{100.0}" in text
    assert "\\underline{0.0}" in text and "$" in text and text.count("$") % 2 == text.count("\\$") % 2 == 0
    for part in text.split("\\begin{tabular}")[1:]:
        columns = len(part[1 : part.index("}")])
        body = part[part.index("\\toprule") : part.index("\\bottomrule")]
        rows = [line for line in body.splitlines() if line.endswith("\\\\")]
        assert {len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows} == {columns}
    if shutil.which("pdflatex"):
        paper = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n%s\n\\end{document}\n"
        (tmp_path / "t.tex").write_text(paper % text)
        command = ["pdflatex", "-halt-on-error", "t.tex"]
        assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 0


def test_report_has_the_formats_and_the_order_of_its_runs(tmp_path: Path) -> None:
    folder = write_scored(tmp_path / "b", records(6), runs=("rome", "ft", "emmet"))

    def shown(*words: str) -> str:
        result = CliRunner().invoke(app, ["report", "-q", "--build", str(folder.root), *words], catch_exceptions=False)
        assert result.exit_code == 0
        return result.stdout

    assert shown("--format", "markdown", "--runs", "rome,emmet").splitlines()[4].startswith("| emmet")
    assert "\\toprule" in shown("--format", "latex")
    made = json.loads(shown("--json", "--runs", "rome,ft"))
    assert [row["run"] for row in made["rows"]] == [None, "rome", "ft"]
    assert made["rows"][1]["differences"] == {} and made["rows"][2]["differences"]["ES"]["cases"] == 6
    assert made["rows"][1]["marks"] and made["rows"][1]["cost"] is None
    with pytest.raises(BuildStateError, match="has no run kn; it has emmet, ft, rome"):
        report(folder, runs=["rome", "kn"])


# --------------------------------------------------------------------------------------------------------------- memory


def test_peak_memory_sees_what_was_taken_and_given_back() -> None:
    with PeakMemory(torch.device("cpu")) as peak:
        held = torch.ones(40_000_000)  # 160 MB
        held.mul_(2)
        del held
    if peak.rise_bytes is None:
        pytest.skip("this system does not tell a process's memory")
    assert 100e6 < peak.rise_bytes < 400e6
    with PeakMemory(torch.device("cpu")) as idle:
        pass
    assert idle.rise_bytes is not None and idle.rise_bytes < 50e6
