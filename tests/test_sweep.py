"""ROME at other tokens, and sweeps over layers: points, resumption, the layer that they find, the command."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import scored_build
import tiny
import torch
from stopping import stopping
from typer.testing import CliRunner

from benchmarks import plain
from cfbuild.cli import app
from cfbuild.data import Request, Target
from cfbuild.edit import TOKENS, covariance, supplies
from cfbuild.edit.corpus import open_corpus
from cfbuild.edit.covariance import factorise, second_moments
from cfbuild.edit.presets import preset_settings
from cfbuild.edit.rome import Rome
from cfbuild.edit.rome.layout import encode_at
from cfbuild.edit.rome.options import RomeOptions
from cfbuild.errors import BuildStateError, ConfigError
from cfbuild.lm import likelihood
from cfbuild.lm.delta import Delta, LowRank
from cfbuild.lm.likelihood import ManyScores, Question, score, score_edited
from cfbuild.lm.model import LanguageModel
from cfbuild.pipeline.compare import CompareOptions, compare
from cfbuild.pipeline.sweep import SweepOptions, sweep
from cfbuild.pipeline.trace import TraceOptions, trace
from cfbuild.pipeline.validate_and_score import EvaluateOptions, evaluate
from cfbuild.score import sweeping
from cfbuild.score.metrics import Figure, aggregate
from cfbuild.score.swept import FoundLayer, Point, SweepReport, SweptRow, best_layer, layer_found
from cfbuild.store.codec import decode_case
from cfbuild.store.folder import BuildFolder
from cfbuild.store.jsonl import read_json, read_rows, read_values
from cfbuild.store.runs import CASES, finished_runs, new_run
from cfbuild.views.page.plots import sweep_plots

CONTEXTS = ("Rome lies in Italy. ", "She speaks English, German. ")
REQUESTS = (
    Request("The mother tongue of {} is", "Danielle Darrieux", "New Zealand English"),
    Request("{} lies in", "Rome", "Germany"),
    Request("Berlin lies in the country of {}", "Zoë Ürgüp", "Italy"),  # its letters are several tokens each
)


# ------------------------------------------------------------------------------------------- ROME at a token


def texts_until(lm: LanguageModel, ids: tuple[int, ...]) -> list[str]:
    """Return a row's text up to each of its tokens, the leading ones left out."""
    plain_ids = ids[len(lm.leading_ids) :]
    return [lm.tokenizer.decode(plain_ids[: end + 1]) for end in range(len(plain_ids))]


@pytest.mark.parametrize("adds_bos", [False, True])
@pytest.mark.parametrize("request_", REQUESTS)
def test_tokens_are_found_where_the_text_says(adds_bos: bool, request_: Request) -> None:
    lm = tiny.make("gpt2", adds_bos=adds_bos)
    for context in ("", *CONTEXTS):
        found = {}
        for token in TOKENS:
            ids, found[token] = encode_at(lm, token, request_.prompt, request_.subject, context)
            found[token] -= len(lm.leading_ids)
        texts = texts_until(lm, ids)
        before = context + request_.prompt.partition("{}")[0]
        # A token that ends within a letter decodes to a sign of replacement, so only whole letters are compared.
        first = next(
            i
            for i, text in enumerate(texts)
            if len(text.rstrip("\N{REPLACEMENT CHARACTER}")) > len(before)
            or (text.endswith("\N{REPLACEMENT CHARACTER}") and len(text) > len(before))
        )
        last = next(i for i, text in enumerate(texts) if text.startswith(before + request_.subject))
        end = len(texts) - 1
        expected = (first, last, min(last + 1, end), end)
        assert tuple(found.values()) == expected, (context, texts)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("token", TOKENS)
def test_rome_at_a_token_is_the_plain_way_at_that_token(family: str, token: str) -> None:
    """Key, value and the KL row's token follow the same rule: whole rows, whole passes, one record at a time."""
    lm = tiny.make(family)
    moments, _ = second_moments(lm, [1], [tiny.WORDS], 400)
    c = factorise(moments[1], "words")
    options_ = RomeOptions(1, CONTEXTS, steps=5, token=token, kl_factor=0.5, clamp_norm_factor=50, learning_rate=0.05)
    for request, edit in zip(REQUESTS, Rome(lm, options_, c).edit(REQUESTS), strict=True):
        base = scored_build.record(0, request.subject)
        record = replace(
            base, prompt=replace(base.prompt, text=request.prompt), target_new=Target("Q1", request.target_new)
        )
        expected = plain.edit(lm, record, options_, c).change
        assert edit.delta is not None
        found = edit.delta.only.matrix()
        assert float((found - expected).norm() / expected.norm()) < 2e-3, request


def test_tokens_make_different_edits_and_only_known_ones_are_taken() -> None:
    lm = tiny.make("llama")
    made = [Rome(lm, RomeOptions(1, CONTEXTS, steps=3, token=token)).edit(REQUESTS[:1])[0] for token in TOKENS]
    matrices = [edit.delta.only.matrix() for edit in made if edit.delta is not None]
    assert len(matrices) == len(TOKENS)
    for place, matrix in enumerate(matrices):
        assert all(not torch.allclose(matrix, other, atol=1e-4) for other in matrices[place + 1 :])
    usual = Rome(lm, RomeOptions(1, CONTEXTS, steps=3)).edit(REQUESTS[:1])[0]
    assert usual.delta is not None and torch.equal(usual.delta.only.matrix(), matrices[1])
    with pytest.raises(ConfigError, match="subject_last"):
        RomeOptions(1, token="middle")


@pytest.mark.parametrize("family", ["gpt2", "llama", "gptj"])
def test_scores_under_many_changes_are_those_of_whole_runs(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lm = tiny.make(family)
    texts = ("Rome lies in", "Rome lies in the country of", "She speaks English and", "Berlin lies in Germany, Rome")
    targets = tuple(map(lm.continuation, ("Italy", "New Zealand English", "Germany")))
    queries = [Question(lm.encode(text), targets) for text in texts]

    def nlls(found: Sequence[Sequence[likelihood.Likelihood]]) -> list[float]:
        return [one.nll_nats for some in found for one in some]

    many = ManyScores(lm, queries, (1, 3))
    assert nlls(many.before) == pytest.approx(nlls(score(lm, queries)), abs=1e-5)
    draw = torch.Generator().manual_seed(0)
    deltas: dict[int, Delta] = {}
    for layer in (1, 2, 3):  # below layer 2 the states of layer 1 are what is kept
        shape = lm.value_width(layer), lm.key_width(layer)
        values, keys = (torch.randn(1, width, generator=draw) for width in shape)
        deltas[layer] = Delta.of(layer, LowRank(keys, values))
    for given in ([deltas[1]] * 4, [deltas[3]] * 4, [deltas[2], None, deltas[3], deltas[2]], [None] * 4):
        expected = nlls(score_edited(lm, queries, given))
        assert nlls(many.under(given)) == pytest.approx(expected, abs=1e-5)
        assert given == [None] * 4 or expected != pytest.approx(nlls(many.before), abs=1e-3)

    def runs_out(work: Any, items: Sequence[int], room: Any) -> Any:
        return [*work(items[:1]), *work(items[1:])]

    monkeypatch.setattr(likelihood, "halving", runs_out)
    assert nlls(many.under([deltas[1]] * 4)) == pytest.approx(
        nlls(score_edited(lm, queries, [deltas[1]] * 4)), abs=1e-5
    )


# ----------------------------------------------------------------------------------------------------- sweeps

POSITIONS = ("subject_last", "last")


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return tiny.make("llama")


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder where contexts are kept, which take seconds to sample."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def folder(tmp_path: Path, shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> BuildFolder:
    monkeypatch.setenv("CFBUILD_CACHE", str(shared_cache))
    return scored_build.write_scored(tmp_path / "build", scored_build.records(8), scored=False)


def options(**given: Any) -> SweepOptions:
    shared: dict[str, Any] = {"layers": "1-2", "positions": POSITIONS, "limit": 3, "steps": 2, "covariance_tokens": 300}
    return SweepOptions(**{**shared, **given})


def files_of(folder: BuildFolder, name: str = "rome") -> dict[str, bytes]:
    home = folder.path(f"sweeps/{name}")
    return {path.name: path.read_bytes() for path in sorted(home.iterdir())}


def test_a_point_has_the_figures_that_validate_and_score_gives_there(folder: BuildFolder, lm: LanguageModel) -> None:
    before = tiny.digest(lm)
    report = sweep(folder, options(), lm)
    assert tiny.digest(lm) == before
    assert [(point.layer, point.series) for point in report.points] == [(a, b) for a in (1, 2) for b in POSITIONS]
    assert report.records == 3 and report.series == POSITIONS and report.layers == (1, 2)
    for point in report.points:
        # The same corpus for C: that of all the file's records.
        scoring = EvaluateOptions(
            run="one",
            layer=point.layer,
            steps=2,
            settings={"token": point.series},
            covariance_tokens=300,
            restart=True,
            skip_generation=True,
        )
        expected = evaluate(folder, scoring, lm)
        cases = list(read_values(new_run(folder, "one").path(CASES), decode_case))[:3]
        assert expected.cases == 8
        plainly = aggregate(cases, "post")
        for name in ("EM", "PM", "NM", "S"):
            assert point.figures[name].mean == pytest.approx(plainly[name].mean, abs=0.05), (point, name)
            assert report.before[name].mean == pytest.approx(aggregate(cases, "pre")[name].mean, abs=0.01)
    assert len({point.figures["EM"].mean for point in report.points}) == 4


def test_a_sweep_that_is_killed_anywhere_ends_with_the_same_bytes(
    folder: BuildFolder, lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "RECORDS_AT_ONCE", 2)  # two chunks: 2 + 1 records
    report = sweep(folder, options(), lm)
    whole = files_of(folder)
    assert {"points.jsonl", "report.json", "preset.json", "EM.svg", "PM.svg", "NM.svg", "S.svg"} == set(whole)
    assert whole["points.jsonl"].count(b"\n") == 3 * (1 + 4)
    assert sweep(folder, options(), lm) == report  # finished: read, not made again
    kept: list[int] = []
    cache = folder.root.parent / "cache"
    monkeypatch.setenv("CFBUILD_CACHE", str(cache))
    for task, at in (("covariance", 0), ("edits", 4), ("points", 5), ("edits", 12)):
        shutil.rmtree(cache / "covariance", ignore_errors=True)
        with pytest.raises(KeyboardInterrupt):
            sweep(folder, options(restart=True), lm, stopping(task, at))
        log = folder.path("progress/sweep/rome/rows.jsonl")
        kept.append(log.read_bytes().count(b'"values"') if log.exists() else 0)
        sweep(folder, options(), lm)
        assert files_of(folder) == whole, (task, at)
    assert kept == sorted(kept) and kept[-1] > kept[0], "what was finished was kept"
    with pytest.raises(BuildStateError, match="limit"):
        sweep(folder, options(limit=2), lm)


def test_nothing_is_made_for_each_point_that_they_share(
    folder: BuildFolder, lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C of all layers takes one pass over the texts; contexts and scores before the edit are made once."""
    counted: Counter[str] = Counter()

    def count(module: Any, name: str) -> None:
        function = getattr(module, name)

        def counting(*given: Any, **named: Any) -> Any:
            counted[name] += 1
            return function(*given, **named)

        monkeypatch.setattr(module, name, counting)

    cache = folder.root.parent / "cache"
    monkeypatch.setenv("CFBUILD_CACHE", str(cache))
    count(supplies, "sample_contexts")
    count(covariance, "second_moments")
    count(covariance, "projection_inputs")
    count(covariance, "_read")
    count(likelihood, "trace_packed")
    count(likelihood, "score_edited")
    sweep(folder, options(layers="all", covariance_tokens=300), lm)
    one_pass = counted["projection_inputs"]
    assert counted["sample_contexts"] == counted["second_moments"] == 1 and one_pass >= 1
    assert counted["trace_packed"] == 1 and not counted["score_edited"], "all prompts run from the bottom once"
    assert counted["_read"] == 4, "C of a layer is read for its first point, and shared by the others"
    shutil.rmtree(cache / "covariance")
    sweep(folder, options(layers="2", covariance_tokens=300, run="one"), lm)
    assert counted["projection_inputs"] == 2 * one_pass, "as many runs for one layer as for four"


def test_moments_that_do_not_fit_take_several_passes_with_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "corpus.txt").write_text(tiny.WORDS, encoding="utf-8")
    lm, corpus = tiny.make("gpt2"), open_corpus(str(tmp_path / "corpus.txt"))
    found = []
    seen: list[int] = []

    def note(task: str, done: int, total: int | None) -> None:
        seen.append(done)

    for name, limit in (("whole", covariance.MOMENT_BYTES), ("parts", 2 * 8 * lm.key_width(0) ** 2)):
        monkeypatch.setenv("CFBUILD_CACHE", str(tmp_path / name))
        monkeypatch.setattr(covariance, "MOMENT_BYTES", limit)
        covariance.gather_covariances(lm, range(4), corpus, 300, note)
        assert seen.count(0) == (1 if name == "whole" else 2)
        seen.clear()
        found.append(covariance.key_covariances(lm, [3], corpus, 300, note)[3])
        assert seen == [], "it is in the cache"
    assert found[0].factor is not None and found[1].factor is not None
    assert torch.equal(found[0].factor, found[1].factor)


def test_fine_tuning_by_layer_and_bound(folder: BuildFolder, lm: LanguageModel) -> None:
    given = options(editor="ft", eps=("1e-3", "none"), settings={"learning_rate": 0.05})
    report = sweep(folder, given, lm)
    assert report.series == (0.001, None) and len(report.points) == 4 and report.found is None
    bounded, free = (next(p for p in report.points if p.layer == 1 and p.series == series) for series in report.series)
    assert free.figures["EM"].mean > bounded.figures["EM"].mean, "a bound holds the edit back"
    assert "preset.json" not in files_of(folder, "ft")
    assert SweepReport.of_dict(read_json(folder.path("sweeps/ft/report.json"))) == report
    with pytest.raises(ConfigError, match="no sweep in"):
        evaluate(folder, EvaluateOptions(layer="auto"), lm)


def test_an_edit_that_fails_is_a_fault_of_its_point(
    folder: BuildFolder, lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(covariance, "RIDGES", ())  # no C can be solved with
    report = sweep(folder, options(), lm)
    rows = list(read_rows(folder.path("sweeps/rome/points.jsonl")))
    assert all(point.faults == 3 and not point.figures for point in report.points) and report.found is None
    assert {row.get("fault") for _, row in rows if row["layer"] is not None} == {
        "the covariance of the layer's keys is singular"
    }
    assert "preset.json" not in files_of(folder) and "S.svg" not in files_of(folder)
    # Nor does what an earlier sweep of the name found stay there.
    folder.path("sweeps/rome/preset.json").write_text("{}")
    sweep(folder, options(restart=True), lm)
    assert "preset.json" not in files_of(folder)


# ---------------------------------------------------------------------------------------------- the best layer


def rows_at(layer: int, scores: Sequence[float], fault: str | None = None) -> list[SweptRow]:
    """Rows whose PS are the scores: S follows from them, with ES and NS at 100."""
    return [
        SweptRow(number, "P36", layer, "subject_last", {"ES": 100, "PS": score, "NS": 100}, fault)
        for number, score in enumerate(scores)
    ]


def test_the_best_layer_is_in_the_middle_of_a_plateau_and_not_a_lucky_one() -> None:
    # Layer 6 has the highest S, but not on most records, and its neighbours are bad; 2 to 4 are all nearly as good.
    levels = {0: 20.0, 1: 60.0, 2: 90.0, 3: 90.0, 4: 90.0, 5: 60.0, 7: 20.0}
    rows = {layer: rows_at(layer, [level] * 20) for layer, level in levels.items()}
    rows[6] = rows_at(6, [97.0 if number % 2 else 85.0 for number in range(20)])
    assert best_layer(rows) == FoundLayer(3, (2, 3, 4, 6))


def test_a_clear_peak_is_the_best_layer_whatever_its_neighbours() -> None:
    rows = {layer: rows_at(layer, [30.0 + layer + i % 2 for i in range(20)]) for layer in range(5)}
    rows[1] = rows_at(1, [90.0 + i % 2 for i in range(20)])
    assert best_layer(rows) == FoundLayer(1, (1,))


def test_layers_where_more_edits_fail_do_not_count_and_of_equal_ones_the_lowest_is_taken() -> None:
    rows = {layer: rows_at(layer, [80.0] * 10) for layer in (4, 8, 12)}
    rows[2] = [*rows_at(2, [95.0] * 9), *rows_at(2, [95.0], "the edit is not finite")]
    assert best_layer(rows) == FoundLayer(4, (4, 8, 12))
    assert best_layer({}) is None and best_layer({1: [SweptRow(0, "P36", 1, "subject_last", {}, "fault")]}) is None


def test_layer_auto_is_the_layer_that_the_models_own_sweep_found(
    folder: BuildFolder, lm: LanguageModel, tmp_path: Path
) -> None:
    scoring = EvaluateOptions(layer="auto", limit=2, steps=2, covariance="none", skip_generation=True)
    with pytest.raises(ConfigError, match=r"cfbuild sweep --build .* --model tiny-llama"):
        evaluate(folder, scoring, lm)
    report = sweep(folder, options(covariance="none", layers="2-3"), lm)
    assert report.found is not None and report.found.layer in (2, 3), "not 1, which is the usual layer"
    kept = read_json(folder.path("sweeps/rome/preset.json"))
    assert kept["settings"] == {"layer": report.found.layer} and kept["revision"] == lm.revision
    assert evaluate(folder, scoring, lm).settings["layer"] == report.found.layer
    assert new_run(folder, "rome").record.config["layer"] == report.found.layer, "a number, so it can be run again"
    with pytest.raises(ConfigError, match="give ft a number"):
        evaluate(folder, replace(scoring, editor="ft"), lm)
    compared = CompareOptions(
        editors=("rome", "memit", "ft"), layer="auto", limit=2, steps=2, covariance="none", skip_generation=True
    )
    compare(folder, compared, lm)
    layers = {run.name: run.record.counted["signature"]["layer"] for run in finished_runs(folder)}
    usual = preset_settings("ft", None, len(lm.layers))["layer"]
    assert layers == {"rome": report.found.layer, "memit": report.found.layer, "ft": usual}

    # A sweep of more layers counts more; another model's does not count.
    wider = sweep(folder, options(covariance="none", layers="1-3", run="wider"), lm)
    assert wider.found is not None
    assert layer_found(folder, lm.name, lm.revision) == wider.found.layer
    second_model = tiny.make("llama", seed=5)
    with pytest.raises(ConfigError, match=r"sweeps/rome/preset.json: tiny-llama \(random-0-\w+\).*random-5"):
        evaluate(folder, replace(scoring, run="other"), second_model)
    folder.path("sweeps/wider/preset.json").write_text("{}")
    with pytest.raises(BuildStateError, match="changed since `cfbuild sweep --run wider`"):
        evaluate(folder, replace(scoring, run="again"), lm)


# ------------------------------------------------------------------------------------------------- the command


def test_the_command_from_end_to_end(folder: BuildFolder, lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cfbuild.cli.shared.OutputOptions.load_model", lambda *_: lm)
    monkeypatch.setattr("cfbuild.probe.tracer.answers_with", lambda *given: True)  # a random model knows nothing
    assert trace(folder, TraceOptions(limit=2, rows=2), lm).traced == 2
    words = [
        "sweep",
        "-b",
        str(folder.root),
        "--limit",
        "2",
        "--layers",
        "0,2-3",
        "--steps",
        "2",
        "--covariance",
        "none",
    ]
    shown = CliRunner().invoke(app, [*words, "--positions", "last,subject_last"])
    assert shown.exit_code == 0, shown.output
    assert "layer to edit" in shown.output and "subject_last" in shown.output and "points: 6 of 6" in shown.output
    as_json = CliRunner().invoke(app, [*words, "--positions", "last,subject_last", "--json", "-q"])
    printed = json.loads(as_json.stdout)
    assert [point["layer"] for point in printed["points"]] == [0, 0, 2, 2, 3, 3] and printed["setting"] == "token"
    assert "layers:0,2-3|token:last,subject_last" in printed["signature"]
    page = folder.path("report.html").read_text(encoding="utf-8")
    for name in ("EM", "PM", "NM", "S"):
        drawing = folder.path(f"sweeps/rome/{name}.svg").read_text(encoding="utf-8")
        assert ElementTree.fromstring(drawing).tag.endswith("svg") and drawing.count("<polygon") == 2
        assert f"<h3>{name} over the layers</h3>" in page
    assert page.count(">trace: ") == 4, "each plot has the MLPs' effects of the same model's trace"
    for bad, hint in (
        (["--layers", "9"], "layers 0 to 3"),
        (["--layers", "x"], "numbers and ranges"),
        (["--positions", "middle"], "subject_first_after_last"),
        (["--set", "layer=3"], "use --layers"),
        (["--editor", "memit"], "edits each record by itself"),
        (["--editor", "ft", "--eps", "much"], "expected a number or none"),
    ):
        refused = CliRunner().invoke(app, [*words, *bad])
        assert refused.exit_code and hint in str(refused.exception), (bad, refused.output)
    refused = CliRunner().invoke(app, ["compare", "-b", str(folder.root), "--layer", "middle"])
    assert "--layer middle: expected a number or auto" in str(refused.exception)


def test_a_trace_is_drawn_beside_a_sweep() -> None:
    figures = {name: Figure(50.0, 5.0, 3) for name in ("EM", "PM", "NM", "S")}
    points = tuple(Point(layer, "subject_last", figures) for layer in range(3))
    report = SweepReport({"model": "m", "editor": "rome"}, "token", 3, {"NM": Figure(-20.0, 3.0, 3)}, points)
    alone, traced = (sweep_plots(report, trace) for trace in ((), [(0, 0.01), (1, 0.08), (2, 0.02)]))
    assert [plot.title for plot in alone] == [f"{name} over the layers" for name in ("EM", "PM", "NM", "S")]
    assert "trace: 0.08 at layer 1" in traced[0].svg and "trace" not in alone[0].svg
    assert "Unedited (dotted): -20.0" in alone[2].caption
