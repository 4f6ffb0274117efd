"""Dates as precise as they are known, what is over on a day, and the day that a build's facts hold for."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from small_world import item, templates, write_build
from typer.testing import CliRunner

from cfbuild.cli import app
from cfbuild.data import UNKNOWN, Fact
from cfbuild.errors import ConfigError
from cfbuild.facts.dates import ASSUMED_TODAY, is_over, is_to_come, of_precision
from cfbuild.facts.graph import FactGraph
from cfbuild.pipeline.generate import GenerateOptions, generate
from cfbuild.records.factset import read_facts
from cfbuild.store import jsonl
from cfbuild.store.folder import BuildFolder

DAY = "2026-03-01"


@pytest.mark.parametrize(
    ("end", "over"),
    [
        (None, False),
        ("2031-01-20", False),
        ("2026-03-02", False),
        ("2026-03-01", False),
        ("2026-02-28", True),
        ("2026-03", False),
        ("2026-02", True),
        ("2026", False),
        ("2025", True),
        ("202X", False),
        ("201X", True),
        ("20XX", False),
        ("-0044-03-15", True),
        ("-9999", True),
        ("12026", False),
        (UNKNOWN, True),
    ],
)
def test_an_end_is_over_when_its_last_day_is(end: str | None, over: bool) -> None:
    assert is_over(end, DAY) is over


@pytest.mark.parametrize(
    ("start", "later"),
    [(None, False), ("2027", True), ("2026", False), ("2026-03-02", True), ("2026-03-01", False), (UNKNOWN, False)],
)
def test_a_start_is_to_come_when_its_first_day_is(start: str | None, later: bool) -> None:
    assert is_to_come(start, DAY) is later


@pytest.mark.parametrize(
    ("day", "precision", "date"),
    [
        ("2026-01-01", 11, "2026-01-01"),
        ("2026-01-01", None, "2026"),
        ("2026-05-01", None, "2026-05-01"),
        ("2026-05-01", 10, "2026-05"),
        ("2026-05-01", 9, "2026"),
        ("2026-01-01", 8, "202X"),
        ("2001-01-01", 7, "20XX"),
        ("2000-01-01", 7, "19XX"),
        ("2001-01-01", 6, "2XXX"),
        ("2001-01-01", 3, UNKNOWN),
        ("-0044-01-01", 9, "-0044"),
        ("-0044-01-01", 7, UNKNOWN),
    ],
)
def test_a_date_is_as_precise_as_it_is_known(day: str, precision: int | None, date: str) -> None:
    assert of_precision(day, precision) == date


def office(subject: int, value: int, **dates: Any) -> Fact:
    return Fact("P551", f"Q{subject}", f"Q{value}", "normal", source="test", **dates)


FACTS = [
    *(office(number, 1 + number % 3) for number in range(100, 110)),
    office(110, 1, start="2023-01-20", end="2031-01-20"),
    office(111, 1, start="2023-01-20", end="2031-01-20"),
    office(111, 2, start="1990-01-01"),
    office(112, 1, end="2026-01-01"),
    office(113, 1, end="2025-06-30"),
    office(114, 1, start="2999-01-20"),
]
ENTITIES = [
    item(1, "Oslo"),
    item(2, "Lima"),
    item(3, "Quito"),
    *(item(number, f"Person {chr(number)}") for number in range(100, 115)),
]


@pytest.fixture
def folder(tmp_path: Path) -> BuildFolder:
    return BuildFolder(write_build(tmp_path / "build", FACTS, ENTITIES, templates("P551")))


def rules(folder: BuildFolder, **options: Any) -> dict[tuple[str, str], str]:
    generate(folder, GenerateOptions(prefixes="none", min_neighbors=0, restart=True, **options))
    rejected = [row for _, row in jsonl.read_rows(folder.path("rejected.jsonl"))]
    return {(row["subject_id"], row["object_id"]): row["rule"] for row in rejected}


def fetched(folder: BuildFolder, **counted: Any) -> None:
    folder.finish("fetch", {"statements": True}, {}, counted)


def test_a_term_that_ends_later_still_holds_and_competes_with_an_older_one(
    folder: BuildFolder, caplog: pytest.LogCaptureFixture
) -> None:
    expected = {
        ("Q111", "Q1"): "several-objects",
        ("Q111", "Q2"): "several-objects",
        ("Q113", "Q1"): "ended-fact",
        ("Q114", "Q1"): "future-fact",
    }
    assert rules(folder) == expected
    assert f"{ASSUMED_TODAY} is taken for today" in caplog.text and "a first of January for its year" in caplog.text


def test_the_day_is_that_of_the_fetch(folder: BuildFolder, caplog: pytest.LogCaptureFixture) -> None:
    fetched(folder, today="2040-01-01")
    assert {("Q110", "Q1"), ("Q112", "Q1")} <= rules(folder).keys() and ("Q111", "Q2") not in rules(folder)
    assert "is taken for today" not in caplog.text
    assert folder.manifest().entry("generate").config["day"] == "2040-01-01"
    fetched(folder, today="2026-03-01")
    assert rules(folder)["Q112", "Q1"] == "ended-fact", "a fetch that notes its day notes how precise dates are"
    assert ("Q110", "Q1") not in rules(folder)
    assert rules(folder, today="2031-01-21")["Q110", "Q1"] == "ended-fact"


def test_of_an_earlier_fetch_the_day_of_its_last_answer_is_taken_and_said(
    folder: BuildFolder, caplog: pytest.LogCaptureFixture
) -> None:
    fetched(folder, retrieved={"first": "2025-06-01T10:00:00+00:00", "last": "2025-06-02T10:00:00+00:00"})
    with caplog.at_level(logging.WARNING):
        assert ("Q113", "Q1") not in rules(folder)
    assert "2025-06-02 is taken for today" in caplog.text
    assert read_facts(folder.root).today == "2025-06-02"
    assert [fact.end for fact in read_facts(folder.root).facts if fact.subject == "Q112"] == ["2026"]


def test_facts_without_dates_need_no_day(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = BuildFolder(write_build(tmp_path, FACTS[:10], ENTITIES, templates("P551")))
    assert rules(folder) == {} and "is taken for" not in caplog.text
    assert folder.manifest().entry("generate").config["day"] is None


def test_a_text_that_is_no_day_is_refused_as_today(folder: BuildFolder) -> None:
    with pytest.raises(ConfigError, match="'tomorrow' is no day"):
        GenerateOptions(today="tomorrow")
    shown = CliRunner().invoke(app, ["generate", "--build", str(folder.root), "--no-filter", "--today", "2026-13-01"])
    assert isinstance(shown.exception, ConfigError) and "'2026-13-01' is no day" in str(shown.exception)


def test_an_audit_holds_a_file_against_the_same_day(folder: BuildFolder) -> None:
    generate(folder, GenerateOptions(prefixes="none", min_neighbors=0))
    for today, rule in ((None, None), ("2040-01-01", "ended-fact")):
        if today:
            fetched(folder, today=today)
        records = str(folder.path("records.jsonl"))
        shown = CliRunner().invoke(app, ["audit", records, "--build", str(folder.root), "--json", "--quiet"])
        found = json.loads(shown.stdout)["rules"]
        assert (rule in found) if rule else ("ended-fact" not in found), shown.output


def test_an_unknown_value_is_a_value_and_no_item() -> None:
    facts = [Fact("P19", "Q1", "Q2"), Fact("P19", "Q1", UNKNOWN), Fact("P19", "Q3", UNKNOWN)]
    graph = FactGraph(facts, [item(1, "Ann"), item(2, "Oslo")])
    assert [fact.object for fact in graph.facts_of("P19")] == ["Q2"] and graph.object_counts("P19") == {"Q2": 1}
    assert set(graph.current_values("Q1", "P19")) == {"Q2", UNKNOWN} and graph.values("Q3", "P19") == (UNKNOWN,)
    assert graph.attributes("Q3", "P19") == () and graph.subjects("P19", UNKNOWN) == ()
