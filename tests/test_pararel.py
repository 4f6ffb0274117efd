"""ParaRel: patterns as templates with reasons for those that are none, tuples as facts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from servers import TIME_OUT, Proxy, Scripted, oxigraph, reply

from cfbuild.data import Entity, Fact
from cfbuild.errors import ConfigError, DataError, SourceError
from cfbuild.sources.http import Client
from cfbuild.sources.journal import Journal, JournaledClient
from cfbuild.sources.pararel import PARAREL, RELATIONS, Files, Pararel, PararelOptions
from cfbuild.templates.patterns import templates

KEPT = {
    "The capital of [X] is [Y] .": "The capital of {} is",
    "[X]'s capital, [Y].": "{}'s capital,",
    "[X],  a subclass of [Y]": "{}, a subclass of",
    "[X] is a [Y] .": "{} is a",
    "As a citizen of [X] one lives in [Y].": "As a citizen of {} one lives in",
}
REFUSED = {
    "[Y] is the capital of [X].": "the object does not come last",
    "[X] plays [Y] music .": "the object does not come last",
    "The [Y]-owned [X]": "the object does not come last",
    "[X], a product of [Y],": "the object does not come last",
    "[X] is in [Y]!": "the object does not come last",
    "[X] is in [Y]..": "the object does not come last",
    "[X] is ([Y]": "no space comes before the object",
    "[X] and [X] are in [Y].": "does not name the subject [X] once",
    "It is in [Y].": "does not name the subject [X] once",
    "[X] is in.": "does not name the object [Y] once",
    "[X] is in {} [Y].": "holds a brace",
    "[X] is\nin [Y].": "control character",
}


@pytest.mark.parametrize(("pattern", "text"), KEPT.items())
def test_a_pattern_whose_object_comes_last_is_a_template(pattern: str, text: str) -> None:
    (template,), refusals = templates("P36", [pattern])
    assert (template.text, template.relation, template.kind, template.origin) == (text, "P36", "rewrite", "pararel")
    assert refusals == ()


@pytest.mark.parametrize(("pattern", "reason"), REFUSED.items())
def test_any_other_pattern_is_kept_out_with_a_reason(pattern: str, reason: str) -> None:
    kept, (refusal,) = templates("P36", [pattern])
    assert kept == () and reason in refusal.reason and (refusal.relation, refusal.pattern) == ("P36", pattern)


def test_a_repeated_pattern_is_kept_once() -> None:
    kept, (refusal,) = templates("P36", ["[X] in [Y]", "[X]  in [Y] ."])
    assert len(kept) == 1 and refusal.reason == "repeats an earlier pattern"


@contextmanager
def asker(folder: Path) -> Iterator[JournaledClient]:
    with Client(sleep=lambda seconds: None, timeout_s=20, attempts=2) as client, Journal(folder / "journal") as journal:
        yield JournaledClient(client, journal)


@pytest.mark.shared
def test_pararels_own_patterns(pararel: Path) -> None:
    files = Files(str(pararel), None)
    assert files.relations() == RELATIONS and len(RELATIONS) == 39
    kept, reasons = Counter[str](), Counter[str]()
    for relation in RELATIONS:
        found, refusals = templates(relation, files.patterns(relation))
        kept[relation] = len(found)
        reasons.update(refusal.reason for refusal in refusals)
    assert sum(kept.values()) == 214 and reasons == {"the object does not come last": 115}
    # REFERENCE: only 27 of ParaRel's 39 relations have three templates that end in the object.
    assert sum(number >= 3 for number in kept.values()) == 27


def checkout(root: Path, patterns: dict[str, list[str]], tuples: dict[str, list[dict[str, str]]]) -> Path:
    for name, folder, rows in (
        *(
            (name, "pattern_data/graphs_json", [{"pattern": text} for text in texts])
            for name, texts in patterns.items()
        ),
        *((name, "trex_lms_vocab", rows) for name, rows in tuples.items()),
    ):
        path = root / "data" / folder / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def row(subject: str, value: str, **ids: str) -> dict[str, str]:
    return {"sub_label": subject, "obj_label": value, "uuid": "0", **ids}


TUPLES = [
    row("France", "Paris", sub_uri="Q142", obj_uri="Q90"),
    row("Japan", "Tokyo", sub_uri="http://www.wikidata.org/entity/Q17", obj_uri="Q1490"),
    row("Nowhere", "Tokyo", sub_uri="", obj_uri="Q1490"),
    row('"Old" Chad\\', "N'Djamena"),
    row("Twin", "Same"),
    row("Missing", "Paris"),
]
GRAPH = {
    "Q142": ("France", "Q90"),
    "Q90": ("Paris", ""),
    "Q657": ('\\"Old\\" Chad\\\\', "Q3659"),
    "Q3659": ("N'Djamena", ""),
    "Q1": ("Twin", "Q3"),
    "Q2": ("Twin", "Q3"),
    "Q3": ("Same", ""),
}


def test_a_checkout_gives_patterns_and_tuples(tmp_path: Path) -> None:
    root = checkout(tmp_path / "pararel", {"P36": list(KEPT), "P5": ["[X] [Y]"]}, {"P36": TUPLES})
    files = Files(str(root), None)
    assert files.relations() == ("P5", "P36")
    assert files.patterns("P36") == list(KEPT) and files.patterns("P99") == []
    assert len(files.tuples("P36")) == 6 and files.tuples("P5") == []
    before = files.digest()
    checkout(root, {}, {"P36": TUPLES[:5]})
    assert before is not None and files.digest() != before


def test_tuples_with_ids_are_facts_without_asking_anyone(tmp_path: Path) -> None:
    root = checkout(tmp_path / "pararel", {"P36": list(KEPT)}, {"P36": TUPLES})
    with asker(tmp_path) as asking:
        source = Pararel(PararelOptions(pararel=str(root)), asking)
        facts = list(source.facts("P36"))
        assert facts == [Fact("P36", "Q17", "Q1490", source="pararel"), Fact("P36", "Q142", "Q90", source="pararel")]
        assert list(source.entities(["Q90"])) == [Entity("Q90", labels={"en": "Paris"})]
        assert asking.client.sent == 0
    assert source.tally.left_out == {
        "tuple with a malformed id": 1,
        "tuple without ids, and no --endpoint to look them up in": 3,
    }


def test_tuples_without_ids_are_looked_up_by_labels_and_relation(tmp_path: Path) -> None:
    root = checkout(tmp_path / "pararel", {"P36": list(KEPT)}, {"P36": TUPLES})
    label, wdt = "http://www.w3.org/2000/01/rdf-schema#label", "http://www.wikidata.org/prop/direct/P36"
    entity = "http://www.wikidata.org/entity/"
    lines = [f'<{entity}{one}> <{label}> "{name}"@en .' for one, (name, _) in GRAPH.items()]
    lines += [f"<{entity}{one}> <{wdt}> <{entity}{value}> ." for one, (_, value) in GRAPH.items() if value]
    with oxigraph(tmp_path, "\n".join(lines)) as url, asker(tmp_path) as asking:
        source = Pararel(PararelOptions(pararel=str(root), endpoint=url), asking)
        facts = [(fact.subject, fact.object) for fact in source.facts("P36")]
        assert facts == [("Q17", "Q1490"), ("Q142", "Q90"), ("Q657", "Q3659")]
        names = [entity.labels["en"] for entity in source.entities(["Q657", "Q1490"])]
    assert names == ['"Old" Chad\\', "Tokyo"], "from the graph, and from the tuple where the graph has none"
    assert source.tally.left_out == {
        "tuple with a malformed id": 1,
        "tuple whose labels fit several facts": 1,
        "tuple whose labels fit no fact": 1,
    }


def test_pairs_that_are_too_many_for_the_server_are_looked_up_in_halves(tmp_path: Path) -> None:
    label, wdt = "http://www.w3.org/2000/01/rdf-schema#label", "http://www.wikidata.org/prop/direct/P36"
    entity = "http://www.wikidata.org/entity/"
    lines = [f'<{entity}Q{n}> <{label}> "item {n}"@en .' for n in range(1, 61)]
    lines += [f"<{entity}Q{n}> <{wdt}> <{entity}Q{n + 30}> ." for n in range(1, 31)]
    rows = [row(f"item {n}", f"item {n + 30}") for n in range(1, 31)]
    root = checkout(tmp_path / "pararel", {"P36": list(KEPT)}, {"P36": rows})
    with oxigraph(tmp_path, "\n".join(lines)) as url, Proxy(url) as proxy, asker(tmp_path) as asking:
        refusal = reply(TIME_OUT, status="429 Too Many Requests")
        proxy.spoil = lambda body: refusal if body.count(b'"a":{') > 9 else None
        source = Pararel(PararelOptions(pararel=str(root), endpoint=proxy.url), asking)
        facts = [(fact.subject, fact.object) for fact in source.facts("P36")]
    assert facts == [(f"Q{n}", f"Q{n + 30}") for n in range(1, 31)] and not source.tally.left_out


def test_a_sample_of_tuples_is_seeded(tmp_path: Path) -> None:
    rows = [row(f"s{n}", "o", sub_uri=f"Q{n}", obj_uri="Q9") for n in range(10, 60)]
    root = checkout(tmp_path / "pararel", {"P36": list(KEPT)}, {"P36": rows})
    with asker(tmp_path) as asking:
        first, same, different = (
            list(Pararel(PararelOptions(per_relation=7, seed=seed, pararel=str(root)), asking).facts("P36"))
            for seed in (1, 1, 2)
        )
    assert first == same != different and len(first) == 7


def remote(*replies: bytes, folder: Path, read: str = "patterns") -> Any:
    with Scripted(*replies) as server, asker(folder) as asking:
        got = [getattr(Files(f"http://127.0.0.1:{server.port}/raw", asking), read)("P36") for _ in range(2)]
    assert got[0] == got[1]
    return got[0], server


def test_a_raw_url_is_read_once(tmp_path: Path) -> None:
    body = b'{"pattern": "[X] in [Y]."}\n{"pattern": "[X] at [Y]."}\n'
    got, server = remote(reply(body, kind="text/plain; charset=utf-8"), folder=tmp_path)
    assert got == ["[X] in [Y].", "[X] at [Y]."]
    assert [start for start, _, _ in server.requests] == ["GET /raw/data/pattern_data/graphs_json/P36.jsonl HTTP/1.1"]
    body = json.dumps(row("a", "b")).encode()
    got, server = remote(reply(body, kind="text/plain"), folder=tmp_path, read="tuples")
    assert got == [row("a", "b")]
    assert [start for start, _, _ in server.requests] == ["GET /raw/data/trex_lms_vocab/P36.jsonl HTTP/1.1"]


@pytest.mark.parametrize(
    "broken",
    [
        reply(b"", kind="text/plain"),
        reply(b'{"pattern": "[X] i', kind="text/plain"),
        reply(b'{"text": "[X] in [Y]."}', kind="text/plain"),
        reply(b"<html></html>", kind="text/html"),
        reply(b"gone", kind="text/plain", status="404 Not Found"),
    ],
)
def test_a_broken_raw_file_is_an_error(broken: bytes, tmp_path: Path) -> None:
    with Scripted(broken) as server, asker(tmp_path) as asking, pytest.raises(SourceError):
        Files(f"http://127.0.0.1:{server.port}/raw", asking).patterns("P36")


def test_a_raw_url_is_not_asked_for_relations_that_pararel_does_not_have(tmp_path: Path) -> None:
    with Scripted(b"") as server, asker(tmp_path) as asking:
        assert Files(f"http://127.0.0.1:{server.port}/raw", asking).patterns("P99999") == []
    assert server.requests == []


def test_broken_local_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a folder"):
        Files(str(tmp_path / "absent"), None)
    (tmp_path / "P36.jsonl").write_text('{"pattern": "[X] [Y]"}\n{"pattern": 3}\n')
    with pytest.raises(DataError, match=r"P36\.jsonl:2: expected text under 'pattern', got 3"):
        Files(str(tmp_path), None).patterns("P36")


def test_the_home_of_pararel_is_a_fixed_commit() -> None:
    assert (
        PARAREL.startswith("https://raw.githubusercontent.com/yanaiela/pararel/") and len(PARAREL.split("/")[-1]) == 40
    )


def test_patterns_that_nobody_checked_are_used_where_there_are_too_few_others(tmp_path: Path) -> None:
    rows = [("la capitale de [X] est [Y]", True), ("la majuscule de [X] est [Y]", False), ("[X] a [Y]", False)]
    rows += [("[Y] est la capitale de [X]", True), ("[X] a pour capitale [Y].", True), ("[X] nomme [Y]", False)]
    folder = tmp_path / "patterns" / "fr"
    folder.mkdir(parents=True)
    lines = (json.dumps({"pattern": text, "checked-by-human": checked}) + "\n" for text, checked in rows)
    (folder / "P36.jsonl").write_text("".join(lines), encoding="utf-8")
    files = Files(str(tmp_path), None, "fr")
    kept, refused = templates("P36", files.patterns("P36"), files.patterns("P36", unchecked=True))
    assert [one.text for one in kept] == [
        "la capitale de {} est",
        "{} a pour capitale",
        "la majuscule de {} est",
    ]
    assert {one.pattern: one.reason for one in refused} == {
        "[Y] est la capitale de [X]": "the object does not come last",
        "[X] a [Y]": "is not checked by a human, and there are enough that are",
        "[X] nomme [Y]": "is not checked by a human, and there are enough that are",
    }


def test_patterns_of_scripts_without_spaces_need_none() -> None:
    kept, refused = templates("P36", ["[X]の首都は[Y]です", "[X]的首都是[Y]。", "[Y]は[X]の首都です", "[X] is[Y]"])
    assert [one.text for one in kept] == ["{}の首都は", "{}的首都是"]
    assert [one.reason for one in refused] == ["the object does not come last", "no space comes before the object"]
