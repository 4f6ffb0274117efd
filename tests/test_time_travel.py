"""Prompts about years that are over: when they are asked, how English says them, and what an audit finds."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import updated_world as world
from planted import faults_of

from cfbuild.audit.evidence import AuditContext
from cfbuild.audit.findings import judge
from cfbuild.data import UNKNOWN, Fact, Record
from cfbuild.facts.dates import covers, misses, years_between
from cfbuild.facts.graph import FactGraph
from cfbuild.filter.context import RuleContext, Rules
from cfbuild.records.maker import RecordMaker
from cfbuild.store.codec import decode_record, encode_record
from cfbuild.store.schema.faults import Located
from cfbuild.text.languages import language

RULES = Rules(min_neighbors=5, min_pool=2)


@pytest.mark.parametrize(
    ("template", "past"),
    [
        ("The head of government of {} is", "In 2010, the head of government of {} was"),
        ("{} is headed by", "In 2010, {} was headed by"),
        ("{} lives in", "In 2010, {} lived in"),
        ("{} are in the country of", "In 2010, {} were in the country of"),
        ("The city that is the capital of {} is", "In 2010, the city that was the capital of {} was"),
        ("The city that serves as the capital of {} is", "In 2010, the city that served as the capital of {} was"),
        ("The lead singer of {} is", "In 2010, the lead singer of {} was"),
        ("The government of {} has its seat in", "In 2010, the government of {} had its seat in"),
        ("The country that {} belongs to is", "In 2010, the country that {} belonged to was"),
        ("The current capital of {} is", None),
        ("{} is now owned by", None),
        ("{} has been a member of", None),
        ("{} became a member of", None),
        ("{} was hired by", None),
        ("{} can be found in", None),
        ("The player that {} likes is", None),
        ("By law, the language of {} is", None),
        ("{}, who resides in", None),
    ],
)
def test_english_says_a_state_in_the_past(template: str, past: str | None) -> None:
    assert language("en").past(template, 2010) == past
    assert language("de").past(template, 2010) is None


@pytest.mark.parametrize(
    ("start", "end", "covered", "missed"),
    [
        ("2001", "2015", True, False),
        ("2001-05", "2010-12-31", False, False),
        ("2009-12-31", "2011-01-01", True, False),
        ("2010", "2015", False, False),
        ("200X", "2015", True, False),
        ("201X", "2025", False, False),
        (None, "2015", False, False),
        ("2001", None, False, False),
        ("2001", UNKNOWN, False, False),
        (UNKNOWN, "2015", False, False),
        ("2001", "2009", False, True),
        ("2011", None, False, True),
        (None, None, False, False),
    ],
)
def test_what_dates_tell_of_a_year(start: str | None, end: str | None, covered: bool, missed: bool) -> None:
    assert (covers(start, end, 2010), misses(start, end, 2010)) == (covered, missed)


def test_years_lie_between_dates() -> None:
    assert list(years_between("2001-05", "2005")) == [2002, 2003, 2004]
    assert not years_between("2001", None) and not years_between("200X", "2015") and not years_between("2001", "2002")
    assert not years_between("-0044", "2015")


@pytest.mark.parametrize(
    ("second", "held"),
    [
        (None, "Q2"),
        (Fact("P6", "Q1", "Q3", start="2015"), "Q2"),
        (Fact("P6", "Q1", "Q3", end="2009"), "Q2"),
        (Fact("P6", "Q1", "Q3", rank="deprecated"), "Q2"),
        (Fact("P6", "Q1", "Q2"), "Q2"),
        (Fact("P6", "Q1", "Q3"), None),
        (Fact("P6", "Q1", "Q3", start="2010-06"), None),
        (Fact("P6", "Q1", UNKNOWN, start="2010-06"), None),
        (Fact("P6", "Q1", "Q3", start="2001", end=UNKNOWN), None),
    ],
)
def test_who_held_alone_in_a_year(second: Fact | None, held: str | None) -> None:
    facts = [Fact("P6", "Q1", "Q2", start="2001", end="2015"), *([second] if second else [])]
    assert FactGraph(facts, []).held_in("Q1", "P6", 2010) == held


@pytest.fixture(scope="module")
def maker() -> RecordMaker:
    return RecordMaker(world.updated(), RULES)


@pytest.fixture(scope="module")
def records(maker: RecordMaker) -> dict[str, Record]:
    made = maker.make(relations=(world.LIVES,)).records
    return {one.subject.id: one for one in made}


def year_in(text: str) -> int:
    found = re.match(r"In (\d{4}), ", text)
    assert found
    return int(found[1])


def test_who_lived_elsewhere_is_asked_about_then(records: dict[str, Record]) -> None:
    record = records[world.person(world.MOVED)]
    (prompt,) = record.groups["time_travel"]
    assert 1991 <= year_in(prompt.text) <= 1999 and record.subject.label in prompt.text
    assert prompt.target_true.id == world.city(world.MOVED + 2) and prompt.target_new == record.target_new
    assert (prompt.entity, prompt.relation) == (record.subject.id, world.LIVES)
    assert decode_record(encode_record(record)) == record and faults_of(encode_record(record)) == []


def test_of_a_change_what_held_before_is_asked_about(records: dict[str, Record]) -> None:
    record = records[world.person(world.DATED)]
    (prompt,) = record.groups["time_travel"]
    assert 2002 <= year_in(prompt.text) <= 2024 and prompt.target_true == record.target_true
    changed = {one for one, record in records.items() if "time_travel" in record.groups}
    assert changed == {world.person(number) for number in (world.DATED, world.BOTH, world.MOVED)}


def test_who_may_have_shared_the_year_or_is_o_star_is_not_asked_about() -> None:
    shared = replace(world.former(), object=world.city(world.MOVED + 3), end=None, rank="normal", start=None)
    facts = (*world.newer(), replace(shared, end="1995"))
    record = RecordMaker(replace(world.updated(), facts=facts), RULES).make(relations=(world.LIVES,)).records
    (moved,) = [one for one in record if one.subject.id == world.person(world.MOVED)]
    (prompt,) = moved.groups["time_travel"]
    assert year_in(prompt.text) > 1995


Row = dict[str, Any]


def _entry(row: Row) -> Row:
    entry: Row = row["meta"]["groups"]["time_travel"][0]
    return entry


def _in_year(year: str) -> Callable[[Row], None]:
    def plant(row: Row) -> None:
        entry = _entry(row)
        entry["prompt"] = re.sub(r"In \d{4}, ", year, entry["prompt"])

    return plant


def _now(row: Row) -> None:
    _entry(row)["target_true"] = dict(row["requested_rewrite"]["target_true"])


@pytest.mark.parametrize("plant", [_in_year("In 2005, "), _in_year("In 1990, "), _in_year("Long ago, "), _now])
def test_an_answer_of_another_year_is_found(
    plant: Callable[[Row], None], maker: RecordMaker, records: dict[str, Record]
) -> None:
    context = AuditContext(rules=RuleContext(maker.graph, {}))

    def faults(row: Row) -> set[str]:
        return {fault.rule for fault in judge(Located(1, row), context).faults}

    row = copy.deepcopy(encode_record(records[world.person(world.MOVED)]))
    assert faults(row) == set()
    plant(row)
    assert faults(row) == {"past-answer"}
