"""Reference texts from Wikipedia: whose leads are taken, how the API is asked, and that no fault becomes a text."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mediawiki import CUT, Answer, MediaWiki, Page, Wiki
from servers import oxigraph

from cfbuild.data import Fact, Reference
from cfbuild.errors import BuildStateError, ConfigError, SourceError
from cfbuild.pipeline.fetch import FetchOptions, fetch
from cfbuild.pipeline.generate import GenerateOptions, generate
from cfbuild.sources.http import Client
from cfbuild.sources.journal import Journal, JournaledClient
from cfbuild.sources.source import SourceTally
from cfbuild.sources.wikipedia import Article, Wikipedia, api_url, candidates
from cfbuild.store.codec import decode_reference
from cfbuild.store.folder import BuildFolder
from cfbuild.store.jsonl import read_rows, read_values
from cfbuild.store.schema import schema_faults

WD = "http://www.wikidata.org/entity/"
WDT = "http://www.wikidata.org/prop/direct/"
LABEL = "http://www.w3.org/2000/01/rdf-schema#label"
ABOUT = "http://schema.org/about"
PART, NAME = "http://schema.org/isPartOf", "http://schema.org/name"


def person(number: int) -> str:
    return f"Person {number}"


def article(number: int, title: str, language: str = "en") -> list[str]:
    page = f"<https://{language}.wikipedia.org/wiki/{title.replace(' ', '_')}>"
    return [
        f"{page} <{ABOUT}> <{WD}Q{number}> .",
        f"{page} <{PART}> <https://{language}.wikipedia.org/> .",
        f'{page} <{NAME}> "{title}"@{language} .',
    ]


PEOPLE = range(1, 61)
TRIPLES = [
    *(f"<{WD}Q{n}> <{WDT}P19> <{WD}Q{101 + n % 3}> ." for n in PEOPLE),
    *(f'<{WD}Q{n}> <{LABEL}> "{person(n)}"@en .' for n in PEOPLE),
    *(f'<{WD}Q{101 + n}> <{LABEL}> "{name}"@en .' for n, name in enumerate(("Oslo", "Lima", "Cairo"))),
    *(line for n in PEOPLE if n % 10 for line in article(n, person(n))),
    *article(10, "Personne 10", "fr"),
]


def wiki(**settings: Any) -> Wiki:
    pages = [Page(person(n), f"{person(n)} is a person. They were born.", f"Q{n}", revision=900 + n) for n in PEOPLE]
    return Wiki({page.title: page for page in pages}, **settings)


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with oxigraph(tmp_path_factory.mktemp("graph"), "\n".join(TRIPLES)) as url:
        yield url


def options(endpoint: str, served: MediaWiki, **settings: Any) -> FetchOptions:
    given = {"references": True, "references_per_object": 4, "relations": ("P19",), "attempts": 1, **settings}
    return FetchOptions(endpoint=endpoint, wikipedia=served.url, contact="me@example.org", **given)


def texts(folder: BuildFolder) -> list[Reference]:
    return list(read_values(folder.path("references.jsonl"), decode_reference))


def files(folder: BuildFolder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.root.glob("*.jsonl")}


def test_leads_of_subjects_are_kept_with_revision_url_and_licence(tmp_path: Path, endpoint: str) -> None:
    source = wiki()
    with MediaWiki(source) as served:
        summary = fetch(folder := BuildFolder(tmp_path), options(endpoint, served))
    found = texts(folder)
    assert summary.references == len(found) == 12 and {article.relation for article in found} == {"P19"}
    facts = {(row["subject_id"], row["object_id"]) for _, row in read_rows(folder.path("facts.jsonl"))}
    assert all((article.entity, article.object) in facts for article in found)
    article = found[0]
    number = int(article.entity[1:])
    assert article.text == f"{person(number)} is a person. They were born." and article.name == article.title == person(
        number
    )
    assert (article.revision, article.licence) == (900 + number, "CC-BY-SA-4.0")
    assert article.url == f"https://wiki.example/Person_{number}"
    assert all(schema_faults(row, "references") == [] for _, row in read_rows(folder.path("references.jsonl")))
    assert not {10, 20, 30, 40, 50, 60} & {int(article.entity[1:]) for article in found}, (
        "these have no article in English"
    )
    assert len(source.log) == 1 and len(source.log[0]["titles"].split("|")) == 12
    assert [agent.split(" ")[1] for agent in source.agents] == ["(me@example.org)"]
    entry = folder.manifest().entry("fetch").as_dict()
    assert entry["references"] == entry["files"]["references.jsonl"]["rows"] == 12


def test_generate_takes_them_as_the_records_reference_texts(tmp_path: Path, endpoint: str) -> None:
    with MediaWiki(wiki()) as served:
        fetch(folder := BuildFolder(tmp_path), options(endpoint, served))
    before = files(folder)["references.jsonl"]
    generate(folder, GenerateOptions())
    assert files(folder)["references.jsonl"] == before
    assert "references.jsonl" not in folder.manifest().entry("generate").files


def test_a_finished_fetch_asks_nothing_and_an_interrupted_one_ends_with_the_same_bytes(
    tmp_path: Path, endpoint: str
) -> None:
    source = wiki(extracts=3)
    with MediaWiki(source) as served:
        fetched = options(endpoint, served, references_per_object=15)
        fetch(whole := BuildFolder(tmp_path / "whole"), fetched)
        count = len(source.log)
        assert count > 6 and fetch(whole, fetched).unchanged and len(source.log) == count
        whole.path("references.jsonl").unlink()
        assert fetch(whole, fetched).sent == 0 and len(source.log) == count
        source.log.clear()
        broken = BuildFolder(tmp_path / "broken")
        for stop in range(1, count, 2):
            source.plan = lambda number, stop=stop: (500, {}, b"") if number > stop else None
            with pytest.raises(SourceError, match="run the same command again"):
                fetch(broken, fetched)
            assert not broken.path("references.jsonl").exists()
            source.log[stop:] = []
        source.plan = lambda number: None
        fetch(broken, fetched)
        assert len(source.log) == count, "nothing was asked twice"
        assert files(broken) == files(whole)


def test_other_settings_are_another_build(tmp_path: Path, endpoint: str) -> None:
    with MediaWiki(wiki()) as served:
        fetch(folder := BuildFolder(tmp_path), options(endpoint, served))
        with pytest.raises(BuildStateError, match="references: 4 then, 5 now"):
            fetch(folder, options(endpoint, served, references_per_object=5))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"references_per_object": 0}, "at least 1"),
        ({"source": "snapshot", "endpoint": None}, "cannot tell which articles"),
        ({"contact": None, "wikipedia": None}, "--contact"),
        ({"wikipedia": "ftp://x/api"}, "http or https"),
    ],
)
def test_options_that_make_no_sense(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], message: str
) -> None:
    monkeypatch.delenv("CFBUILD_CONTACT", raising=False)
    base = FetchOptions(endpoint="http://127.0.0.1:9/query", references=True, contact="me@example.org")
    with pytest.raises(ConfigError, match=message):
        fetch(BuildFolder(tmp_path / "b"), dataclasses.replace(base, **settings))


class Sleeps(list[float]):
    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def leads(
    path: Path, source: Wiki, expected: dict[str, str], attempts: int = 3
) -> tuple[list[Article], SourceTally, Sleeps, int]:
    """Return the texts by title, the items left out, the seconds slept, and how many answers were stored."""
    sleeps, tally = Sleeps(), SourceTally()
    client = Client("me@example.org", timeout_s=5, attempts=attempts, sleep=sleeps)
    with MediaWiki(source) as served, client, Journal(path / "journal") as journal:
        try:
            found = list(Wikipedia(served.url, JournaledClient(client, journal), tally).articles(expected))
        finally:
            stored = len(journal._entries)
    return found, tally, sleeps, stored


def some(*numbers: int) -> dict[str, str]:
    return {f"Q{n}": person(n) for n in numbers}


def test_batches_of_twenty_and_the_introductions_in_as_many_answers_as_it_takes(tmp_path: Path) -> None:
    source = wiki(extracts=7)
    found, tally, _, stored = leads(tmp_path, source, some(*PEOPLE))
    assert {one.entity: one.text for one in found} == {f"Q{n}": wiki().pages[person(n)].extract for n in PEOPLE}
    assert len({one["titles"] for one in source.log}) == 3 and len(source.log) == 9 == stored
    assert [one.get("excontinue") for one in source.log[:3]] == [None, "7", "14"]
    assert not tally.left_out


def test_long_titles_make_short_batches(tmp_path: Path) -> None:
    long = {f"Q{n}": f"{'Ж' * 100} {n}" for n in range(1, 31)}
    source = Wiki({title: Page(title, "Text.", item) for item, title in long.items()})
    assert len(leads(tmp_path, source, long)[0]) == 30
    assert max(len(one["titles"].split("|")) for one in source.log) < 10


PAGES: dict[str, tuple[dict[str, Any], str | None]] = {
    "a redirect to the article about the item": ({"redirects": {"Old": ("Person 1", "")}}, None),
    "a redirect to an article about another item": ({"redirects": {"Old": ("Person 2", "")}}, "about another item"),
    "a redirect to a section": ({"redirects": {"Old": ("Person 1", "Youth")}}, "about another item"),
    "a missing page": ({}, "is missing"),
    "a page that tells namesakes apart": ({"page": Page("Old", "X may be:", "Q1", True)}, "tells namesakes apart"),
    "a page without a lead": ({"page": Page("Old", " \n", "Q1")}, "has no lead"),
    "a page about another item": ({"page": Page("Old", "Text.", "Q7")}, "about another item"),
    "a page that no item is known of": ({"page": Page("Old", "Text.")}, None),
    "a title that is written otherwise": ({"page": Page("Old", "Text.", "Q1"), "title": "old"}, None),
}


@pytest.mark.parametrize(("changes", "reason"), PAGES.values(), ids=PAGES)
def test_which_pages_are_texts_about_the_item(tmp_path: Path, changes: dict[str, Any], reason: str | None) -> None:
    source = wiki(redirects=changes.get("redirects", {}))
    if "page" in changes:
        source.pages["Old"] = changes["page"]
    found, tally, _, _ = leads(tmp_path, source, {"Q1": changes.get("title", "Old"), "Q3": person(3)})
    assert sorted(one.entity for one in found) == (["Q1"] if reason is None else []) + ["Q3"]
    assert sum(tally.left_out.values()) == (reason is not None) and (reason or "") in "".join(tally.left_out)


MAXLAG = {"error": {"code": "maxlag", "info": "Waiting for db: 7.2 seconds lagged.", "lag": 7.2}, "servedby": "x"}
GOOD = json.dumps({"batchcomplete": True, "query": {"pages": [{"ns": 0, "title": "Person 1", "missing": True}]}})
FAULTS: dict[str, tuple[Answer, float]] = {
    "429 with Retry-After": ((429, {"Retry-After": "9"}, b""), 9),
    "maxlag, status 200": ((200, {"Retry-After": "5"}, json.dumps(MAXLAG).encode()), 5),
    "maxlag without Retry-After": ((200, {}, json.dumps(MAXLAG).encode()), 2),
    "503": ((503, {}, b"busy"), 2),
    "another error": ((200, {}, b'{"error":{"code":"internal_api_error","info":"oops"}}'), 2),
    "truncated JSON": ((200, {}, GOOD.encode()[:-9]), 2),
    "a cut connection": ((CUT, {}, GOOD.encode()), 2),
    "neither complete nor going on": ((200, {}, GOOD.replace("true,", "false,", 1).encode()), 2),
    "HTML": ((200, {"Content-Type": "text/html"}, b"<html>"), 2),
    "an empty answer": ((200, {}, b""), 2),
    "no query": ((200, {}, b'{"batchcomplete":true}'), 2),
    "pages that are none": ((200, {}, b'{"batchcomplete":true,"query":{"pages":[7]}}'), 2),
    "a page without its number": ((200, {}, GOOD.replace("missing", "m").encode()), 2),
    "half a character": ((200, {}, GOOD.replace('"m', '"extract":"\\ud83d","m').encode()), 2),
}


@pytest.mark.parametrize(("fault", "wait_s"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_waited_out_and_never_stored(tmp_path: Path, fault: Answer, wait_s: float) -> None:
    once = wiki(plan=lambda number: (fault[0], dict(fault[1]), fault[2]) if number == 1 else None)
    found, _, sleeps, stored = leads(tmp_path / "once", once, some(1))
    assert [one.text for one in found] == [wiki().pages[person(1)].extract] and sleeps == [wait_s] and stored == 1
    always = wiki(plan=lambda number: (fault[0], dict(fault[1]), fault[2]))
    with pytest.raises(SourceError, match="asked 2 times"):
        leads(tmp_path / "always", always, some(1), attempts=2)
    with Journal(tmp_path / "always" / "journal") as journal:
        assert len(journal._entries) == 0 and len(always.log) == 2


def test_titles_that_are_too_many_for_the_server_are_asked_for_in_halves(tmp_path: Path) -> None:
    source = wiki(extracts=3)
    source.plan = lambda number: (504, {}, b"Gateway Time-out") if source.log[-1]["titles"].count("|") > 5 else None
    found, _, _, _ = leads(tmp_path, source, some(*PEOPLE))
    assert {one.entity: one.text for one in found} == {f"Q{n}": wiki().pages[person(n)].extract for n in PEOPLE}


def test_a_server_that_forgets_a_page_or_runs_in_circles_is_an_error(tmp_path: Path) -> None:
    renamed = GOOD.replace("Person 1", "Person 9").encode()
    with pytest.raises(SourceError, match="left 'Person 1' out of its answer"):
        leads(tmp_path / "a", wiki(plan=lambda number: (200, {}, renamed)), some(1))
    circle = json.dumps({"continue": {"excontinue": 1}, "query": {"pages": []}}).encode()
    with pytest.raises(SourceError, match="did not come to an end"):
        leads(tmp_path / "b", wiki(plan=lambda number: (200, {}, circle)), some(1))


def test_candidates_hold_the_object_now_and_are_drawn_by_the_seed() -> None:
    facts = [Fact("P19", f"Q{n}", "Q500", end="1999" if n > 50 else None) for n in range(1, 90)]
    facts.append(Fact("P19", "Q99", "Q500", rank="deprecated"))
    chosen = candidates(facts, 5, 0)["P19", "Q500"]
    assert len(set(chosen)) == 15 and max(int(one[1:]) for one in chosen) <= 50
    assert chosen == candidates(list(reversed(facts)), 5, 0)["P19", "Q500"] != candidates(facts, 5, 1)["P19", "Q500"]


@pytest.mark.parametrize(("language", "host"), [("en", "en"), ("fr", "fr"), ("nb", "no"), ("pt-br", "pt")])
def test_each_language_has_its_wikipedia(language: str, host: str) -> None:
    assert api_url(language) == f"https://{host}.wikipedia.org/w/api.php"
