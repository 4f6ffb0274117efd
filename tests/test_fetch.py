"""`cfbuild fetch`: what it writes, what it refuses, and that it goes on where it stopped."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from servers import Proxy, Scripted, Spoiler, oxigraph, reply

from cfbuild.data import Entity, Fact, Target
from cfbuild.errors import BuildStateError, ConfigError, SourceError, TemplateError
from cfbuild.facts.graph import FactGraph
from cfbuild.filter.rules import TARGET_RULES, RuleContext
from cfbuild.pipeline.fetch import FetchOptions, checked, fetch, manifest_config
from cfbuild.sources.catalogue import SOURCES
from cfbuild.sources.endpoints import ENDPOINTS
from cfbuild.sources.http import Client
from cfbuild.sources.journal import JournaledClient
from cfbuild.sources.pararel import PARAREL
from cfbuild.sources.source import SourceOptions, SourceSpec, SourceTally
from cfbuild.store.codec import decode_entity, decode_fact, decode_template
from cfbuild.store.folder import BuildFolder
from cfbuild.store.jsonl import read_values

WD = "http://www.wikidata.org/entity/"
WDT = "http://www.wikidata.org/prop/direct/"
LABEL = "http://www.w3.org/2000/01/rdf-schema#label"
TRIPLES = [
    *(f"<{WD}Q{n}> <{WDT}P36> <{WD}Q{n + 100}> ." for n in range(1, 21)),
    *(f"<{WD}Q{n}> <{WDT}P30> <{WD}Q46> ." for n in range(1, 11)),
    *(f'<{WD}Q{n}> <{LABEL}> "item {n}"@en .' for n in (*range(1, 21), *range(101, 121), 46, 6256)),
    f"<{WD}Q1> <{WDT}P31> <{WD}Q6256> .",
    f"<{WD}Q2> <{WDT}P31> <{WD}Q7777> .",
]


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with oxigraph(tmp_path_factory.mktemp("graph"), "\n".join(TRIPLES)) as url:
        yield url


@pytest.fixture
def options(endpoint: str, tmp_path: Path) -> FetchOptions:
    """Return options that ask the small graph, with patterns of our own."""
    patterns = tmp_path / "patterns"
    patterns.mkdir()
    texts = ["The capital of [X] is [Y].", "[X]'s capital is [Y] .", "[Y] is the capital of [X]."]
    (patterns / "P36.jsonl").write_text("".join(json.dumps({"pattern": text}) + "\n" for text in texts))
    (patterns / "P30.jsonl").write_text(json.dumps({"pattern": "[X] is in [Y]"}) + "\n")
    return FetchOptions(endpoint=endpoint, templates=("pararel",), pararel=str(patterns), attempts=1)


@pytest.fixture
def folder(tmp_path: Path) -> BuildFolder:
    return BuildFolder(tmp_path / "build")


def changed(options: FetchOptions, **settings: Any) -> FetchOptions:
    return dataclasses.replace(options, **settings)


def test_a_fetch_writes_sorted_rows_and_a_manifest(folder: BuildFolder, options: FetchOptions) -> None:
    reports: list[tuple[str, int, int | None]] = []
    summary = fetch(folder, options, lambda *progress: reports.append(progress))
    facts = list(read_values(folder.path("facts.jsonl"), decode_fact))
    assert [fact.relation for fact in facts] == ["P30"] * 10 + ["P36"] * 20
    assert facts[0] == Fact("P30", "Q1", "Q46", source="wikidata") and len(set(facts)) == 30
    entities = {entity.id: entity for entity in read_values(folder.path("entities.jsonl"), decode_entity)}
    assert entities["Q1"] == Entity("Q1", {"en": "item 1"}, attributes={"P30": ("Q46",), "P31": ("Q6256",)})
    assert "Q6256" in entities, "an attribute's value is named too"
    assert "Q7777" not in entities, "unless it has no label"
    assert len(entities) == 42 and list(entities) == sorted(entities, key=lambda entity_id: int(entity_id[1:]))
    templates = list(read_values(folder.path("templates.jsonl"), decode_template))
    assert [template.text for template in templates] == ["{} is in", "The capital of {} is", "{}'s capital is"]
    assert (
        summary.facts == {"P30": 10, "P36": 20} and summary.entities == 42 and summary.templates == {"P30": 1, "P36": 2}
    )
    assert summary.templates_left_out == {"the object does not come last": 1}
    assert summary.refusals[0].pattern == "[Y] is the capital of [X]."
    assert reports[0] == ("relations", 0, 2) and ("entities", 41, 41) in reports and summary.sent == 6
    entry = folder.manifest().entry("fetch").as_dict()
    assert entry["files"]["facts.jsonl"]["rows"] == 30 and entry["answers"]["count"] == 6
    assert entry["retrieved"]["first"] <= entry["retrieved"]["last"]
    assert entry["today"] == entry["retrieved"]["last"][:10] == summary.today and entry["borrowed"] == {}


def test_a_second_run_asks_nothing_and_a_deleted_file_comes_back(folder: BuildFolder, options: FetchOptions) -> None:
    first = fetch(folder, options)
    before = {path.name: path.read_bytes() for path in folder.root.glob("*.json*")}
    again = fetch(folder, options)
    assert again.unchanged and again.sent == 0 and again.facts == first.facts and again.retrieved == first.retrieved
    folder.path("entities.jsonl").unlink()
    restored = fetch(folder, options)
    assert not restored.unchanged and restored.sent == 0
    assert before == {path.name: path.read_bytes() for path in folder.root.glob("*.json*")}


def test_what_contains_the_items_is_followed_level_by_level(
    folder: BuildFolder, options: FetchOptions, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Take a street (1) in a quarter (2) in a city (3) in a country (4), its class below another; and a circle."""
    facts = [
        ("P36", 1, 2),
        ("P131", 2, 3),
        ("P131", 3, 4),
        ("P17", 4, 4),
        ("P31", 3, 5),
        ("P279", 5, 6),
        ("P361", 4, 7),
    ]
    triples = [f"<{WD}Q{s}> <{WDT}{relation}> <{WD}Q{o}> ." for relation, s, o in [*facts, ("P361", 7, 3)]]
    triples += [f'<{WD}Q{n}> <{LABEL}> "item {n}"@en .' for n in (1, 2, 3, 4, 5)]
    with oxigraph(tmp_path_factory.mktemp("containers"), "\n".join(triples)) as url:
        fetch(folder, changed(options, endpoint=url, relations=("P36",)))
    entities = list(read_values(folder.path("entities.jsonl"), decode_entity))
    assert [one.id for one in entities] == ["Q1", "Q2", "Q3", "Q4", "Q5", "Q7"], "Q6 has no name and contains nothing"
    graph = FactGraph(read_values(folder.path("facts.jsonl"), decode_fact), entities)
    assert graph.containers("Q2") == {"Q3", "Q4", "Q7"}
    refused = TARGET_RULES["target-contains"](graph.facts[0], Target("Q4", "item 4"), RuleContext(graph, {}))
    assert refused == {"inner": "Q2", "outer": "Q4"}


def test_restart_asks_again(folder: BuildFolder, options: FetchOptions) -> None:
    fetch(folder, options)
    assert fetch(folder, changed(options, restart=True)).sent == 6


@pytest.mark.parametrize("changes", [{"language": "fr"}, {"per_relation": 3}, {"seed": 1}, {"relations": ("P36",)}])
def test_other_options_on_the_same_build_are_refused(
    folder: BuildFolder, options: FetchOptions, changes: dict[str, Any]
) -> None:
    fetch(folder, options)
    with pytest.raises(BuildStateError, match=next(iter(changes))):
        fetch(folder, changed(options, **changes))


def test_changed_pattern_files_are_noticed(folder: BuildFolder, options: FetchOptions) -> None:
    fetch(folder, options)
    Path(options.pararel, "P30.jsonl").write_text('{"pattern": "[X] lies in [Y]"}\n')
    with pytest.raises(BuildStateError, match="pararel"):
        fetch(folder, options)


def test_a_failed_fetch_leaves_no_output_and_goes_on_where_it_stopped(
    folder: BuildFolder, options: FetchOptions, endpoint: str
) -> None:
    with Proxy(endpoint) as proxy:
        options = changed(options, endpoint=proxy.url)
        proxy.tamper = lambda body: body if proxy.asked < 5 else body[:-1]
        with pytest.raises(SourceError, match="run the same command again"):
            fetch(folder, options)
        assert not list(folder.root.glob("*.jsonl")) and folder.manifest().verbs == {}
        received = list(proxy.answered)[:4]
        proxy.tamper = lambda body: body
        summary = fetch(folder, options)
        assert summary.sent == 2, "the items and their classes"
        assert [proxy.answered[query] for query in received] == [1, 1, 1, 1]
    assert not list(folder.root.rglob("*.part"))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_behind_a_proxy_that_spoils_one_answer_in_five_a_fetch_ends_in_one_run(
    options: FetchOptions, seed: int, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    relations = tuple(f"P{number}" for number in range(501, 561))
    facts = [(relation, n + 30 * place, n % 7 + 1) for place, relation in enumerate(relations) for n in range(100, 110)]
    lines = [f"<{WD}Q{s}> <{WDT}{relation}> <{WD}Q{o}> ." for relation, s, o in facts]
    lines += [f'<{WD}Q{n}> <{LABEL}> "item {n}"@en .' for n in {one for _, *items in facts for one in items}]
    waits: list[float] = []
    spoiler = Spoiler(seed)
    with (
        oxigraph(tmp_path_factory.mktemp("many"), "\n".join(lines)) as url,
        Proxy(url) as proxy,
        mock.patch.dict(Client.__init__.__kwdefaults__, {"sleep": waits.append}),
    ):
        plain, spoiled = (changed(options, endpoint=proxy.url, relations=relations, attempts=5) for _ in range(2))
        fetch(BuildFolder(tmp_path / "plain"), plain)
        needed, proxy.spoil = proxy.asked, spoiler
        summary = fetch(BuildFolder(tmp_path / "spoiled"), spoiled)
    assert needed > 100 and summary.sent > 1.1 * needed and len(spoiler.counts) == 6 and waits
    for name in ("facts.jsonl", "entities.jsonl"):
        assert (tmp_path / "plain" / name).read_bytes() == (tmp_path / "spoiled" / name).read_bytes()
    rows = read_values(tmp_path / "spoiled" / "facts.jsonl", decode_fact)
    found = {(one.relation, int(one.subject[1:]), int(one.object[1:])) for one in rows}
    assert found == set(facts)


def test_a_sample_is_seeded_and_repeatable(folder: BuildFolder, options: FetchOptions, tmp_path: Path) -> None:
    texts = []
    for number, seed in enumerate((5, 5, 6)):
        build = BuildFolder(tmp_path / str(number))
        summary = fetch(build, changed(options, per_relation=4, seed=seed))
        assert summary.facts == {"P30": 4, "P36": 4}
        texts.append(build.path("facts.jsonl").read_bytes())
    assert texts[0] == texts[1] != texts[2]


def test_a_source_without_a_single_fact_is_an_error(folder: BuildFolder, options: FetchOptions) -> None:
    with pytest.raises(SourceError, match=r"no fact of P19, P20.*Wikidata's graph"):
        fetch(folder, changed(options, relations=("P19", "P20")))


def test_a_warning_names_a_relation_without_facts_or_templates(
    folder: BuildFolder, options: FetchOptions, caplog: pytest.LogCaptureFixture
) -> None:
    summary = fetch(folder, changed(options, relations=("P36", "P19", "P36")))
    assert summary.facts == {"P19": 0, "P36": 20}
    assert "P19 has no facts" in caplog.text and "P19 has no template" in caplog.text


def test_an_endpoint_that_has_moved_is_told_with_the_command_that_takes_its_new_address(
    folder: BuildFolder, options: FetchOptions, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = endpoint.replace("127.0.0.1", "localhost")
    with Scripted(reply(b"", f"Location: {moved}", status="308 Permanent Redirect")) as server:
        monkeypatch.setitem(ENDPOINTS, "qlever", server.url)
        with pytest.raises(SourceError) as caught:
            fetch(folder, changed(options, endpoint="qlever"))
    advice = re.search(r"run the command with `--endpoint (\S+)` \((.*)\)", str(caught.value))
    assert advice and advice[1] == moved and advice[2] == "the preset qlever was last checked on 2026-11-26"
    assert sum(fetch(BuildFolder(folder.root.parent / "b"), changed(options, endpoint=advice[1])).facts.values()) == 30


def test_a_403_stops_the_fetch_at_once(folder: BuildFolder, options: FetchOptions) -> None:
    with Scripted(reply(b"banned", status="403 Forbidden", kind="text/plain")) as server:
        with pytest.raises(SourceError, match="banned"):
            fetch(folder, changed(options, endpoint=server.url, attempts=5))
        assert len(server.requests) == 1


def test_public_services_need_a_contact(
    folder: BuildFolder, options: FetchOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CFBUILD_CONTACT", raising=False)
    for endpoint in (None, "wikidata", "qlever", "https://example.org/sparql"):
        with pytest.raises(ConfigError, match="--contact"):
            fetch(folder, changed(options, endpoint=endpoint))
    with pytest.raises(ConfigError, match="--contact"):
        fetch(folder, changed(options, pararel="https://example.org/raw"))
    assert not folder.root.exists()


def test_the_contact_comes_from_the_environment(
    folder: BuildFolder, options: FetchOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CFBUILD_CONTACT", "https://example.org/us")
    with Scripted(reply(status="403 Forbidden")) as server:
        with pytest.raises(SourceError):
            fetch(folder, changed(options, endpoint=server.url))
        assert "(https://example.org/us)" in server.requests[0][1]["user-agent"]


def test_no_password_and_no_path_of_this_machine_is_kept(
    folder: BuildFolder, options: FetchOptions, endpoint: str
) -> None:
    fetch(folder, changed(options, endpoint=endpoint.replace("//", "//ann:s3cret@"), contact="me@example.org"))
    kept = b"".join(path.read_bytes() for path in folder.root.rglob("*") if path.is_file())
    assert b"s3cret" not in kept and b"me@example.org" not in kept and str(folder.root.parent).encode() not in kept


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "dbpedia"}, "no source 'dbpedia'"),
        ({"templates": ("mine",)}, "no template set or folder 'mine'"),
        ({"templates": ()}, "--templates names no template set"),
        ({"per_relation": 0}, "at least 1 fact"),
        ({"relations": ("Q36",)}, "property id"),
        ({"relations": ("P36 }",)}, "property id"),
        ({"relations": ()}, "there is no relation to fetch"),
        ({"language": "e n"}, "language code"),
        ({"endpoint": "ftp://localhost/q"}, "http or https"),
        ({"source": "snapshot"}, "leave --endpoint out"),
        ({"pararel": "absent"}, "not a folder"),
        ({"templates": ("builtin",), "language": "sv"}, "bundled templates are in en, ar, de, .*, not in 'sv'"),
        ({"pararel": PARAREL, "language": "de"}, "patterns are in en only, not in 'de'"),
        ({"timeout_s": 0.0}, "timeout"),
        ({"contact": "nobody"}, "contact 'nobody'"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_anything_is_asked(
    folder: BuildFolder, options: FetchOptions, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        fetch(folder, changed(options, **changes))
    assert caught.value.exit_code == 2 and not folder.root.exists()


def test_the_snapshot_and_the_bundled_templates_need_no_network(folder: BuildFolder) -> None:
    summary = fetch(folder, FetchOptions(source="snapshot", per_relation=20))
    assert summary.sent == 0 and summary.retrieved is None and all(summary.facts.values())
    assert set(summary.facts) == set(summary.templates)
    assert max(summary.facts.values()) == 20
    assert fetch(folder, FetchOptions(source="snapshot", per_relation=20)).unchanged


class Few:
    """A source of three facts, as somebody who adds a source writes it, with the options that all sources have."""

    def __init__(self, options: SourceOptions, asker: JournaledClient) -> None:
        self.tally = SourceTally()
        self._language = options.language

    def facts(self, relation: str) -> Iterator[Fact]:
        yield from (Fact(relation, f"Q{number}", "Q9", source="few") for number in (1, 2, 3))

    def entities(self, ids: Sequence[str]) -> Iterator[Entity]:
        yield from (Entity(item, {self._language: f"item {item}"}) for item in ids)


def test_a_source_is_a_file_and_a_line_in_the_table(
    folder: BuildFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(SOURCES, "few", SourceSpec(SourceOptions, Few, frozenset({"facts", "names"})))
    (german := tmp_path / "german").mkdir()
    (german / "P36.txt").write_text("[rewrite]\n{} wird regiert aus\n")
    options = FetchOptions(source="few", relations=("P36",), language="de", templates=(str(german),))
    summary = fetch(folder, options)
    assert summary.facts == {"P36": 3} and summary.entities == 4 and summary.sent == 0
    entities = list(read_values(folder.path("entities.jsonl"), decode_entity))
    assert entities[0] == Entity("Q1", {"de": "item Q1"})
    for changes, message in (
        ({"statements": True}, "the source few has no statements"),
        ({"endpoint": "http://127.0.0.1:9/"}, "the source few asks no endpoint"),
        ({"references": True}, "the source few cannot tell which articles"),
    ):
        with pytest.raises(ConfigError, match=message):
            fetch(folder, changed(options, **changes))


def test_both_template_sets_give_each_text_once(folder: BuildFolder, options: FetchOptions) -> None:
    snapshot = FetchOptions(source="snapshot", per_relation=5)
    builtin = fetch(BuildFolder(folder.root / "b"), snapshot)
    first = next(read_values(folder.root / "b" / "templates.jsonl", decode_template))
    texts = [first.text.replace("{}", "[X]") + " [Y].", "About [X] one says: [Y]"]
    path = Path(options.pararel, f"{first.relation}.jsonl")
    path.write_text("".join(json.dumps({"pattern": text}) + "\n" for text in texts))
    both = changed(snapshot, relations=(first.relation,), templates=("builtin", "pararel"), pararel=options.pararel)
    summary = fetch(folder, both)
    templates = list(read_values(folder.path("templates.jsonl"), decode_template))
    assert summary.templates[first.relation] == builtin.templates[first.relation] + 1
    assert [one.origin for one in templates if one.text == first.text] == [first.origin] != ["pararel"]


def test_pararels_tuples_give_facts(folder: BuildFolder, tmp_path: Path) -> None:
    root = tmp_path / "checkout" / "data"
    (root / "pattern_data" / "graphs_json").mkdir(parents=True)
    (root / "trex_lms_vocab").mkdir()
    (root / "pattern_data" / "graphs_json" / "P36.jsonl").write_text('{"pattern": "The capital of [X] is [Y]."}\n')
    tuples = [
        {"sub_uri": "Q142", "sub_label": "France", "obj_uri": "Q90", "obj_label": "Paris"},
        {"sub_label": "Japan", "obj_label": "Tokyo"},
    ]
    (root / "trex_lms_vocab" / "P36.jsonl").write_text("".join(json.dumps(row) + "\n" for row in tuples))
    summary = fetch(folder, FetchOptions(source="pararel", templates=("pararel",), pararel=str(root.parent)))
    assert summary.facts == {"P36": 1} and summary.entities == 2 and summary.sent == 0
    assert summary.left_out == {"tuple without ids, and no --endpoint to look them up in": 1}


@pytest.fixture
def mpararel(tmp_path: Path) -> Path:
    """Return a folder with patterns in English, French and German, and tuples in English and French, by language."""
    root, town = tmp_path / "mpararel", {"en": "London", "fr": "Londres"}
    texts = {"en": "[X] was born in [Y]", "fr": "[X] est né à [Y]", "de": "[X] kommt aus [Y]"}
    for language, text in texts.items():
        (root / "patterns" / language).mkdir(parents=True)
        (root / "patterns" / language / "P19.jsonl").write_text(json.dumps({"pattern": text}) + "\n")
    for language, name in town.items():
        row = {"sub_uri": "Q1", "sub_label": "Ann Reyes", "obj_uri": "Q84", "obj_label": name}
        (root / "tuples" / language).mkdir(parents=True)
        (root / "tuples" / language / "P19.jsonl").write_text(json.dumps(row) + "\n")
    return root


def test_further_languages_are_wikidatas_and_in_the_manifest() -> None:
    options = FetchOptions(source="wikidata", endpoint="http://127.0.0.1:1/sparql", also_labels=("FR", "de"))
    assert manifest_config(checked(options), ("P36",))["also_labels"] == ["fr", "de"]
    with pytest.raises(ConfigError, match="labels in --language alone"):
        checked(FetchOptions(source="snapshot", also_labels=("fr",)))


@pytest.mark.parametrize(
    ("language", "text", "name"),
    [("en", "{} was born in", "London"), ("fr", "{} est né à", "Londres"), ("fr-ca", "{} est né à", "Londres")],
)
def test_mpararels_patterns_tuples_and_names_are_those_of_the_language(
    folder: BuildFolder, mpararel: Path, language: str, text: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    options = FetchOptions(source="pararel", templates=("pararel",), pararel=str(mpararel), language=language)
    assert fetch(folder, options).facts == {"P19": 1}
    assert [one.text for one in read_values(folder.path("templates.jsonl"), decode_template)] == [text]
    entities = {one.id: one for one in read_values(folder.path("entities.jsonl"), decode_entity)}
    assert entities["Q84"] == Entity("Q84", {language: name})
    notes = [record.getMessage() for record in caplog.records if "those in fr are taken" in record.getMessage()]
    assert len(notes) == (2 if language == "fr-ca" else 0)


def test_a_language_that_mpararel_does_not_have_is_refused_with_those_it_has(
    folder: BuildFolder, mpararel: Path
) -> None:
    options = FetchOptions(source="pararel", templates=("pararel",), pararel=str(mpararel), language="de")
    with pytest.raises(ConfigError, match="tuples in en, fr, none in 'de'"):
        fetch(folder, options)
    with pytest.raises(ConfigError, match="patterns in de, en, fr, none in 'it'"):
        fetch(folder, changed(options, language="it"))
    own = mpararel.parent / "own"
    checkout = own / "data" / "pattern_data" / "graphs_json"
    checkout.mkdir(parents=True)
    (checkout / "P19.jsonl").write_text('{"pattern": "[X] was born in [Y]"}\n')
    with pytest.raises(ConfigError, match="patterns are in en only, not in 'fr'"):
        fetch(folder, changed(options, language="fr", pararel=str(own)))
    assert not folder.root.exists()


def test_templates_come_from_a_folder_of_ones_own(folder: BuildFolder, options: FetchOptions, tmp_path: Path) -> None:
    own = tmp_path / "mine"
    own.mkdir()
    (own / "P36.txt").write_text("[rewrite]\n{} is run from\n[generation]\nIn {} people\n")
    (own / "notes.txt").write_text("no templates")
    mine = changed(options, templates=("pararel", str(own)))
    fetch(folder, mine)
    found = list(read_values(folder.path("templates.jsonl"), decode_template))
    assert ("P36", "{} is run from", "own") in [(one.relation, one.text, one.origin) for one in found]
    assert {one.origin for one in found} == {"own", "pararel"}
    (named,) = folder.manifest().entry("fetch").config["templates"][1:]
    assert named.startswith("mine@") and str(tmp_path) not in folder.path("manifest.json").read_text()
    assert set(fetch(folder, changed(mine, relations=None)).facts) == {"P30", "P36"}
    (own / "P36.txt").write_text("[rewrite]\n{} is run from {}\n")
    with pytest.raises(BuildStateError, match="templates"):
        fetch(folder, mine)
    with pytest.raises(TemplateError, match=r"P36\.txt:2"):
        fetch(folder, changed(mine, restart=True))
    (own / "P36.txt").unlink()
    with pytest.raises(TemplateError, match="holds no file of templates"):
        fetch(folder, changed(mine, restart=True))
