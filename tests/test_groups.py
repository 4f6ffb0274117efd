"""Prompt groups beyond CounterFact's: what each asks, what the right answers are, and when nothing is asked."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
from planted import faults_of
from small_world import item, small_options, write_build, write_world

from cfbuild.audit.validate import violations
from cfbuild.data import Entity, EntityPrompt, Fact, GroupPrompt, Record, Target, Template
from cfbuild.errors import ConfigError
from cfbuild.facts.graph import FactGraph
from cfbuild.pipeline.generate import generate
from cfbuild.pipeline.publish import stage
from cfbuild.pipeline.validate_and_score import EvaluateOptions, evaluate
from cfbuild.records.fact_lookup import FactLookup
from cfbuild.records.groups import GROUPS, prompt_groups
from cfbuild.records.kinds import KINDS
from cfbuild.score.run_report import Report
from cfbuild.score.table import GROUP_FIGURES
from cfbuild.store import codec, jsonl
from cfbuild.store.folder import BuildFolder
from cfbuild.store.schema import load_schema

FRANCE, ITALY, PARIS, ROME, EUROPE, SEINE, TIBER, ANN = 1, 2, 3, 4, 5, 6, 7, 8
NAMES = (
    item(
        FRANCE,
        "France",
        "French Republic",
        "FRANCE",
        "Frânce",
        "France, Europe",
        "Paris & Co",
        "Gaul",
        "fr",
        "F",
        "Frances",
        "l'Hexagone",
        'La "F" nation',
        "FR 12345",
    ),
    item(ITALY, "Italy"),
    item(PARIS, "Paris"),
    item(ROME, "Rome", "Roma"),
    item(EUROPE, "Europe"),
    item(SEINE, "Seine"),
    item(TIBER, "Tiber"),
    item(ANN, "Ann", "gaul"),
)
CAPITALS = [("P36", FRANCE, PARIS), ("P36", ITALY, ROME), ("P1376", PARIS, FRANCE), ("P1376", ROME, ITALY)]
RIVERS = [("P206", PARIS, SEINE), ("P206", ROME, TIBER)]
TEXTS = {
    "P36": ("The capital of {} is", "{} has its capital at", "Those who govern {} live in"),
    "P1376": ("{} is the capital of", "The capital {} belongs to"),
    "P206": ("{} lies on the", "The water that flows past {} is the", "{}'s river is the"),
    "P17": ("{} is in the country of",),
    "P30": ("{} is on the continent of",),
}
RECORD = Record(
    case_id=1,
    relation="P36",
    prompt=Template("P36", "rewrite", "{} has its capital at", "test"),
    subject=Target("Q1", "France"),
    target_true=Target("Q3", "Paris"),
    target_new=Target("Q4", "Rome"),
    paraphrases=(),
    neighborhood=(EntityPrompt("Gallia has its capital at", "Q9", "t"), EntityPrompt("Lutetia rules", "Q10", "u")),
    attribute=(),
    generation=(),
)
Triple = tuple[str, int, int]
COUNTRIES = ("Norway", "Peru", "Egypt", "Ecuador", "Vietnam", "Ghana")


def known(triples: Iterable[Triple], entities: Iterable[Entity] = (), unsound: Iterable[Fact] = ()) -> FactLookup:
    graph = FactGraph(
        [Fact(relation, f"Q{s}", f"Q{o}") for relation, s, o in triples],
        {one.id: one for one in (*NAMES, *entities)}.values(),
    )
    refused = frozenset(unsound)
    return FactLookup(
        graph,
        lambda relation: [Template(relation, "rewrite", text, "test") for text in TEXTS.get(relation, ())],
        lambda fact: fact not in refused,
    )


def prompts_of_group(group: str, triples: Iterable[Triple], **world: Any) -> list[GroupPrompt]:
    return list(prompt_groups(RECORD, known(triples, **world), [group]).get(group, ()))


def answers(prompts: Iterable[GroupPrompt]) -> set[tuple[str, str]]:
    return {(one.target_new.label, one.target_true.label) for one in prompts}


def test_a_subject_alias_prompt_has_another_name_and_the_same_answers() -> None:
    prompts = prompts_of_group("subject_aliases", CAPITALS)
    # Left out: a spelling of the label, a list, a name with the answer in it, one that Ann has too, codes.
    assert [one.text for one in prompts] == ["The French Republic has its capital at"]
    assert answers(prompts) == {("Rome", "Paris")} and prompts[0].entity == "Q1" and prompts[0].relation == "P36"


def test_a_name_with_and_without_its_article_is_one_name() -> None:
    france = item(FRANCE, "France", "French Republic", "The French Republic")
    prompts = prompts_of_group("subject_aliases", CAPITALS, entities=[france])
    assert [one.text for one in prompts] == ["The French Republic has its capital at"]


def test_the_fact_the_other_way_round_is_asked_about_the_new_object() -> None:
    prompts = prompts_of_group("inverse", CAPITALS)
    assert {one.text for one in prompts} == {"Rome is the capital of", "The capital Rome belongs to"}
    assert answers(prompts) == {("France", "Italy")} and {one.entity for one in prompts} == {"Q4"}
    assert answers(prompts_of_group("inverse", CAPITALS[:2])) == {("France", "Italy")}, (
        "the relation itself tells the way back"
    )


@pytest.mark.parametrize(
    ("triples", "entities"),
    [
        ([*CAPITALS, ("P36", FRANCE + 100, ROME)], [item(101, "Ruritania")]),
        ([("P36", FRANCE, PARIS)], []),
        (CAPITALS, [item(ITALY, "Italy (country)")]),
        (CAPITALS, [item(ITALY, "Greater France")]),
        (CAPITALS, [item(ITALY, "Realm of Rome")]),
        ([*CAPITALS, ("P361", ITALY, FRANCE)], []),
    ],
)
def test_there_is_no_inverse_prompt_unless_the_answer_is_one_plain_other_name(
    triples: list[Triple], entities: list[Entity]
) -> None:
    assert prompts_of_group("inverse", triples, entities=entities) == []


def test_two_hops_pass_through_the_object_without_naming_it() -> None:
    prompts = prompts_of_group("two_hop", [*CAPITALS, *RIVERS])
    texts = {"The capital of France lies on the", "The water that flows past the capital of France is the"}
    assert len(prompts) == 1 and prompts[0].text in texts
    assert answers(prompts) == {("Tiber", "Seine")} and prompts[0].relation == "P206"


RIVER = Fact("P206", "Q4", "Q7")


@pytest.mark.parametrize(
    ("triples", "world"),
    [
        (RIVERS[:1], {}),
        ([*RIVERS, ("P206", ROME, SEINE)], {}),
        ([("P206", PARIS, SEINE), ("P206", ROME, SEINE)], {}),
        (RIVERS, {"unsound": [RIVER]}),
        (RIVERS, {"entities": [item(TIBER, "Upper Seine")]}),
        (RIVERS, {"entities": [item(TIBER, "Tiber", "seine")]}),
        ([*RIVERS, ("P361", TIBER, SEINE)], {}),
        ([("P17", PARIS, FRANCE), ("P17", ROME, ITALY)], {}),
        ([("P30", PARIS, EUROPE), ("P30", ROME, EUROPE)], {}),
    ],
)
def test_there_is_no_two_hop_prompt_without_two_different_sure_answers_that_it_does_not_give(
    triples: list[Triple], world: dict[str, Any]
) -> None:
    assert prompts_of_group("two_hop", [*CAPITALS, *triples], **world) == []


def test_a_specificity_plus_prompt_has_the_edited_fact_before_a_neighbors_prompt() -> None:
    prompts = prompts_of_group("specificity_plus", CAPITALS)
    statement = "France has its capital at Rome."
    assert [one.text for one in prompts] == [f"{statement} Gallia has its capital at", f"{statement} Lutetia rules"]
    assert [one.entity for one in prompts] == ["Q9", "Q10"] and answers(prompts) == {("Rome", "Paris")}
    dotted = replace(RECORD, target_new=Target("Q4", "Rome Inc."))
    made = prompt_groups(dotted, known(CAPITALS), ["specificity_plus"])["specificity_plus"]
    assert made[0].text.startswith("France has its capital at Rome Inc. Gallia")


def test_groups_survive_the_codec_and_the_schema_knows_them_all() -> None:
    record = replace(RECORD, groups=prompt_groups(RECORD, known([*CAPITALS, *RIVERS]), GROUPS))
    # The others need a change between two fetches, or dates (test_updates.py, test_time_travel.py).
    assert set(record.groups) == set(GROUPS) - {"unchanged_facts", "time_travel"}
    assert codec.decode_record(json.loads(jsonl.dump_row(codec.encode_record(record)))) == record
    assert "groups" not in codec.encode_record(RECORD)["meta"]
    schema = load_schema("record")["properties"]["meta"]["properties"]["groups"]
    assert list(schema["properties"]) == list(KINDS) and schema["additionalProperties"] is False


@pytest.fixture
def folder(tmp_path: Path) -> BuildFolder:
    """Return a build of people who live in cities that lie in countries, some of the people under two names."""
    root = write_world(tmp_path / "build")
    facts = list(jsonl.read_values(root / "facts.jsonl", codec.decode_fact))
    entities = list(jsonl.read_values(root / "entities.jsonl", codec.decode_entity))
    prompts = list(jsonl.read_values(root / "templates.jsonl", codec.decode_template))
    prompts += [Template("P17", "rewrite", text, "test") for text in ("{} is a city of", "{} is governed from")]
    prompts += [Template("P551", "rewrite", "The home town of {} is", "test")]
    facts += [Fact("P17", f"Q{city}", f"Q{200 + city}") for city in range(1, 8)]
    entities += [item(200 + city, name) for city, name in enumerate(COUNTRIES, 1)]
    entities = [
        replace(entity, aliases={"en": (f"Nick {number}",)}) if number % 2 else entity
        for number, entity in enumerate(entities)
    ]
    return BuildFolder(write_build(root, facts, entities, prompts))


def rows_of(folder: BuildFolder, name: str = "records.jsonl") -> list[dict[str, Any]]:
    return [row for _, row in jsonl.read_rows(folder.path(name))]


def test_generate_adds_the_groups_asked_for_and_changes_nothing_else(folder: BuildFolder) -> None:
    generate(folder, small_options(relations=("P551",)))
    rows = rows_of(folder)
    assert list(violations(folder.path("records.jsonl"))) == []
    counts = {name: sum(name in row["meta"].get("groups", {}) for row in rows) for name in GROUPS}
    assert counts["specificity_plus"] == len(rows) and counts["inverse"] == 0
    assert 0 < counts["subject_aliases"] < len(rows) and 0 < counts["two_hop"] < len(rows)
    generate(folder, small_options(relations=("P551",), groups=(), restart=True))
    bare = rows_of(folder)
    for row in rows:
        del row["meta"]["groups"]
    assert bare == rows
    with pytest.raises(ConfigError, match="no prompt group three_hop"):
        small_options(groups=("two_hop", "three_hop"))


@pytest.mark.usefixtures("cache")
def test_groups_are_scored_and_published_under_their_own_names(folder: BuildFolder) -> None:
    generate(folder, small_options(relations=("P551",), limit=6))
    options = EvaluateOptions(covariance_tokens=400, steps=2, skip_generation=True, layer=1)
    report = evaluate(folder, options, tiny.make("gpt2"))
    rows, cases = rows_of(folder), rows_of(folder, "runs/rome/cases.jsonl")
    for name in ("subject_aliases", "two_hop", "specificity_plus"):
        counts = [len(row["meta"]["groups"].get(name, ())) for row in rows]
        for when in ("pre", "post"):
            assert [len(case[when].get(f"{name}_prompts", ())) for case in cases] == counts
            figure = report.as_dict()["figures"][when][name]
            assert figure["cases"] == sum(map(bool, counts)) > 0 and "half_width_95" in figure
    assert "inverse" not in report.figures["post"] and set(GROUP_FIGURES) == set(KINDS)
    staged = stage(folder, "someone/groups")
    tables = {one.path.split("/")[1] for one in staged.files if one.path.endswith(".parquet")}
    assert tables == {
        "records",
        "prompts",
        "multi",
        "scores",
        "rejected",
        "references",
        "subject_aliases",
        "two_hop",
        "specificity_plus",
    }
    assert "two_hop" in staged.card and "| specificity_plus |" in staged.card
    assert check_published(folder, rows) == {name for name in tables if name in GROUPS}


def check_published(folder: BuildFolder, rows: list[dict[str, Any]]) -> set[str]:
    """Check that the groups' configurations have each prompt once, in its record's split; return those groups."""
    import datasets

    def load(name: str) -> dict[str, list[dict[str, Any]]]:
        files = sorted((folder.path("publish") / "data" / name).glob("*.parquet"))
        return {one.name.split("-")[0]: list(datasets.Dataset.from_parquet(str(one))) for one in files}

    splits = {row["case_id"]: split for split, some in load("records").items() for row in some}
    assert all("groups" not in row["meta"] for some in load("records").values() for row in some)
    found = set()
    for name in GROUPS:
        expected = [one["prompt"] for row in rows for one in row["meta"]["groups"].get(name, ())]
        published = load(name) if expected else {}
        assert sorted(row["prompt"] for some in published.values() for row in some) == sorted(expected)
        assert all(splits[row["case_id"]] == split for split, some in published.items() for row in some)
        found |= {name} if expected else set()
    return found


def test_the_right_target_wins_in_each_groups_score() -> None:
    from cfbuild.data import CaseScore, PromptScore, StageScore

    new_wins = {name: (PromptScore(1.0, 2.0, True, False),) for name in GROUPS}
    case = CaseScore(1, "P36", "rome", StageScore(new_wins), StageScore(new_wins))
    figures = Report.of_cases([case], {"model": "none"}).figures["post"]
    expected = {"subject_aliases": 100, "inverse": 100, "two_hop": 100}
    expected |= dict.fromkeys(("specificity_plus", "unchanged_facts", "time_travel"), 0)
    assert {name: figures[name].mean for name in GROUPS} == expected


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"target_new": {"str": "Paris", "id": "Q3"}}, "same-targets"),
        ({"prompt": "Gaul has "}, "edge-space"),
        ({"prompt": " "}, "pattern"),
        ({"hint": "x"}, "additionalProperties"),
    ],
)
def test_broken_groups_are_violations(change: dict[str, Any], rule: str) -> None:
    paraphrases = [{"prefix": "", "clean": "France has", "template": "t"}]
    groups = prompt_groups(RECORD, known(CAPITALS), ["subject_aliases", "inverse"])
    row = codec.encode_record(replace(RECORD, groups=groups, generation=("In France",)))
    row["meta"]["paraphrases"], row["paraphrase_prompts"] = paraphrases, ["France has"]
    assert faults_of(row) == []
    row["meta"]["groups"]["subject_aliases"][0].update(change)
    assert rule in {fault.rule for fault in faults_of(row)}
    row["meta"]["groups"] = {"inverse": [row["meta"]["groups"]["inverse"][0]] * 2}
    assert {fault.rule for fault in faults_of(row)} == {"duplicate-prompt"}
