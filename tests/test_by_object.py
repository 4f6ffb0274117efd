"""A relation that is too large for the service to scan: fetched by object, the same again, and it says how."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from huge import EXTRA, FIRST_OBJECT, FIRST_SUBJECT, HUGE, MOST, OTHER_OBJECT, SIZE, SMALL, Huge, number_of, objects_of
from typer.testing import CliRunner

from cfbuild.cli import app
from cfbuild.data import Fact
from cfbuild.errors import BuildStateError, ConfigError, DataError, SourceError
from cfbuild.pipeline.fetch import FetchOptions, fetch
from cfbuild.pipeline.rebuild import rebuild
from cfbuild.sources.by_object import LEAST_SHARE, even_share
from cfbuild.sources.http import Client
from cfbuild.sources.objects import BUNDLED, SUBJECTS, TUPLES, bundled, read_ids
from cfbuild.sources.snapshot import rows as snapshot_rows
from cfbuild.sources.source import CENSUS
from cfbuild.store.codec import decode_fact
from cfbuild.store.folder import BuildFolder
from cfbuild.store.jsonl import read_values

TOTAL = SIZE + SIZE // EXTRA
NEEDED = 600


@pytest.fixture(autouse=True)
def no_sleep() -> Iterator[None]:
    with mock.patch.dict(Client.__init__.__kwdefaults__, {"sleep": lambda seconds: None}):
        yield


@pytest.fixture
def server() -> Iterator[Huge]:
    with Huge() as served:
        yield served


@pytest.fixture
def options(server: Huge) -> FetchOptions:
    return FetchOptions(endpoint=server.url, relations=(HUGE, SMALL), per_relation=40, seed=3)


def facts_of(root: Path, relation: str = HUGE) -> list[Fact]:
    found = [fact for fact in read_values(root / "facts.jsonl", decode_fact) if fact.relation == relation]
    assert len(found) == len(set(found))
    return found


def assert_whole_subjects(facts: list[Fact]) -> None:
    """Check that every fact is one of the service's, and that each subject has all of its objects."""
    by_subject: dict[int, list[int]] = {}
    for fact in facts:
        by_subject.setdefault(int(fact.subject[1:]), []).append(int(fact.object[1:]))
    assert by_subject == {subject: objects_of(subject) for subject in by_subject}


def test_a_sample_of_a_relation_too_large_to_scan_is_fetched_by_object(
    server: Huge, options: FetchOptions, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = dataclasses.replace(options, per_relation=NEEDED)
    with caplog.at_level(logging.WARNING):
        summary = fetch(BuildFolder(tmp_path), options)
    facts = facts_of(tmp_path)
    assert summary.facts == {HUGE: NEEDED, SMALL: 30} and len(facts) == NEEDED
    assert_whole_subjects(facts)
    values = Counter(int(fact.object[1:]) for fact in facts)
    assert len(values) >= NEEDED // LEAST_SHARE and max(values.values()) <= 3 * LEAST_SHARE
    chosen = summary.chosen[HUGE]
    assert chosen.of_facts == TOTAL and chosen.of_each is not None and set(chosen.objects) == {SUBJECTS}
    assert set(chosen.only_first) == {f"Q{FIRST_OBJECT + place}" for place in range(5)} and not chosen.refused
    entry = json.loads((tmp_path / "manifest.json").read_text())["verbs"]["fetch"]
    assert entry["chosen"][HUGE]["objects"] == dict(chosen.objects)
    assert f"{HUGE} has 20,020,000 facts, too many for" in caplog.text and "facts of each of" in caplog.text
    assert len(server.timed_out) == 1 and all("GROUP BY" in query for query in server.timed_out)
    assert fetch(BuildFolder(tmp_path), options).chosen == summary.chosen


def test_the_same_seed_chooses_the_same_and_another_others(options: FetchOptions, tmp_path: Path) -> None:
    found = []
    for number, seed in enumerate((3, 3, 4)):
        fetch(BuildFolder(tmp_path / str(number)), dataclasses.replace(options, seed=seed))
        found.append((tmp_path / str(number) / "facts.jsonl").read_bytes())
    assert found[0] == found[1] != found[2]


def test_an_interrupted_fetch_by_object_ends_with_the_same_bytes_and_asks_nothing_twice(
    server: Huge, options: FetchOptions, tmp_path: Path
) -> None:
    fetch(BuildFolder(tmp_path / "whole"), options)
    total = server.asked.total()
    server.asked.clear()

    class Stopping(Client):
        """A client that is interrupted after so many requests."""

        most = 0

        def answer(self, *given: Any, **named: Any) -> Any:
            if self.sent >= self.most:
                raise KeyboardInterrupt
            return super().answer(*given, **named)

    for Stopping.most in (1, 2, 3, total // 3, 2):
        with mock.patch("cfbuild.sources.http.Client", Stopping), pytest.raises(KeyboardInterrupt):
            fetch(BuildFolder(tmp_path / "stopped"), options)
        assert not (tmp_path / "stopped" / "facts.jsonl").exists()
    fetch(BuildFolder(tmp_path / "stopped"), options)
    again = {query: times for query, times in server.asked.items() if times > 1 and query not in server.timed_out}
    assert sum(again.values()) <= 6, "but for the count that shows that the service is well"
    for name in ("facts.jsonl", "entities.jsonl"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "stopped" / name).read_bytes()


def test_named_objects_come_whole_where_the_service_manages_them(
    server: Huge, options: FetchOptions, tmp_path: Path
) -> None:
    names = tmp_path / "classes.txt"
    names.write_text("# of the huge relation\nQ22 one class\nQ24\n\nQ4  # no object\nQ23\tanother\n")
    all_facts = dataclasses.replace(options, per_relation=None, relations=(HUGE,), objects=str(names))
    summary = fetch(BuildFolder(tmp_path / "b"), all_facts)
    facts = facts_of(tmp_path / "b")
    assert_whole_subjects(facts)
    counts = Counter(fact.object for fact in facts)
    assert set(counts) == {"Q22", "Q23", "Q24", f"Q{OTHER_OBJECT}"}
    assert all(counts[f"Q{one}"] == number_of(one) for one in (22, 23, 24))
    chosen = summary.chosen[HUGE]
    assert chosen.objects == {"the file classes.txt": 3} and chosen.of_each is None and not chosen.only_first
    config = BuildFolder(tmp_path / "b").manifest().entry("fetch").config
    assert config["objects"].startswith("classes.txt@")
    made = rebuild(BuildFolder(tmp_path / "b").manifest().verbs)
    assert "./classes.txt" in made.commands[0] and any("the ids of objects" in note for note in made.notes)
    names.write_text("Q22\n")
    with pytest.raises(BuildStateError, match="objects"):
        fetch(BuildFolder(tmp_path / "b"), all_facts)


def test_an_object_with_too_many_facts_gives_its_first_page_or_is_refused(
    tmp_path: Path,
) -> None:
    names = tmp_path / "classes.txt"
    names.write_text("Q10\nQ11\nQ25\n")
    for strict in (False, True):
        with Huge(strict) as server:
            options = FetchOptions(endpoint=server.url, relations=(HUGE,), per_relation=100, objects=str(names))
            root = tmp_path / str(strict)
            summary = fetch(BuildFolder(root), options)
        counts = Counter(fact.object for fact in facts_of(root))
        chosen = summary.chosen[HUGE]
        assert_whole_subjects(facts_of(root))
        assert counts["Q25"] > 20 and (counts["Q10"] > 20) != strict
        too_large = ["Q10", "Q11"]
        assert (sorted(chosen.only_first), sorted(chosen.refused)) == (([], too_large) if strict else (too_large, []))
        assert ("Q10" in str(chosen)) and number_of(10) > MOST


def test_a_relation_of_which_no_object_is_known_says_what_to_do(options: FetchOptions, tmp_path: Path) -> None:
    names = tmp_path / "classes.txt"
    names.write_text("Q4\nQ5\n")
    with pytest.raises(SourceError, match=r"none of a known object.*--objects"):
        fetch(BuildFolder(tmp_path / "b"), dataclasses.replace(options, objects=str(names)))


def test_where_the_service_counts_the_facts_of_each_object_these_are_the_objects(tmp_path: Path) -> None:
    """Take the objects of a service that manages the census, but no range of hashes of an object with many facts."""
    with Huge(groups=True) as server:
        options = FetchOptions(endpoint=server.url, relations=(HUGE,), per_relation=40)
        chosen = fetch(BuildFolder(tmp_path), options).chosen[HUGE]
        assert not any("COUNT(*) AS ?n) WHERE { VALUES" in query.partition("UNION")[0] for query in server.asked)
    assert set(chosen.objects) == {CENSUS} and len(facts_of(tmp_path)) == 40
    assert_whole_subjects(facts_of(tmp_path))


def test_pararels_tuples_name_objects(options: FetchOptions, tmp_path: Path) -> None:
    for folder in ("tuples/en", "patterns/en"):
        (tmp_path / "mine" / folder).mkdir(parents=True)
    row = {"sub_uri": f"Q{FIRST_SUBJECT + 1}", "obj_uri": "Q22", "sub_label": "one", "obj_label": "many"}
    (tmp_path / "mine" / "tuples" / "en" / f"{HUGE}.jsonl").write_text(json.dumps(row) + "\n")
    named = dataclasses.replace(options, pararel=str(tmp_path / "mine"), relations=(HUGE,), per_relation=20)
    chosen = fetch(BuildFolder(tmp_path / "b"), named).chosen[HUGE]
    assert chosen.objects == {TUPLES: 1}
    assert {fact.object for fact in facts_of(tmp_path / "b")} <= {"Q22", f"Q{OTHER_OBJECT}"}


def test_an_outage_is_not_taken_for_a_relation_that_is_too_large(
    server: Huge, options: FetchOptions, tmp_path: Path
) -> None:
    """Answer nothing for a while after the first count: the fetch fails, and goes on as if nothing had been."""
    fetch(BuildFolder(tmp_path / "whole"), options)
    down = mock.patch.object(server, "answer", side_effect=lambda query: (_ for _ in ()).throw(TimeoutError(query)))
    assert server.asked
    server.asked.clear()

    def stop(number: int) -> None:
        if number == 2:
            down.start()

    server.before = stop
    with pytest.raises(SourceError):
        fetch(BuildFolder(tmp_path / "b"), options)
    down.stop()
    server.before = lambda number: None
    fetch(BuildFolder(tmp_path / "b"), options)
    assert (tmp_path / "whole" / "facts.jsonl").read_bytes() == (tmp_path / "b" / "facts.jsonl").read_bytes()


@pytest.mark.parametrize("needed", [1, 50, 100, 333, 1000, 5000])
def test_shares_are_even_and_fill_the_sample(needed: int) -> None:
    numbers = [3, 26, 40, 500, 2000]
    share = even_share(numbers, needed)
    assert share >= LEAST_SHARE
    got = sum(min(number, share) for number in numbers)
    assert got >= min(needed, sum(numbers))
    assert share == LEAST_SHARE or sum(min(number, share - 1) for number in numbers) < needed


def test_bundled_objects_are_those_of_the_relation_or_of_all() -> None:
    assert bundled("P17") == {row.object for row in snapshot_rows() if row.relation == "P17"}
    assert {"Q35657", "Q3504248"} <= bundled("P31")
    assert bundled("P1532") >= bundled("P17") | bundled("P106")


@pytest.mark.parametrize(
    ("text", "message"),
    [("Q1\nhouse\n", r"ids\.txt:2"), ("# none\n", "holds no item id"), ("P31\n", r"ids\.txt:1"), ("Q0\n", r":1")],
)
def test_a_file_of_objects_that_is_none_is_named_with_its_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_ids(path)
    with pytest.raises(DataError, match=message):
        fetch(BuildFolder(tmp_path / "b"), FetchOptions(endpoint="http://127.0.0.1:9/", objects=str(path)))
    assert not (tmp_path / "b").exists()


def test_a_file_of_objects_is_refused_where_it_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a file"):
        read_ids(tmp_path / "absent")
    (tmp_path / "ids.txt").write_text("Q1\n")
    with pytest.raises(ConfigError, match="fetches nothing by object"):
        fetch(BuildFolder(tmp_path / "b"), FetchOptions(source="snapshot", objects=str(tmp_path / "ids.txt")))


def test_the_command_says_how_a_part_was_chosen(server: Huge, tmp_path: Path) -> None:
    words = ["fetch", "--endpoint", server.url, "--relations", f"{HUGE},{SMALL}", "--per-relation", "60", "--seed", "1"]
    shown = CliRunner().invoke(app, [*words, "--build", str(tmp_path / "b")], catch_exceptions=False)
    assert shown.exit_code == 0
    assert f"{HUGE}, too large to scan: at most" in shown.stdout and BUNDLED not in shown.stdout
    as_json = CliRunner().invoke(app, [*words, "--build", str(tmp_path / "b"), "--json"], catch_exceptions=False)
    assert json.loads(as_json.stdout)["chosen"][HUGE]["of_facts"] == TOTAL
