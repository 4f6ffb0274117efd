"""The audit: every planted fault is found, nothing is found in clean records, and a fixed file is clean."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ExcerptBuild
from planted import (
    AGAINST_FACTS,
    FAULTS,
    IN_GROUPS,
    IN_META,
    KNOWN,
    _second_edit,
    clean_rows,
    clean_world,
    plain,
    planted,
)
from small_world import write_build
from test_updates import PLANTS as CHANGED
from typer.testing import CliRunner

from cfbuild.audit.rulebook import AUDIT_RULES, VIOLATION_RULES
from cfbuild.audit.validate import violations
from cfbuild.cli import app
from cfbuild.errors import ConfigError, DataError
from cfbuild.filter.changed import CHANGE_RULES
from cfbuild.filter.rules import FACT_RULES, TARGET_RULES
from cfbuild.pipeline.audit import AuditOptions, AuditSummary, audit
from cfbuild.pipeline.generate import GenerateOptions, generate
from cfbuild.publish.formats import EXPORTERS, knowedit
from cfbuild.store import codec, jsonl
from cfbuild.store.folder import BuildFolder

CLEAN = 1000
Row = dict[str, Any]
Plant = Callable[[Row], None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> BuildFolder:
    graph, prompts = clean_world()
    return BuildFolder(write_build(tmp_path_factory.mktemp("world"), graph.facts, graph.entities.values(), prompts))


@pytest.fixture(scope="module")
def clean() -> list[Row]:
    rows = clean_rows(*clean_world(), CLEAN)
    assert len(rows) == CLEAN
    return rows


def audited(path: Path, rows: list[Row], build: BuildFolder | None = None, **options: Any) -> AuditSummary:
    jsonl.write_jsonl(path / "rows.jsonl", rows)
    return audit(AuditOptions(path / "rows.jsonl", build, **options))


@pytest.mark.parametrize("form", ["ours", "plain"])
@pytest.mark.parametrize("known", [False, True])
def test_clean_records_have_no_finding(
    tmp_path: Path, clean: list[Row], folder: BuildFolder, form: str, known: bool
) -> None:
    rows = clean if form == "ours" else [plain(row) for row in clean]
    limits = {"min_sitelinks": KNOWN} if known else {}
    summary = audited(tmp_path, rows, folder if known else None, **limits)
    assert (summary.rows, summary.faulty, summary.rules) == (CLEAN, 0, {})
    assert summary.known == (CLEAN if known else None)


@pytest.mark.parametrize(("rule", "plant"), FAULTS, ids=[f"{n}-{rule}" for n, (rule, _) in enumerate(FAULTS)])
@pytest.mark.parametrize("form", ["ours", "plain"])
def test_every_fault_that_a_row_alone_shows_is_found(
    tmp_path: Path, clean: list[Row], form: str, rule: str, plant: Plant
) -> None:
    rows = [planted(row if form == "ours" else plain(row), plant) for row in clean[:100]]
    assert audited(tmp_path, rows).rules[rule].rows == len(rows)


@pytest.mark.parametrize(("rule", "plant"), IN_GROUPS)
def test_every_fault_of_the_groups_is_found_and_mended(
    tmp_path: Path, clean: list[Row], rule: str, plant: Plant
) -> None:
    rows = [planted(row, plant) for row in clean[:100]]
    summary = audited(tmp_path, rows)
    assert {name: one.rows for name, one in summary.rules.items()} == {rule: len(rows)}
    fixed = audit(AuditOptions(tmp_path / "rows.jsonl", fix=tmp_path / "fixed.jsonl"))
    assert fixed.written == len(rows) and list(violations(tmp_path / "fixed.jsonl")) == []
    assert audit(AuditOptions(tmp_path / "fixed.jsonl")).rules == {}


@pytest.mark.parametrize(("rule", "plant"), IN_META)
def test_every_fault_of_meta_is_found_and_mended(tmp_path: Path, clean: list[Row], rule: str, plant: Plant) -> None:
    rows = [planted(row, plant) for row in clean[:20]]
    assert audited(tmp_path, rows).rules[rule].rows == len(rows)
    fixed = audit(AuditOptions(tmp_path / "rows.jsonl", fix=tmp_path / "fixed.jsonl"))
    # Of a prompt without its entry in `meta` nothing tells which it is.
    assert fixed.written == (0 if rule == "meta-length" else len(rows))
    if fixed.written:
        assert list(violations(tmp_path / "fixed.jsonl")) == []
        assert audit(AuditOptions(tmp_path / "fixed.jsonl")).rules == {}


@pytest.mark.parametrize(("rule", "plant"), AGAINST_FACTS)
def test_every_fault_that_only_the_facts_show_is_found(
    tmp_path: Path, clean: list[Row], folder: BuildFolder, rule: str, plant: Plant
) -> None:
    rows = [planted(row, plant) for row in clean[:100]]
    limits = {"min_sitelinks": KNOWN} if rule == "popularity" else {}
    assert audited(tmp_path, rows, folder, **limits).rules[rule].rows == len(rows)


def test_every_rule_has_a_planted_fault() -> None:
    found = {rule for rule, _ in (*FAULTS, *IN_META, *IN_GROUPS, *AGAINST_FACTS)} | {"target-contains"}
    # `article` and the record's own prompts say what `target-article` and `too-few-templates` say of templates.
    assert {*FACT_RULES, *TARGET_RULES} - {"target-article", "too-few-templates"} <= found
    # Those for records about changes, and for prompts about the past, are planted in files of their own.
    found |= {rule for rule, *_ in CHANGED} | {"past-answer"}
    assert {*VIOLATION_RULES, *AUDIT_RULES, *CHANGE_RULES} <= found


def test_every_rule_is_on_the_page_about_quality() -> None:
    page = (Path(__file__).parents[1] / "docs" / "quality.md").read_text(encoding="utf-8")
    rows = page[page.index("## What an audit finds") : page.index("## How many neighbors")].splitlines()
    assert {name for row in rows if row.startswith("| ") for name in row.split(" | ")[0][2:].split(", ")} >= {
        *VIOLATION_RULES,
        *AUDIT_RULES,
    }


KNOWEDIT = {
    "subject": "Danielle Darrieux",
    "prompt": "The mother tongue of Danielle Darrieux is",
    "target_new": [["English"]],
    "ground_truth": [["French"]],
    "rephrase": "Danielle Darrieux, a native",
    "portability": {
        "Reasoning": [{"prompt": "The first language of Danielle Darrieux comes from", "ground_truth": "x"}]
    },
    "locality": {
        "Relation_Specificity": [
            {"prompt": "The place of birth of Danielle Darrieux is", "ground_truth": [["Bordeaux", "Bourdeaux"]]},
            {"prompt": "The gender of Danielle Darrieux is", "ground_truth": [["female"]]},
        ],
        "Forgetfulness": [{"prompt": "Danielle Darrieux worked as an", "ground_truth": [["actress"]]}],
    },
}


@pytest.mark.parametrize(
    ("kind", "change", "rule"),
    [
        ("Relation_Specificity", {}, None),
        ("Relation_Specificity", {"prompt": "The gender of Danielle Darrieux is"}, "duplicate-prompt"),
        ("Forgetfulness", {"prompt": KNOWEDIT["prompt"]}, "own-prompt"),
        ("Forgetfulness", {"prompt": "The actress Danielle Darrieux works as an"}, "answer-in-prompt"),
        ("Forgetfulness", {"prompt": "Danielle Darrieux worked as a"}, "article"),
        ("Relation_Specificity", {"ground_truth": [["Q1479"]]}, "qid-label"),
        ("Relation_Specificity", {"ground_truth": "Bordeaux (city)"}, "label-noise"),
    ],
)
def test_faults_in_knowedits_locality_are_found_and_mended(
    tmp_path: Path, kind: str, change: Row, rule: str | None
) -> None:
    row = copy.deepcopy(KNOWEDIT)
    row["locality"][kind][0].update(change)
    summary = audited(tmp_path, [row])
    assert list(summary.rules) == ([] if rule is None else [rule])
    fixed = audit(AuditOptions(tmp_path / "rows.jsonl", fix=tmp_path / "fixed.jsonl"))
    assert (fixed.written, fixed.dropped) == (1, 0)
    (kept,) = (one for _, one in jsonl.read_rows(tmp_path / "fixed.jsonl"))
    count = sum(map(len, kept["locality"].values()))
    assert count == (3 if rule is None else 2) and audit(AuditOptions(tmp_path / "fixed.jsonl")).rules == {}


def test_our_own_knowedit_export_is_clean(tmp_path: Path, clean: list[Row]) -> None:
    rows = [knowedit(codec.decode_record(row)) for row in clean[:50]]
    assert audited(tmp_path, rows).rules == {}


def test_a_container_of_the_true_object_is_no_false_one(tmp_path: Path, clean: list[Row], folder: BuildFolder) -> None:
    rows = [row for row in clean if row["requested_rewrite"]["target_true"]["id"] == "Q11"][:50]
    norway = {"str": "Norway", "id": "Q90"}
    wide = [planted(row, lambda copied: copied["requested_rewrite"].update(target_new=dict(norway))) for row in rows]
    assert audited(tmp_path, wide, folder).rules["target-contains"].rows == len(rows)


def test_conflicting_edits_and_repeated_case_ids_are_found(tmp_path: Path, clean: list[Row]) -> None:
    rows = clean[:100]
    summary = audited(tmp_path, [*rows, *(planted(row, _second_edit) for row in rows)])
    assert {rule: entry.rows for rule, entry in summary.rules.items()} == {"conflicting-edits": 100}
    again = audited(tmp_path, [*rows, rows[0]])
    assert {rule: entry.rows for rule, entry in again.rules.items()} == {"conflicting-edits": 1, "duplicate-case-id": 1}


@pytest.mark.parametrize("form", ["ours", "plain"])
@pytest.mark.parametrize("array", [False, True])
def test_a_fixed_file_is_clean_and_says_what_changed(tmp_path: Path, clean: list[Row], form: str, array: bool) -> None:
    whole = [row if form == "ours" else plain(row) for row in clean[: len(FAULTS)]]
    rows = [planted(row, plant) for row, (_, plant) in zip(whole, FAULTS, strict=True)]
    source, target = tmp_path / "in.json", tmp_path / "out.json"
    if array:
        source.write_text(json.dumps(rows), encoding="utf-8")
    else:
        jsonl.write_jsonl(source, rows)
    summary = audit(AuditOptions(source, fix=target, fix_guesses=True))
    assert summary.written is not None and 0 < summary.written < len(rows)
    assert summary.written + (summary.dropped or 0) == len(rows)
    assert (target.read_text(encoding="utf-8")[0] == "[") is array
    again = audit(AuditOptions(target))
    assert (again.rows, again.rules) == (summary.written, {})
    assert list(violations(target)) == []
    notes = list(jsonl.read_rows(tmp_path / "out.json.changes.jsonl"))
    assert {note["change"] for _, note in notes} == {"drop-row", "remove-prompt", "remove-prefix", "remove-repeats"}
    assert len({note["case_id"] for _, note in notes}) == len(rows)


EDIT = {
    "case_id": 7,
    "prompt": "The mother tongue of Danielle Darrieux is",
    "subject": "Danielle Darrieux",
    "target_new": "English",
    "ground_truth": ["French", "français"],
    "rephrase_prompt": "It rained for hours. Danielle Darrieux, a native",
    "locality_prompt": "Michel Rocard is a native speaker of",
    "locality_ground_truth": "French",
}


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({}, None),
        (
            {"rephrase_prompt": ["Danielle Darrieux speaks", "She spoke the language of Danielle Darrieux, which is"]},
            None,
        ),
        ({"rephrase_prompt": "No one was injured.  v"}, "lacks-subject"),
        ({"rephrase_prompt": "and Riley. Danielle Darrieux, a native"}, "prefix-fragment"),
        ({"prompt": "The mother tongue is"}, "lacks-subject"),
        ({"target_new": "french"}, "same-targets"),
        ({"ground_truth": "Q150"}, "qid-label"),
        ({"prompt": "Danielle Darrieux is an", "target_new": "singer", "ground_truth": "actor"}, "article"),
    ],
)
def test_faults_in_easyedits_rows_are_found(tmp_path: Path, change: Row, rule: str | None) -> None:
    summary = audited(tmp_path, [{**EDIT, **change}])
    assert list(summary.rules) == ([] if rule is None else [rule])


def test_rows_of_no_known_format_are_found_and_empty_files_refused(tmp_path: Path) -> None:
    assert list(audited(tmp_path, [{"text": "hello"}]).rules) == ["row-format"]
    with pytest.raises(DataError, match="holds no rows"):
        audited(tmp_path, [])
    with pytest.raises(ConfigError, match="another name"):
        AuditOptions(tmp_path / "a", fix=tmp_path / "a")
    with pytest.raises(ConfigError, match="at least 1"):
        AuditOptions(tmp_path / "a", max_per_entity=0)


def test_the_command_prints_a_table_or_json_and_exits_with_1_after_a_fault(tmp_path: Path, clean: list[Row]) -> None:
    jsonl.write_jsonl(tmp_path / "good.jsonl", clean[:5])
    jsonl.write_jsonl(tmp_path / "bad.jsonl", [planted(row, FAULTS[0][1]) for row in clean[:5]])
    run = CliRunner().invoke
    good = run(app, ["audit", str(tmp_path / "good.jsonl"), "-q"])
    assert (good.exit_code, good.stdout.strip()) == (0, "5 of 5 rows have no fault")
    bad = run(app, ["audit", str(tmp_path / "bad.jsonl"), "-q"])
    assert bad.exit_code == 1 and "lacks-subject" in bad.stdout
    found = json.loads(run(app, ["audit", str(tmp_path / "bad.jsonl"), "-q", "--json"]).stdout)
    assert found["rules"]["lacks-subject"]["rows"] == 5
    fixed = run(app, ["audit", str(tmp_path / "bad.jsonl"), "-q", "--fix", str(tmp_path / "fixed.jsonl")])
    assert fixed.exit_code == 0 and len(list(jsonl.read_rows(tmp_path / "fixed.jsonl"))) == 5


SAME_BEGINNING = [
    ["People in Florida speak", "People in Malta speak", "People in Peru speak the language"],
    ["Game Boy Advance was developed by", "Game Boy Advance SP, a product of", "Game Boy Advance Wireless is made by"],
    ["Game Boy Advance was developed by", "Wii U was developed by", "Game Boy Advance SP was developed by"],
    ["New York is in", "New Delhi is in", "New Zealand, located in", "York, located in", "Delhi, located in"],
    ["Bank of America is based in", "Bank of England is based in", "America, based in", "England is based in"],
    ["Paris is in", "Paris, Texas is in", "Austin, Texas is in"],
    ["Residents of Florida speak", "Residents of Malta speak", "Students of Florida State use"],
    ["Something like jazz is a kind of", "Something like blues is a kind of", "Something like tango is a form of"],
    ["Love was performed by", "Love is all around came out on the label", "Help! was performed by"],
    ["Halo 2 was made by", "Halo 3 was made by", "Halo, made by", "Halo Wars, a game by"],
    ["The capital of Peru is", "The capital of Chad is", "The currency of Peru Republic is"],
]


@pytest.mark.parametrize("prompts", SAME_BEGINNING)
@pytest.mark.parametrize("group", ["neighborhood_prompts", "attribute_prompts"])
def test_what_prompts_begin_with_is_not_taken_for_an_entity(
    tmp_path: Path, clean: list[Row], prompts: list[str], group: str
) -> None:
    row = {**plain(clean[0]), group: prompts}
    assert audited(tmp_path, [row]).rules == {}


@pytest.mark.parametrize(
    ("prompts", "number"),
    [
        (["Daria premieres on", "Skins premieres on", "Skins was shown on", "Daria was shown on"], 2),
        (["Biure, in", "Ebro, in", "Biure is located in", "Lugo is located in"], 2),
        (["The language of Peru is", "The language of Chad is", "In Peru, people speak", "In Mali, people speak"], 2),
    ],
)
def test_a_guess_is_found_and_left_in_place_unless_asked(
    tmp_path: Path, clean: list[Row], prompts: list[str], number: int
) -> None:
    row = {**plain(clean[0]), "neighborhood_prompts": prompts}
    source, target = tmp_path / "rows.jsonl", tmp_path / "fixed.jsonl"
    (entry,) = audited(tmp_path, [row]).rules.values()
    assert entry.faults == entry.guesses >= 1 and entry.examples[0].path.startswith("/neighborhood_prompts/")
    audit(AuditOptions(source, fix=target))
    assert [left for _, left in jsonl.read_rows(target)] == [row]
    audit(AuditOptions(source, fix=target, fix_guesses=True))
    ((_, left),) = jsonl.read_rows(target)
    assert len(left["neighborhood_prompts"]) == len(prompts) - entry.faults
    result = CliRunner().invoke(app, ["audit", str(source), "--fix", str(target), "-q"])
    assert f"{entry.faults} faults rest on names" in result.stdout


def test_a_fault_that_meta_shows_is_no_guess(tmp_path: Path, clean: list[Row]) -> None:
    rows = [planted(row, dict(FAULTS)["repeated-entity"]) for row in clean[:20]]
    (entry,) = audited(tmp_path, rows, fix=tmp_path / "fixed.jsonl").rules.values()
    assert (entry.faults, entry.guesses) == (20, 0) and audit(AuditOptions(tmp_path / "fixed.jsonl")).rules == {}


@pytest.mark.shared
def test_exactly_the_faults_of_three_rows_of_counterfact_are_found(counterfact_sample: Path) -> None:
    summary = audit(AuditOptions(counterfact_sample))
    found = {rule: entry.faults for rule, entry in summary.rules.items()}
    assert found == {"repeated-entity": 9, "prefix-fragment": 2, "repeated-generation": 2, "lacks-subject": 1}
    lacking = summary.rules["lacks-subject"].examples[0]
    assert (lacking.case_id, lacking.path) == (4402, "/paraphrase_prompts/0")
    assert [one.case_id for one in summary.rules["prefix-fragment"].examples] == [3, 3]
    assert summary.rules["repeated-generation"].examples[0].got == "3 distinct of 10"
    assert summary.rules["repeated-entity"].examples[1].got == '"François Bayrou" for time 3'


@pytest.mark.shared
def test_a_build_of_the_excerpt_has_no_fault(excerpt_build: ExcerptBuild, tmp_path: Path) -> None:
    folder = excerpt_build.folder
    made = generate(folder, GenerateOptions())
    records = folder.path("records.jsonl")
    # The audit of the texts alone runs beside the one with the facts.
    alone = subprocess.Popen([sys.executable, "-m", "cfbuild", "audit", str(records), "--json"], stdout=subprocess.PIPE)
    summary = audit(AuditOptions(records, folder))
    assert summary.rules == {} and summary.rows == summary.known == made.kept >= 10_000
    assert sum(one["kept"] > 0 for one in made.by_relation.values()) >= 30
    texts_alone = json.loads(alone.communicate()[0])
    assert alone.returncode == 0 and texts_alone["rules"] == {} and texts_alone["rows"] == made.kept
    # And so is what it is exported to; `make round-trip` does this with every record.
    sample = [codec.decode_record(row) for _, row in list(jsonl.read_rows(records))[::20]]
    for name in ("counterfact", "easyedit", "knowedit"):
        assert audited(tmp_path, list(map(EXPORTERS[name], sample))).rules == {}
    page = (Path(__file__).parents[1] / "docs" / "quality.md").read_text(encoding="utf-8")
    counts = re.findall(r"^\| ([a-z-]+) \| ([\d,]+) \|", page, re.M)
    assert {rule: int(count.replace(",", "")) for rule, count in counts} == made.by_rule
    assert f"gives {made.kept:,} records" in page
