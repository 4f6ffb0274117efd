"""Kinds of questions made on request: what each asks, that its answers follow from facts, and what an audit finds."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_world import item, write_build, write_excerpt

from cfbuild.audit.evidence import AuditContext
from cfbuild.audit.group_answers import CHECKS, wrong_answer
from cfbuild.audit.row import parts_of
from cfbuild.data import Fact, Record, Target, Template
from cfbuild.errors import ConfigError
from cfbuild.facts.graph import FactGraph
from cfbuild.filter.context import RuleContext, Rules
from cfbuild.pipeline.audit import AuditOptions, AuditSummary, audit
from cfbuild.records.fact_lookup import FactLookup
from cfbuild.records.factset import read_facts
from cfbuild.records.groups import GROUPS, prompt_groups
from cfbuild.records.kinds import KINDS, chosen_kinds
from cfbuild.records.kinds.choices import LETTERS
from cfbuild.records.maker import RecordMaker
from cfbuild.store import codec, jsonl
from cfbuild.store.folder import BuildFolder

Row = dict[str, Any]


@pytest.fixture(scope="module")
def maker(excerpt: Path, tmp_path_factory: pytest.TempPathFactory) -> RecordMaker:
    """Return a maker of the excerpt's facts that allows subjects of several objects and all kinds of questions."""
    facts = read_facts(write_excerpt(tmp_path_factory.mktemp("excerpt"), excerpt))
    return RecordMaker(facts, Rules(allow_several=True), groups=["all"], seed=0)


@pytest.fixture(scope="module")
def records(maker: RecordMaker) -> list[Record]:
    """Records of each of the excerpt's relations, with all kinds of questions."""
    return list(maker.make(per_relation=10).records)


@pytest.fixture(scope="module")
def build(maker: RecordMaker, tmp_path_factory: pytest.TempPathFactory) -> BuildFolder:
    facts = maker.facts
    root = tmp_path_factory.mktemp("kinds")
    return BuildFolder(write_build(root, facts.facts, facts.entities, facts.templates))


def audited(path: Path, build: BuildFolder | None = None, **options: Any) -> AuditSummary:
    return audit(AuditOptions(path, build, allow_several=True, **options))


def prompts_of_kind(records: list[Record], kind: str) -> list[tuple[Record, Any]]:
    return [(record, one) for record in records for one in record.groups.get(kind, ())]


def test_the_excerpt_gives_every_kind(records: list[Record]) -> None:
    count = Counter(kind for record in records for kind in record.groups)
    # Its facts do not lead on three times from both objects, have no dates and no changes.
    assert [kind for kind in KINDS if not count[kind]] == ["unchanged_facts", "time_travel", "chains"], count


def check_clean(records: list[Record], path: Path, build: BuildFolder | None) -> None:
    jsonl.write_jsonl(path, map(codec.encode_record, records))
    summary = audited(path, build)
    assert {name: found.examples for name, found in summary.rules.items()} == {}
    assert summary.rows == len(records)


def test_an_audit_finds_nothing_in_records_of_all_kinds(
    records: list[Record], build: BuildFolder, tmp_path: Path
) -> None:
    for known in (build, None):
        check_clean(records, tmp_path / "records.jsonl", known)


@pytest.mark.long
def test_an_audit_finds_nothing_in_a_thousand_records_of_all_kinds(
    maker: RecordMaker, build: BuildFolder, tmp_path: Path
) -> None:
    records = list(maker.make(per_relation=40).records)
    assert len(records) >= 1_000
    check_clean(records, tmp_path / "records.jsonl", build)


def test_exchanged_answers_are_found(records: list[Record], build: BuildFolder, tmp_path: Path) -> None:
    """Exchange them in up to twenty rows of each kind: all are found, and mending leaves out the questions alone."""
    rows: list[Row] = []
    for kind in (each for each in CHECKS if each != "chains"):
        planted = [codec.encode_record(record) for record in records if kind in record.groups][:20]
        assert planted, kind
        for row in planted:
            prompts = row["meta"]["groups"][kind]
            row["case_id"], row["meta"]["groups"] = len(rows), {kind: prompts}
            for prompt in prompts:
                prompt["target_new"], prompt["target_true"] = prompt["target_true"], prompt["target_new"]
            rows.append(row)
    jsonl.write_jsonl(tmp_path / "rows.jsonl", rows)
    summary = audited(tmp_path / "rows.jsonl", build)
    assert summary.rules["wrong-answer"].rows == len(rows)
    audited(tmp_path / "rows.jsonl", build, fix=tmp_path / "fixed.jsonl")
    assert "wrong-answer" not in audited(tmp_path / "fixed.jsonl", build).rules


def test_exchanged_answers_that_the_row_tells_are_found_without_a_build(records: list[Record], tmp_path: Path) -> None:
    for kind in ("yes_no", "multiple_choice", "object_aliases"):
        rows = [codec.encode_record(record) for record in records if kind in record.groups][:20]
        for row in rows:
            for prompt in row["meta"]["groups"][kind]:
                prompt["target_new"], prompt["target_true"] = prompt["target_true"], prompt["target_new"]
        jsonl.write_jsonl(tmp_path / "rows.jsonl", rows)
        assert audited(tmp_path / "rows.jsonl").rules["wrong-answer"].rows == len(rows)


def test_options_are_four_and_every_letter_is_right_as_often(records: list[Record]) -> None:
    found = prompts_of_kind(records, "multiple_choice")
    letters = Counter(prompt.target_new.label for _, prompt in found)
    assert set(letters) == set(LETTERS) and max(letters.values()) < 1.5 * min(letters.values())
    for record, prompt in found:
        assert prompt.text.startswith(record.rewrite) and all(f"{letter}: " in prompt.text for letter in LETTERS)


def test_yes_and_no_are_right_as_often(records: list[Record]) -> None:
    for kind in ("yes_no", "same_entity"):
        answers = Counter(one.target_new.label for _, one in prompts_of_kind(records, kind))
        assert set(answers) == {"Yes", "No"}
    assert Counter(one.target_new.label for _, one in prompts_of_kind(records, "yes_no"))["Yes"] * 2 == len(
        prompts_of_kind(records, "yes_no")
    )


def test_chains_have_three_and_four_facts() -> None:
    names = ("Ann", "France", "Italy", "Paris", "Rome", "Max", "Leo", "French", "Greek")
    entities = [item(number, name) for number, name in enumerate(names, 1)]
    triples = [("P27", 1, 2), ("P36", 2, 4), ("P36", 3, 5), ("P6", 4, 6), ("P6", 5, 7), ("P103", 6, 8), ("P103", 7, 9)]
    texts = {
        "P27": "The country of {} is",
        "P36": "The capital of {} is",
        "P6": "The mayor of {} is",
        "P103": "{} speaks",
    }
    graph = FactGraph([Fact(relation, f"Q{s}", f"Q{o}") for relation, s, o in triples], entities)
    lookup = FactLookup(
        graph, lambda name: [Template(name, "rewrite", texts[name], "test")] if name in texts else [], lambda fact: True
    )
    ann, france, italy = (Target(f"Q{number}", names[number - 1]) for number in (1, 2, 3))
    record = Record(1, "P27", Template("P27", "rewrite", texts["P27"], "test"), ann, france, italy, (), (), (), ())
    made = prompt_groups(record, lookup, ["chains"], KINDS)["chains"]
    assert [(prompt.text, prompt.target_new.label, prompt.target_true.label) for prompt in made] == [
        ("The mayor of the capital of the country of Ann is", "Leo", "Max"),
        ("The mayor of the capital of the country of Ann speaks", "Greek", "French"),
    ]
    row = codec.encode_record(replace(record, groups={"chains": made}))
    parts, context = parts_of(row), AuditContext(rules=RuleContext(graph, {}))
    assert parts is not None and list(wrong_answer(parts, context)) == []
    for prompt in row["meta"]["groups"]["chains"]:
        prompt["target_new"], prompt["target_true"] = prompt["target_true"], prompt["target_new"]
    assert len(list(wrong_answer(parts_of(row) or parts, context))) == 2
    # Without a single mayor of Rome there is no third fact.
    fewer = FactGraph([*graph.facts, Fact("P6", "Q5", "Q6")], entities)
    assert not prompt_groups(record, replace(lookup, graph=fewer), ["chains"], KINDS)


def test_kinds_are_chosen_by_name_or_all_together(maker: RecordMaker) -> None:
    assert chosen_kinds(["all"]) == tuple(KINDS) and chosen_kinds(["yes_no", "two_hop"]) == ("two_hop", "yes_no")
    assert RecordMaker(maker.facts).groups == tuple(GROUPS)
    with pytest.raises(ConfigError, match="no prompt group riddle"):
        RecordMaker(maker.facts, groups=["riddle"])


def test_rows_with_values_of_any_type_are_no_fault_of_ours(records: list[Record], tmp_path: Path) -> None:
    row = next(codec.encode_record(one) for one in records if "yes_no" in one.groups)
    for value in (None, 1, [], {}, "x"):
        broken = copy.deepcopy(row)
        broken["meta"]["groups"]["yes_no"][0]["target_new"] = value
        jsonl.write_jsonl(tmp_path / "rows.jsonl", [broken])
        audited(tmp_path / "rows.jsonl")
