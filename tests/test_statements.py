"""Ranks, dates, redirects and revisions from a real SPARQL endpoint over small graphs of our own."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from unittest import mock

import pytest
from servers import TIME_OUT, Proxy, oxigraph, reply
from small_world import rewrites

from cfbuild.data import UNKNOWN, Fact
from cfbuild.errors import ConfigError
from cfbuild.facts.graph import FactGraph
from cfbuild.filter.rules import RuleContext, judge_fact
from cfbuild.pipeline.fetch import FetchOptions, fetch
from cfbuild.sources import statements as module
from cfbuild.sources.http import Client
from cfbuild.sources.statements import _last
from cfbuild.store import codec, jsonl
from cfbuild.store.folder import BuildFolder
from cfbuild.store.schema import schema_faults

WD, P = "http://www.wikidata.org/entity/", "http://www.wikidata.org/prop/"
RANK, DATE = "http://wikiba.se/ontology#", "http://www.w3.org/2001/XMLSchema#dateTime"
CAPITALS = "P36"


def statement(number: int, subject: int, value: str, rank: str, truthy: bool = False, **dates: str) -> Iterator[str]:
    node = f"<{WD}statement/S{number}>"
    yield f"<{WD}Q{subject}> <{P}{CAPITALS}> {node} ."
    yield f"{node} <{P}statement/{CAPITALS}> {value} ."
    yield f"{node} <{RANK}rank> <{RANK}{rank}Rank> ."
    if truthy:
        yield f"<{WD}Q{subject}> <{P}direct/{CAPITALS}> {value} ."
    for name, dated in dates.items():
        date, _, precision = dated.partition("/")
        term = date if date.startswith("_:") else f'"{date}T00:00:00Z"^^<{DATE}>'
        yield f"{node} <{P}qualifier/{name.split('_')[0]}> {term} ."
        if precision:
            value = f"<{WD}value/V{number}{name}>"
            yield f"{node} <{P}qualifier/value/{name.split('_')[0]}> {value} ."
            yield f"{value} <{RANK}timeValue> {term} ."
            yield f'{value} <{RANK}timePrecision> "{precision}"^^<http://www.w3.org/2001/XMLSchema#integer> .'


def q(number: int) -> str:
    return f"<{WD}Q{number}>"


def triples() -> Iterator[str]:
    for number in range(1, 60):
        name = f"item {'ABCDEF'[number // 10]}{'abcdefghij'[number % 10]}"
        yield f'{q(number)} <http://www.w3.org/2000/01/rdf-schema#label> "{name}"@en .'
    yield from statement(1, 1, q(31), "Preferred", truthy=True, P580="1999-01-01")
    yield from statement(2, 1, q(32), "Normal", P580="1900-01-01", P582="1998-12-31")
    yield from statement(3, 1, q(33), "Deprecated")
    yield from statement(4, 2, q(34), "Normal", truthy=True, P582="-0044-03-15")
    yield from statement(5, 3, q(35), "Normal", truthy=True, P582="_:nobodyknows")
    yield from statement(6, 4, q(36), "Normal", truthy=True, P585="2001-05-06")
    yield from statement(7, 5, q(37), "Normal", truthy=True, P580_a="1950-01-01", P580_b="1940-01-01")
    yield from statement(8, 6, "_:some", "Normal", P580="2001-02-03")
    yield f"{q(6)} <{P}direct/{CAPITALS}> {q(38)} ."
    yield from statement(9, 7, q(58), "Normal", truthy=True)
    yield f"{q(58)} <http://www.w3.org/2002/07/owl#sameAs> {q(59)} ."
    yield f"{q(59)} <http://www.w3.org/2002/07/owl#sameAs> {q(39)} ."
    yield from statement(10, 8, q(40), "Normal", truthy=True, P582="2026-01-01/9", P580="1999-12-01/10")
    yield from statement(11, 9, q(41), "Normal", truthy=True, P582="2026-01-01/11", P580="1960-01-01/8")
    yield from statement(12, 10, q(42), "Normal", truthy=True, P582_a="_:nobody", P582_b="2999-06-05/11")
    yield from statement(13, 11, "<http://www.wikidata.org/.well-known/genid/77>", "Normal")
    yield from statement(14, 11, q(43), "Normal", truthy=True)
    yield f'{q(1)} <http://schema.org/version> "1234567"^^<http://www.w3.org/2001/XMLSchema#integer> .'


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with oxigraph(tmp_path_factory.mktemp("graph"), "\n".join(triples()) + "\n") as url:
        yield url


def fact(
    subject: int, value: int | None, rank: str | None = "normal", start: str | None = None, end: str | None = None
) -> Fact:
    return Fact(CAPITALS, f"Q{subject}", f"Q{value}" if value else UNKNOWN, rank, start, end, "wikidata")


def fetched(tmp_path: Path, endpoint: str, statements: bool) -> BuildFolder:
    folder = BuildFolder(tmp_path)
    options = FetchOptions(endpoint=endpoint, relations=(CAPITALS,), contact="tests@example.org", statements=statements)
    fetch(folder, options)
    return folder


def test_statements_come_with_rank_and_dates_and_redirects_are_resolved(tmp_path: Path, endpoint: str) -> None:
    folder = fetched(tmp_path, endpoint, True)
    facts = list(jsonl.read_values(folder.path("facts.jsonl"), codec.decode_fact))
    assert facts == [
        fact(1, 31, "preferred", "1999"),
        fact(1, 32, "normal", "1900", "1998-12-31"),
        fact(1, 33, "deprecated"),
        fact(2, 34, end="-0044-03-15"),
        fact(3, 35, end="unknown"),
        fact(4, 36, start="2001-05-06"),
        fact(5, 37, start="1940"),
        fact(6, None, start="2001-02-03"),
        fact(6, 38, None),
        fact(7, 39),
        fact(8, 40, start="1999-12", end="2026"),
        fact(9, 41, start="196X", end="2026-01-01"),
        fact(10, 42, end="2999-06-05"),
        fact(11, None),
        fact(11, 43),
    ]
    entities = {one.id: one for one in jsonl.read_values(folder.path("entities.jsonl"), codec.decode_entity)}
    assert entities["Q1"].revision == 1234567 and entities["Q2"].revision is None and "Q58" not in entities
    for name in ("facts", "entities"):
        assert [schema_faults(row, name) for _, row in jsonl.read_rows(folder.path(f"{name}.jsonl"))].count([]) > 8
        assert not any(schema_faults(row, name) for _, row in jsonl.read_rows(folder.path(f"{name}.jsonl")))
    graph = FactGraph(facts, entities.values(), today="2026-03-01")
    context = RuleContext(graph, {CAPITALS: rewrites(CAPITALS, ("{} is", "{} has", "{} sees"))})
    rules = {(one.subject, one.object): judge_fact(one, context).rule for one in graph.facts_of(CAPITALS)}
    assert rules["Q1", "Q31"] == rules["Q4", "Q36"] == rules["Q7", "Q39"] == "kept"
    assert rules["Q8", "Q40"] == rules["Q10", "Q42"] == "kept", "a year is over with its last day"
    assert rules["Q9", "Q41"] == "ended-fact"
    assert rules["Q6", "Q38"] == rules["Q11", "Q43"] == "several-objects", "an unknown value is another"
    assert (rules["Q1", "Q32"], rules["Q1", "Q33"]) == ("ended-fact", "deprecated-fact")
    assert rules["Q2", "Q34"] == rules["Q3", "Q35"] == "ended-fact"


def test_a_subject_is_asked_about_once_however_small_the_batches(
    tmp_path: Path, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fetched(tmp_path / "whole", endpoint, True).path("facts.jsonl").read_bytes()
    monkeypatch.setattr(module, "SUBJECTS", 1)
    assert fetched(tmp_path / "small", endpoint, True).path("facts.jsonl").read_bytes() == whole


def test_what_is_too_much_for_the_server_is_asked_in_halves(tmp_path: Path, endpoint: str) -> None:
    whole = fetched(tmp_path / "whole", endpoint, True).path("facts.jsonl").read_bytes()
    with (
        Proxy(endpoint) as proxy,
        mock.patch.dict(Client.__init__.__kwdefaults__, {"sleep": lambda seconds: None}),
    ):
        refusal = reply(TIME_OUT, status="429 Too Many Requests")
        counts = (b'"x":{', b'"s":{', b'"e":{')
        proxy.spoil = lambda body: refusal if max(map(body.count, counts)) > 4 else None
        assert fetched(tmp_path / "small", proxy.url, True).path("facts.jsonl").read_bytes() == whole


def test_without_statements_facts_are_the_truthy_ones(tmp_path: Path, endpoint: str) -> None:
    folder = fetched(tmp_path, endpoint, False)
    facts = list(jsonl.read_values(folder.path("facts.jsonl"), codec.decode_fact))
    assert [(one.subject, one.object) for one in facts][:2] == [("Q1", "Q31"), ("Q2", "Q34")]
    assert folder.manifest().today == datetime.now(timezone.utc).date().isoformat()
    assert {(one.rank, one.start, one.end) for one in facts} == {(None, None, None)}


def test_other_sources_have_no_statements(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no statements"):
        fetch(BuildFolder(tmp_path), FetchOptions(source="snapshot", statements=True))


def test_a_circle_of_redirects_ends() -> None:
    assert _last("Q1", {"Q1": "Q2", "Q2": "Q1"}) == "Q2"
