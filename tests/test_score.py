"""Metrics from numbers: against values computed by hand."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from typing import Any

import pytest

from cfbuild import __version__
from cfbuild.data import CaseScore, PromptScore, Reference, StageScore
from cfbuild.errors import DataError
from cfbuild.score.marks import RULE
from cfbuild.score.metrics import aggregate, case_values, means
from cfbuild.score.run_report import Report, signature_string
from cfbuild.score.table import ScoreTable, figure_text
from cfbuild.score.texts import ReferenceTexts, distinct_ngrams, ngram_entropy_bits
from cfbuild.store.codec import decode_case, encode_case


def prompt(new: float, true: float, new_argmax: bool = False, true_argmax: bool = False) -> PromptScore:
    return PromptScore(new, true, new_argmax, true_argmax)


def case(case_id: int, rewrite: PromptScore, paraphrases: list[PromptScore], neighbors: list[PromptScore]) -> CaseScore:
    groups = {"rewrite": (rewrite,), "paraphrase": tuple(paraphrases), "neighborhood": tuple(neighbors)}
    before = StageScore({name: tuple(prompt(9.0, 1.0) for _ in scores) for name, scores in groups.items()})
    return CaseScore(case_id, "P36", "rome", before, StageScore(groups))


CASES = [
    case(1, prompt(1.0, 2.0, True), [prompt(1.0, 2.0), prompt(2.0, 1.0)], [prompt(3.0, 1.0, False, True)] * 4),
    case(2, prompt(2.0, 1.0), [prompt(1.0, 2.0)] * 2, [prompt(3.0, 1.0)] * 3 + [prompt(1.0, 3.0)]),
]


def test_success_and_margin_are_means_over_prompts_then_cases() -> None:
    figures = aggregate(CASES, "post")
    assert figures["ES"].mean == 50 and figures["PS"].mean == 75 and figures["NS"].mean == 87.5
    margin = 100 * (math.exp(-1) - math.exp(-2))
    assert figures["EM"].mean == pytest.approx(0)
    assert figures["PM"].mean == pytest.approx(margin / 2)
    assert figures["NM"].mean == pytest.approx(100 * (math.exp(-1) - math.exp(-3)) * (1 + 0.5) / 2)
    assert figures["rewrite_exact"].mean == 50 and figures["neighborhood_exact"].mean == 50


def test_intervals_are_of_the_population_deviation_over_cases() -> None:
    figures = aggregate(CASES, "post")
    assert figures["ES"].half_width == pytest.approx(1.96 * 50 / math.sqrt(2))
    assert figures["NS"].half_width == pytest.approx(1.96 * 12.5 / math.sqrt(2))
    assert figures["S"].mean == pytest.approx(3 / (1 / 50 + 1 / 75 + 1 / 87.5))
    assert figures["S"].half_width > 0


def test_the_interval_of_s_is_the_bootstraps_and_comes_out_the_same_twice() -> None:
    """Resampled by hand over cases of 0 or 100: S of a draw follows from how many of each kind it holds."""
    wins, fails = prompt(1.0, 2.0), prompt(2.0, 1.0)
    scored = [case(i, wins if i % 4 else fails, [wins], [fails if i % 3 else wins]) for i in range(400)]
    figures = aggregate(scored, "post")
    draw = random.Random(1)
    samples = []
    for _ in range(2000):
        drawn = [scored[draw.randrange(400)] for _ in range(400)]
        es = sum(one.case_id % 4 != 0 for one in drawn) / 4
        ns = sum(one.case_id % 3 != 0 for one in drawn) / 4
        samples.append(3 / (1 / es + 1 / 100 + 1 / ns))
    samples.sort()
    assert figures["S"].half_width == pytest.approx((samples[1950] - samples[50]) / 2, rel=0.1)
    assert aggregate(scored, "post") == figures
    assert means(scored, "post") == pytest.approx({name: figure.mean for name, figure in figures.items()})


def test_a_score_that_is_zero_makes_s_zero() -> None:
    figures = aggregate(CASES, "pre")
    assert figures["ES"].mean == 0 and figures["NS"].mean == 100 and figures["S"].mean == 0


def test_equal_likelihoods_are_no_success_for_either_side() -> None:
    values = case_values([case(1, prompt(1.0, 1.0), [prompt(1.0, 1.0)], [prompt(1.0, 1.0)])], "post")
    assert values["ES"] == values["PS"] == values["NS"] == [0.0]


def test_cases_without_a_group_or_an_edit_do_not_count() -> None:
    bare = case(3, prompt(1.0, 2.0), [], [])
    faulty = CaseScore(4, "P36", "rome", CASES[0].pre, None, fault="the edit is not finite")
    figures = aggregate([*CASES, bare, faulty], "post")
    assert figures["ES"].cases == 3 and figures["PS"].cases == 2 and figures["S"].cases == 2
    assert "GE" not in figures
    prompts = {name: figures[name].prompts for name in ("ES", "PS", "NS", "neighborhood_exact", "S")}
    assert prompts == {"ES": 3, "PS": 4, "NS": 8, "neighborhood_exact": 8, "S": 0}
    report = Report.of_cases([*CASES, bare, faulty], {"model": "m"}).as_dict()
    assert report["faults"] == {"the edit is not finite": 1} and report["cases"] == 4
    assert report["by_relation"]["P36"]["cases"] == 4


def test_ngram_entropy_of_repetition_and_of_distinct_words() -> None:
    assert ngram_entropy_bits("no no no no no no") == pytest.approx(0)
    # Four distinct bigrams, three distinct trigrams, each once.
    assert ngram_entropy_bits("a b c d e") == pytest.approx((2 / 3 * 2 + 4 / 3 * math.log2(3)) / 2)
    assert ngram_entropy_bits("word") == 0
    assert ngram_entropy_bits("it's one") == ngram_entropy_bits("its one")


def test_reference_score_is_one_for_the_same_text_and_none_without_references() -> None:
    texts = ReferenceTexts(
        Reference("P36", target, "Q1", "name", text)
        for target, text in (("Q90", "Paris lies on the Seine"), ("Q90", "a city of light"), ("Q64", "Berlin is large"))
    )
    same = texts.similarity("P36", "Q90", ["Paris lies on the Seine a city of light"])
    assert same == pytest.approx(1)
    assert texts.similarity("P36", "Q64", ["Paris lies on the Seine"]) == 0
    assert texts.similarity("P36", "Q1", ["anything"]) is None
    assert ReferenceTexts([]).similarity("P36", "Q90", ["anything"]) is None


def test_cases_survive_their_rows() -> None:
    full = CaseScore(
        7,
        "P36",
        "rome",
        StageScore({"rewrite": (prompt(1.25, 2.5, True),)}, ("a text",), 1.5, None, 1.0),
        None,
        {"updates": 3, "loss": 0.5},
        "a reason",
    )
    assert decode_case(encode_case(full)) == full


def test_a_signature_names_every_setting_on_one_line() -> None:
    line = signature_string({"model": "a|b", "editor": {"layer": 4}, "rate": 0.5})
    assert line.endswith("model:a/b|editor:layer=4|rate:0.5") and line.startswith("cfbuild:")


FAULTY = CaseScore(4, "P19", "rome", CASES[0].pre, None, fault="the edit is not finite")


def report(cases: list[CaseScore] = CASES, **settings: object) -> Report:
    return Report.of_cases(cases, {"model": "m", "revision": "r1", "editor": "rome", **settings})


def test_a_report_is_the_file_it_is_written_as() -> None:
    whole = report([*CASES, FAULTY], layer=3)
    row = whole.as_dict()
    assert Report.of_dict(json.loads(json.dumps(row))) == whole
    assert list(row) == ["signature", "settings", "cases", "faults", "faulty", "figures", "by_relation"]
    assert row["signature"] == f"cfbuild:{__version__}|model:m|revision:r1|editor:rome|layer:3"
    assert row["faulty"] == {"the edit is not finite": [4]} and row["faults"] == {"the edit is not finite": 1}
    assert row["figures"]["post"]["PS"] == {"mean": 75.0, "half_width_95": 34.6482, "cases": 2, "prompts": 4}
    older = {name: value for name, value in row["figures"]["post"]["PS"].items() if name != "prompts"}
    read = Report.of_dict({**row, "figures": {**row["figures"], "post": {"PS": older}}})
    assert read.figures["post"]["PS"].mean == 75.0 and read.figures["post"]["PS"].prompts == 0
    assert list(row["by_relation"]) == ["P19", "P36"]
    assert row["by_relation"]["P36"]["cases"] == 2 and row["by_relation"]["P36"]["post"]["ES"] == 50.0
    assert row["by_relation"]["P19"] == {"cases": 1, "pre": row["by_relation"]["P36"]["pre"], "post": {}}


@pytest.mark.parametrize(
    "change",
    [
        {"figures": None},
        {"figures": {"pre": {}}},
        {"figures": {"pre": {"S": {"mean": "much", "half_width_95": 0, "cases": 1}}, "post": {}}},
        {"figures": {"pre": {"S": {"mean": 10**400, "half_width_95": 0, "cases": 1}}, "post": {}}},
        {"faults": {"why": [1]}},
        {"faulty": {"why": 1}},
        {"by_relation": []},
        {"settings": 3},
    ],
)
def test_what_is_no_report_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="not a report"):
        Report.of_dict({**report().as_dict(), **change})
    with pytest.raises(DataError, match="not a report"):
        Report.of_dict([])  # type: ignore[arg-type]


def test_each_models_unedited_row_is_above_its_runs() -> None:
    second_model = {"model": "n", "revision": None}
    table = ScoreTable.of(
        {"a": report(), "b": report(**second_model), "c": report(editor="ft"), "d": report(revision="r2")}
    )
    assert [(row.run, row.model, row.revision) for row in table.rows] == [
        *((None, "m", "r1"), ("a", "m", "r1"), ("c", "m", "r1")),
        *((None, "n", None), ("b", "n", None)),
        *((None, "m", "r2"), ("d", "m", "r2")),
    ]
    assert table.models == ("m (r1)", "n", "m (r2)") and table.heads == ("run", "editor", "model", "records")
    assert table.labels(table.rows[2]) == ("c", "ft", "m (r1)", "2")
    assert table.rows[0].figures == report().figures["pre"] and table.rows[0].signature is None
    assert table.rows[2].figures == report().figures["post"]


def test_the_unedited_row_is_of_the_run_that_says_most() -> None:
    text = replace(CASES[0], pre=replace(CASES[0].pre, generation_entropy=4.0))
    few = report(CASES[:1])
    table = ScoreTable.of({"few": few, "many": report(), "texts": report([text, CASES[1]])})
    assert table.rows[0].records == 2 and table.rows[0].figures["GE"].mean == 400


def test_the_table_has_the_columns_that_any_run_has_and_says_what_differs() -> None:
    table = ScoreTable.of({"rome": report([*CASES, FAULTY], records="3@a"), "ft": report(editor="ft", records="2@b")})
    assert table.sections == (
        ("S", "ES", "EM", "PS", "PM", "NS", "NM"),
        ("rewrite_exact", "paraphrase_exact", "neighborhood_exact"),
    )
    assert table.heads == ("run", "records", "no edit")
    assert [row.without_edit for row in table.rows] == [0, 1, 0]
    assert table.remarks == (
        "The runs do not have the same records (number@digest of the file): rome 3@a, ft 2@b.",
        "NS is over 12 neighborhood prompts of 3 records (unedited).",
        "NS is over 8 neighborhood prompts of 2 records (rome, ft).",
        RULE,
        "2 records are few for intervals of 1.96 standard errors: by Student's t a mean's interval, or a paired "
        "difference's, is 9.2 times as wide.",
    )
    lines = table.as_text().splitlines()
    assert lines[0].split() == ["run", "records", "no", "edit", "S", "ES", "EM", "PS", "PM", "NS", "NM"]
    shown = figure_text(report().figures["post"]["S"])
    assert lines[3].replace("*", " ").split()[:5] == ["ft", "2", *shown.split()] and lines[-1] == table.remarks[-1]
    assert ScoreTable.of({"rome": report(dtype="float32"), "ft": report(dtype="bfloat16")}).remarks == (
        "The runs do not have the same number format: rome float32, ft bfloat16.",
        "NS is over 8 neighborhood prompts of 2 records.",
        RULE,
        "2 records are few for intervals of 1.96 standard errors: by Student's t a mean's interval, or a paired "
        "difference's, is 9.2 times as wide.",
    )


@pytest.mark.parametrize(("records", "wider"), [(1, None), (3, "2.7"), (10, "1.2"), (16, "1.1"), (17, None)])
def test_an_interval_over_few_records_says_how_much_wider_it_should_be(records: int, wider: str | None) -> None:
    cases = [replace(CASES[0], case_id=number) for number in range(records)]
    remarks = ScoreTable.of({"rome": Report.of_cases(cases, {"model": "m"})}).remarks
    found = [remark for remark in remarks if "Student's t" in remark]
    assert found == [] if wider is None else f"is {wider} times as wide" in found[0] and str(records) in found[0]


def test_a_table_without_runs_is_empty() -> None:
    assert ScoreTable.of({}).as_dict() == {"columns": [], "rows": [], "remarks": []}
    assert ScoreTable.of({}).as_text() == ""


def test_distinct_n_is_distinct_n_grams_of_all_texts_for_each_word() -> None:
    texts = ["I do not know .", "I do not know what you mean ."]
    # 13 words, of which I, do, not, know, the full stop, what, you, mean are distinct; pairs do not join two texts.
    assert distinct_ngrams(texts, 1) == 8 / 13
    assert distinct_ngrams(texts, 2) == 8 / 13  # 4 of the first text and 4 new ones of the second
    assert distinct_ngrams(["a a a a"], 1) == 1 / 4 and distinct_ngrams(["a a a a"], 2) == 1 / 4
    assert distinct_ngrams(["", " "], 1) is None and distinct_ngrams([], 2) is None


def test_perplexity_is_not_times_100_and_the_lowest_is_the_best() -> None:
    def scored(after: float) -> list[CaseScore]:
        return [
            replace(
                scored,
                pre=replace(scored.pre, perplexity=20.0),
                post=replace(scored.post, perplexity=after + scored.case_id),
            )
            for scored in CASES
            if scored.post is not None
        ]

    reports = {name: Report.of_cases(scored(after), {"model": "m"}) for name, after in (("ft", 50.0), ("rome", 21.0))}
    assert reports["rome"].figures["pre"]["perplexity"].mean == 20 == reports["ft"].figures["pre"]["perplexity"].mean
    table = ScoreTable.of(reports)
    marks = {row.run: row.marks.get("perplexity") for row in table.rows}
    assert (
        marks == {None: None, "ft": None, "rome": "best"} and reports["ft"].figures["post"]["perplexity"].mean == 51.5
    )
    assert [remark for remark in table.remarks if remark.startswith("perplexity is a fixed text's")]
    plain = ScoreTable.of({"rome": Report.of_cases(CASES, {"model": "m"})})
    assert "perplexity" not in plain.columns and not [one for one in plain.remarks if "perplexity" in one]
