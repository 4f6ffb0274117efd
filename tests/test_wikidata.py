"""Facts and entities from a SPARQL endpoint: a real Oxigraph, a small graph, and the excerpt where it is present."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from servers import OVERLOADED, TIME_OUT, Proxy, oxigraph, reply

from cfbuild.data import UNKNOWN, Entity, Fact
from cfbuild.errors import ConfigError, DataError, SourceError
from cfbuild.facts.relations import ATTRIBUTES
from cfbuild.option import options_of
from cfbuild.pipeline.fetch import FetchOptions, fetch
from cfbuild.sources.endpoints import CHECKED, ENDPOINTS, endpoint_url
from cfbuild.sources.failures import MiscountedAnswerError
from cfbuild.sources.http import Client
from cfbuild.sources.journal import Journal, JournaledClient
from cfbuild.sources.parts import Part
from cfbuild.sources.sparql import Endpoint, parse
from cfbuild.sources.subset import HASHES, SampleOrder
from cfbuild.sources.wikidata import PROLOGUE, Wikidata, WikidataOptions, language_code
from cfbuild.store.folder import BuildFolder

WD = "http://www.wikidata.org/entity/"
WDT = "http://www.wikidata.org/prop/direct/"
LABEL = "http://www.w3.org/2000/01/rdf-schema#label"
ALIAS = "http://www.w3.org/2004/02/skos/core#altLabel"
SITELINKS = "http://wikiba.se/ontology#sitelinks"

# 300 subjects, each with one to three of a few objects: Q9001 has most of them, the higher ones a few.
PAIRS = sorted(
    {(s, 9001) for s in range(1, 301) if s % 5}
    | {(s, 9002 + s % 40) for s in range(1, 301) if s % 5 < 2}
    | {(s, 9001) for s in (5, 10)}
)
UNKNOWN_BESIDE = {2, 3}
"""Subjects of which it is known that they have another object too."""
ODD = f"""
<{WD}Q1> <{WDT}P1> "a literal" .
<{WD}Q2> <{WDT}P1> _:unknown .
<{WD}Q3> <{WDT}P1> <http://www.wikidata.org/.well-known/genid/0123> .
<{WD}Q4> <{WDT}P1> <{WD}L7> .
<{WD}Q5> <{WDT}P1> <{WD}Q0> .
<{WD}P31> <{WDT}P1> <{WD}Q9001> .
<{WD}L42-F1> <{WDT}P1> <{WD}Q9001> .
<{WD}Q777> <{WDT}P1> _:alone .
"""
NAMES = f"""
<{WD}Q1> <{LABEL}> "say \\"hi\\"\\n\\\\ twice\\t\\u00e9\\U0001F600"@en .
<{WD}Q1> <{LABEL}> "autre"@fr .
<{WD}Q1> <{ALIAS}> "b"@en .
<{WD}Q1> <{ALIAS}> "a"@en .
<{WD}Q1> <{ALIAS}> "everywhere"@mul .
<{WD}Q1> <{ALIAS}> "c"@en-gb .
<{WD}Q1> <{WDT}P31> <{WD}Q70> .
<{WD}Q1> <{WDT}P31> <{WD}Q8> .
<{WD}Q1> <{WDT}P31> "no item" .
<{WD}Q1> <{WDT}P21> <{WD}Q6581072> .
<{WD}Q1> <{SITELINKS}> "12"^^<http://www.w3.org/2001/XMLSchema#integer> .
<{WD}Q2> <{LABEL}> "zebra"@en .
<{WD}Q2> <{LABEL}> "aardvark"@en .
<{WD}Q3> <{LABEL}> "any"@mul .
<{WD}Q4> <{LABEL}> "quatro"@pt-br .
<{WD}Q4> <{LABEL}> "four"@en .
<{WD}Q4> <{LABEL}> "any four"@mul .
<{WD}Q5> <{LABEL}> "cinco"@pt .
<{WD}Q5> <{LABEL}> "any five"@mul .
<{WD}Q6> <{LABEL}> "qualquer"@mul .
<{WD}Q7> <{LABEL}> "Иван"@mul .
<{WD}Q8> <{LABEL}> "en"@mul .
<{WD}Q8> <{ALIAS}> "war"@mul .
<{WD}Q8> <{ALIAS}> "Acht"@mul .
"""


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    facts = "".join(f"<{WD}Q{s}> <{WDT}P1> <{WD}Q{o}> .\n" for s, o in PAIRS)
    with oxigraph(tmp_path_factory.mktemp("small"), facts + ODD + NAMES) as url:
        yield url


@contextmanager
def source(url: str, folder: Path, **settings: Any) -> Iterator[tuple[Wikidata, JournaledClient]]:
    """Yield a source that does not sleep, with a journal in `folder`."""
    with Client(sleep=lambda seconds: None, timeout_s=20, attempts=2) as client, Journal(folder / "journal") as journal:
        asker = JournaledClient(client, journal)
        pages = {name: settings.pop(name) for name in ("page_rows", "scan_rows") if name in settings}
        wikidata = Wikidata(WikidataOptions(endpoint=url, **settings), asker)
        wikidata.reader = replace(wikidata.reader, **pages)
        yield wikidata, asker


def pairs(facts: Iterator[Fact]) -> list[tuple[int, int]]:
    """Return the facts' subjects and known objects; a subject with an unknown object has known ones too."""
    listed = list(facts)
    unknown = {int(fact.subject[1:]) for fact in listed if fact.object == UNKNOWN}
    assert unknown == UNKNOWN_BESIDE & {int(fact.subject[1:]) for fact in listed}
    return [(int(fact.subject[1:]), int(fact.object[1:])) for fact in listed if fact.object != UNKNOWN]


@pytest.mark.parametrize("page_rows", [50_000, 100, 17, 3])
def test_all_facts_between_items_come_whatever_the_page(small: str, tmp_path: Path, page_rows: int) -> None:
    with source(small, tmp_path, page_rows=page_rows) as (wikidata, asker):
        assert pairs(wikidata.facts("P1")) == PAIRS
        assert wikidata.tally.left_out == {
            "object is no item": 3,
            "subject is no item": 2,
            "subject with an unknown object alone": 1,
        }
        sent = asker.client.sent
        assert pairs(wikidata.facts("P1")) == PAIRS and asker.client.sent == sent
    assert (sent == 2) == (page_rows == 50_000)


def test_a_relation_without_facts_is_empty_because_the_server_says_so(small: str, tmp_path: Path) -> None:
    with source(small, tmp_path) as (wikidata, _):
        assert list(wikidata.facts("P999")) == []


@pytest.mark.parametrize("per_relation", [1, 10, 40, 200])
def test_a_sample_is_the_same_whatever_the_pages(small: str, tmp_path: Path, per_relation: int) -> None:
    samples = []
    for number, pages in enumerate([(50_000, 50_000), (50, 1000), (50, 60), (7, 20)]):
        (tmp_path / str(number)).mkdir()
        settings = {"page_rows": pages[0], "scan_rows": pages[1], "per_relation": per_relation, "seed": 3}
        with source(small, tmp_path / str(number), **settings) as (wikidata, _):
            samples.append(pairs(wikidata.facts("P1")))
    assert len(samples[0]) == per_relation and set(samples[0]) <= set(PAIRS)
    assert all(sample == samples[0] for sample in samples)


def test_a_sample_depends_on_the_seed_and_keeps_subjects_whole(small: str, tmp_path: Path) -> None:
    samples = []
    with source(small, tmp_path, per_relation=40) as (wikidata, _):
        for seed in (0, 1, 0):
            wikidata.seed = seed
            samples.append(pairs(wikidata.facts("P1")))
    assert samples[0] == samples[2] != samples[1]
    for sample in samples:
        subjects = {subject for subject, _ in sample}
        assert sample == [pair for pair in PAIRS if pair[0] in subjects]


@pytest.mark.parametrize("start", [0, 1, HASHES // 3, HASHES - 1])
def test_the_order_of_subjects_runs_once_around_the_hashes(start: int) -> None:
    order = SampleOrder(7, "P1")
    order.start = start
    hashes = {one: int(hashlib.md5(f"{WD}Q{one}".encode()).hexdigest()[:8], 16) for one in range(1, 2000)}
    bounds = [0, 1, HASHES // 5, HASHES // 2, HASHES - 1, 2 * HASHES]
    places = []
    for first, last in pairwise(bounds):
        spans = order.spans(first, last)
        assert all(0 <= low < high <= HASHES for low, high in spans)
        inside = [one for one, hashed in hashes.items() if any(low <= hashed < high for low, high in spans)]
        places += sorted(inside, key=order.place)
    assert places == sorted(hashes, key=order.place)


@pytest.mark.parametrize("number", [1, 2, 3, 7, 100])
def test_the_cuts_of_a_part_are_the_part(number: int) -> None:
    spans = [part.span for part in Part("P1", span=(5, 1000)).cut(number)]
    assert spans[0][0] == 5 and spans[-1][1] == 1000 and all(one[1] == other[0] for one, other in pairwise(spans))
    assert [part.span for part in Part("P1").split()] == [(0, HASHES // 2), (HASHES // 2, HASHES)]
    assert Part("P1", ("Q1",), (7, 8)).split() == ()


def test_a_sample_that_cannot_be_filled_ends_with_all_there_is(small: str, tmp_path: Path) -> None:
    with source(small, tmp_path, page_rows=100, per_relation=len(PAIRS) + 3) as (wikidata, asker):
        assert pairs(wikidata.facts("P1")) == PAIRS
        assert asker.client.sent < 30


def test_a_sample_of_a_large_relation_asks_for_a_share_of_it(small: str, tmp_path: Path) -> None:
    with Proxy(small) as proxy, source(proxy.url, tmp_path, page_rows=100, per_relation=5) as (wikidata, _):
        received: list[int] = []

        def noted(body: bytes) -> bytes:
            received.append(len(parse(body)))
            return body

        proxy.tamper = noted
        assert len(list(wikidata.facts("P1"))) == 5
    assert sum(received) < len(PAIRS) / 3


def test_names_attributes_and_sitelinks(small: str, tmp_path: Path) -> None:
    with source(small, tmp_path) as (wikidata, _):
        entities = list(wikidata.entities(["Q4", "Q1", "Q2", "Q3", "Q777"]))
    assert entities == [
        Entity("Q4", labels={"en": "four"}),
        Entity(
            "Q1",
            labels={"en": 'say "hi"\n\\ twice\té😀'},
            aliases={"en": ("a", "b", "everywhere")},
            attributes={"P31": ("Q8", "Q70"), "P21": ("Q6581072",)},
            sitelinks=12,
        ),
        Entity("Q2", labels={"en": "aardvark"}),
        Entity("Q3", labels={"en": "any"}),
        Entity("Q777"),
    ]


def test_another_language(small: str, tmp_path: Path) -> None:
    with source(small, tmp_path, language="pt-BR") as (wikidata, _):
        assert [entity.labels for entity in wikidata.entities(["Q4", "Q2"])] == [{"pt-br": "quatro"}, {}]
        assert wikidata.tally.borrowed == {}
    (tmp_path / "ru").mkdir()
    with source(small, tmp_path, language="pt-BR") as (wikidata, _):
        found = [entity.labels for entity in wikidata.entities(["Q5", "Q6", "Q7", "Q8"])]
        assert found == [{"pt-br": "cinco"}, {"pt-br": "qualquer"}, {}, {}], "Portuguese, then any language's, in Latin"
        assert wikidata.tally.borrowed == {"pt": 1, "mul": 1}
    with source(small, tmp_path / "ru", language="ru") as (wikidata, _):
        found = [entity.labels for entity in wikidata.entities(["Q5", "Q6", "Q7", "Q8"])]
        assert found == [{}, {}, {"ru": "Иван"}, {}], "a name in another script, or a language's code, is none"


def test_names_in_further_languages(small: str, tmp_path: Path) -> None:
    with source(small, tmp_path, also_labels=("fr", "pt-BR", "en")) as (wikidata, _):
        first, fourth, sixth = wikidata.entities(["Q1", "Q4", "Q6"])
        assert wikidata.tally.borrowed == {"mul": 1}, "those of the build's own language"
    assert first.labels == {"en": 'say "hi"\n\\ twice\té😀', "fr": "autre"} and first.sitelinks == 12
    assert first.aliases == {"en": ("a", "b", "everywhere"), "fr": ("everywhere",), "pt-br": ("everywhere",)}
    assert fourth.labels == {"en": "four", "fr": "any four", "pt-br": "quatro"}
    assert sixth.labels == dict.fromkeys(("en", "fr", "pt-br"), "qualquer")


def test_a_bare_code_is_no_alias_either(small: str, tmp_path: Path) -> None:
    with source(small, tmp_path, language="de") as (wikidata, _):
        (entity,) = wikidata.entities(["Q8"])
    assert entity == Entity("Q8", aliases={"de": ("Acht",)})


def test_entities_of_a_batch_that_is_too_much_are_asked_for_in_halves(small: str, tmp_path: Path) -> None:
    ids = [f"Q{number}" for number in range(1, 50)]
    (tmp_path / "halves").mkdir()
    with source(small, tmp_path) as (wikidata, _), source(small, tmp_path / "halves", page_rows=9) as (halving, asker):
        assert list(halving.entities(ids)) == list(wikidata.entities(ids))
        assert asker.client.sent > 1


def dropped(body: bytes, number: int = 1) -> bytes:
    """Return a valid answer with fewer rows: what a server with a silent cap on rows sends."""
    answer = json.loads(body)
    facts = [row for row in answer["results"]["bindings"] if "s" in row or "e" in row]
    for row in facts[:number]:
        answer["results"]["bindings"].remove(row)
    return json.dumps(answer).encode()


def test_an_answer_with_a_row_too_few_is_an_error_that_names_both_numbers(small: str, tmp_path: Path) -> None:
    with Proxy(small) as proxy, source(proxy.url, tmp_path) as (wikidata, asker):
        proxy.tamper = dropped
        with pytest.raises(MiscountedAnswerError, match=r"has 4 rows, and the server counts 5"):
            list(wikidata.facts("P1"))
        with pytest.raises(SourceError, match="1 rows, and the server counts 2"):
            list(wikidata.entities(["Q2", "Q3", "Q4"]))
        assert len(asker.journal._entries) == 1, "only the count was a good answer"


def test_an_answer_without_its_count_is_an_error(small: str, tmp_path: Path) -> None:
    with Proxy(small) as proxy, source(proxy.url, tmp_path) as (wikidata, _):
        proxy.tamper = lambda body: re.sub(rb',?\{"n":[^}]*\}\}', b"", body)
        with pytest.raises(SourceError, match="0 counts, expected 1"):
            list(wikidata.facts("P1"))


def test_groups_that_do_not_add_up_are_an_error(small: str, tmp_path: Path) -> None:
    def without_a_group(body: bytes) -> bytes:
        answer = json.loads(body)
        groups = [row for row in answer["results"]["bindings"] if "o" in row and "n" in row]
        for row in groups[:1]:
            answer["results"]["bindings"].remove(row)
        return json.dumps(answer).encode()

    with Proxy(small) as proxy, source(proxy.url, tmp_path, page_rows=20) as (wikidata, _):
        proxy.tamper = without_a_group
        with pytest.raises(SourceError, match=rf"groups add up to \d+, and the server counts {len(PAIRS) + 8}"):
            list(wikidata.facts("P1"))


def test_a_server_that_caps_rows_silently_is_asked_smaller_questions(small: str, tmp_path: Path) -> None:
    def capped(body: bytes) -> bytes:
        answer = json.loads(body)
        facts = [row for row in answer["results"]["bindings"] if "s" in row]
        return dropped(body, max(0, len(facts) - 10))

    with Proxy(small) as proxy, source(proxy.url, tmp_path, page_rows=100) as (wikidata, _):
        proxy.tamper = capped
        assert pairs(wikidata.facts("P1")) == PAIRS


LIMIT = 40


@pytest.mark.parametrize("refuse", OVERLOADED.values(), ids=OVERLOADED)
def test_what_is_too_much_for_the_server_is_asked_in_halves(
    small: str, tmp_path: Path, refuse: Callable[[bytes], bytes]
) -> None:
    """Query a server that fails at over LIMIT rows in any way: ranges of hashes, objects, batches of items."""
    ids = [f"Q{number}" for number in range(1, 50)]
    (tmp_path / "freely").mkdir()
    with source(small, tmp_path / "freely", per_relation=100) as (freely, _):
        expected = pairs(freely.facts("P1")), list(freely.entities(ids))
    with Proxy(small) as proxy, source(proxy.url, tmp_path) as (wikidata, asker):
        proxy.spoil = lambda body: refuse(body) if body.count(b'"s":{') + body.count(b'"e":{') > LIMIT else None
        assert pairs(wikidata.facts("P1")) == PAIRS
        wikidata.per_relation = 100
        assert (pairs(wikidata.facts("P1")), list(wikidata.entities(ids))) == expected
        assert asker.client.sent < 200


def test_where_objects_cannot_be_counted_a_relation_is_cut_by_hash(small: str, tmp_path: Path) -> None:
    with Proxy(small) as proxy, source(proxy.url, tmp_path, page_rows=100) as (wikidata, asker):
        proxy.spoil = lambda body: reply(TIME_OUT, status="429 Many") if b'"all"' in body else None
        assert pairs(wikidata.facts("P1")) == PAIRS
        sent = asker.client.sent
        assert pairs(wikidata.facts("P1")) == PAIRS and asker.client.sent == sent, "the refusal is kept"


def test_the_body_that_breaks_off_for_an_unknown_service_is_an_error(small: str, tmp_path: Path) -> None:
    query = "SELECT * WHERE { ?s ?p ?o SERVICE <http://wikiba.se/ontology#label> { ?s ?p ?o } }"
    with source(small, tmp_path) as (_, asker):
        with pytest.raises(SourceError, match=r"broken answer .*not JSON.*asked 2 times"):
            Endpoint(small, asker, PROLOGUE).select(query, len)
        assert asker.client.sent == 2 and len(asker.journal._entries) == 0


def test_a_bad_query_stops_at_once(small: str, tmp_path: Path) -> None:
    with source(small, tmp_path) as (_, asker), pytest.raises(SourceError, match=r"400 Bad Request: .*SPARQL 1\.1"):
        Endpoint(small, asker).select("SELECT junk", len)
    assert asker.client.sent == 1


def test_nothing_but_ids_and_language_codes_gets_into_a_query(small: str, tmp_path: Path) -> None:
    with source(small, tmp_path) as (wikidata, asker):
        for relation in ("P1 ?o . ?x", "36", "Q1", "P1\n"):
            with pytest.raises(DataError):
                list(wikidata.facts(relation))
        for broken in ("Q1 }", "P31", "Q1\n", "wd:Q1"):
            with pytest.raises(DataError):
                list(wikidata.entities([broken]))
        with pytest.raises(DataError):
            _ = Part("P1", ("Q1 } UNION {",)).pattern
        assert asker.client.sent == 0
    for language in ('en"', "", "e", "en ) }", "en\n#", "thelanguage"):
        with pytest.raises(ConfigError, match="language code"):
            language_code(language)
    assert [language_code(text) for text in ("en", "pt-BR", " zh-Hant ")] == ["en", "pt-br", "zh-hant"]


def test_presets_are_data_with_a_date_and_the_help_shows_both() -> None:
    assert endpoint_url(None) == endpoint_url("wikidata") == "https://query.wikidata.org/sparql"
    assert endpoint_url("qlever") == "https://qlever.dev/api/wikidata"
    assert endpoint_url("http://localhost:7878/query") == "http://localhost:7878/query"
    help_text = " ".join(each.help for each in options_of(FetchOptions) if each.name == "endpoint")
    for name, url in ENDPOINTS.items():
        assert date.fromisoformat(CHECKED) and f"{name} ({url}, checked {CHECKED})" in help_text


def test_no_query_uses_what_is_not_standard(small: str, tmp_path: Path) -> None:
    with Proxy(small) as proxy, source(proxy.url, tmp_path, page_rows=50, per_relation=20) as (wikidata, _):
        list(wikidata.facts("P1"))
        wikidata.per_relation = None
        list(wikidata.facts("P1"))
        list(wikidata.entities(["Q1"]))
        queries = " ".join(proxy.answered)
    assert len(proxy.answered) > 10
    for word in ("SERVICE", "hint:", "bd:", "OFFSET", "ORDER BY"):
        assert word not in queries


# The must-show, on the excerpt: everything, exactly; and killed halfway, the same bytes, no query answered twice.


class Excerpt:
    """The excerpt, read by other code than the product's."""

    def __init__(self, path: Path) -> None:
        self.text = gzip.decompress(path.read_bytes()).decode()
        self.facts: set[tuple[str, str, str]] = set()
        self.attributes: defaultdict[str, defaultdict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        self.labels: dict[str, str] = {}
        self.aliases: defaultdict[str, set[str]] = defaultdict(set)
        pattern = re.compile(r'<[^>]*/(\S+)> <([^>]*)> (?:<[^>]*/(\S+)>|("(?:.*)")@(\S+)) \.')
        for line in self.text.splitlines():
            match = pattern.fullmatch(line)
            assert match, line
            subject, predicate, value, literal, language = match.groups()
            if predicate.startswith(WDT):
                self._fact(subject, predicate.removeprefix(WDT), value)
            elif language == "en":
                self._name(subject, predicate, json.loads(literal))

    def _fact(self, subject: str, relation: str, value: str) -> None:
        if relation in ATTRIBUTES:
            self.attributes[subject][relation].add(value)
        if relation not in ("P31", "P21"):
            self.facts.add((relation, subject, value))

    def _name(self, subject: str, predicate: str, text: str) -> None:
        if predicate == LABEL:
            assert subject not in self.labels
            self.labels[subject] = text
        else:
            self.aliases[subject].add(text)


@pytest.fixture(scope="module")
def known(excerpt: Path) -> Excerpt:
    return Excerpt(excerpt)


@pytest.fixture(scope="module")
def endpoint(known: Excerpt, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with oxigraph(tmp_path_factory.mktemp("excerpt"), known.text) as url:
        yield url


@pytest.fixture(scope="module")
def patterns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("patterns")
    (folder / "P36.jsonl").write_text('{"pattern": "The capital of [X] is [Y] ."}\n')
    return folder


@pytest.fixture(scope="module")
def whole(known: Excerpt, endpoint: str, patterns: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a build fetched without interruption."""
    root = tmp_path_factory.mktemp("build")
    relations = tuple(sorted({relation for relation, _, _ in known.facts}))
    summary = fetch(BuildFolder(root), options(endpoint, relations, patterns))
    assert sum(summary.facts.values()) == len(known.facts) == 33_110 and len(summary.facts) == 40
    return root


def options(endpoint: str, relations: tuple[str, ...], patterns: Path) -> FetchOptions:
    return FetchOptions(endpoint=endpoint, relations=relations, templates=("pararel",), pararel=str(patterns))


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.shared
def test_the_excerpt_comes_exactly(whole: Path, known: Excerpt) -> None:
    facts = [(row["relation_id"], row["subject_id"], row["object_id"]) for row in rows(whole / "facts.jsonl")]
    assert len(facts) == len(set(facts)) == 33_110 and set(facts) == known.facts
    assert facts == sorted(facts, key=lambda fact: [int(entity_id[1:]) for entity_id in fact])
    entities = {row["id"]: row for row in rows(whole / "entities.jsonl")}
    items = {entity_id for fact in facts for entity_id in fact[1:]}
    values = {entity_id for item in items for ids in known.attributes[item].values() for entity_id in ids}
    assert set(entities) == items | {entity_id for entity_id in values if entity_id in known.labels}
    assert list(entities) == sorted(entities, key=lambda entity_id: int(entity_id[1:]))
    for entity_id, row in entities.items():
        assert row["labels"] == ({"en": known.labels[entity_id]} if entity_id in known.labels else {})
        assert set(row["aliases"].get("en", ())) == known.aliases[entity_id]
        assert {name: set(ids) for name, ids in row["attributes"].items()} == known.attributes[entity_id]
        assert row["sitelinks"] is None


@pytest.mark.long
@pytest.mark.shared
def test_killed_halfway_it_ends_with_the_same_bytes_and_asks_nothing_twice(
    known: Excerpt, endpoint: str, patterns: Path, tmp_path: Path
) -> None:
    """Fetch a fifth of the excerpt: every kind of question is asked of it, several times."""
    relations = tuple(sorted({relation for relation, _, _ in known.facts}))[::5]
    uninterrupted, root = tmp_path / "uninterrupted", tmp_path / "killed"
    for folder in (uninterrupted, root):
        folder.mkdir()
    with Proxy(endpoint) as proxy:
        fetch(BuildFolder(uninterrupted), options(proxy.url, relations, patterns))
        total = proxy.asked
    assert len(relations) == 8 and total > 40
    with Proxy(endpoint) as proxy:
        for kill_at in (3, total // 4, 2 * total // 3):
            assert _run(proxy, kill_at, root, relations, patterns) == -9
        killed = proxy.asked
        assert _run(proxy, None, root, relations, patterns) == 0
        assert killed > 0.9 * total, "the last kill came late"
        assert set(proxy.answered.values()) == {1}, "a query was answered twice"
        sent = proxy.asked
        _same(root, uninterrupted)
        assert _run(proxy, None, root, relations, patterns) == 0
        (root / "facts.jsonl").unlink()
        assert _run(proxy, None, root, relations, patterns) == 0
        assert proxy.asked == sent, "a finished fetch asks nothing"
    _same(root, uninterrupted)


def _same(found: Path, expected: Path) -> None:
    for name in ("facts.jsonl", "entities.jsonl", "templates.jsonl"):
        assert (found / name).read_bytes() == (expected / name).read_bytes(), name
    assert not list(found.rglob("*.part"))


def _run(proxy: Proxy, kill_at: int | None, root: Path, relations: tuple[str, ...], patterns: Path) -> int:
    """Fetch in a process of its own, killed with SIGKILL when it sends its `kill_at`-th request."""
    code = (
        "import sys, pathlib; from cfbuild.pipeline.fetch import *; from cfbuild.store.folder import BuildFolder; "
        "fetch(BuildFolder(pathlib.Path(sys.argv[1])), FetchOptions(endpoint=sys.argv[2], "
        "relations=tuple(sys.argv[3].split()), templates=('pararel',), pararel=sys.argv[4]))"
    )
    start = proxy.asked
    arguments = [str(root), proxy.url, " ".join(relations), str(patterns)]
    with subprocess.Popen([sys.executable, "-c", code, *arguments], stderr=subprocess.DEVNULL) as process:

        def before(number: int) -> None:
            if kill_at is not None and number - start == kill_at:
                os.kill(process.pid, 9)
                process.wait()

        proxy.before = before
        return process.wait(120)
