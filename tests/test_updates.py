"""Records of real changes: what held and what holds, neighbors that did not change, and what a model believes."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import updated_world as world
from planted import faults_of
from small_world import cases

from cfbuild.audit.evidence import AuditContext
from cfbuild.audit.findings import judge
from cfbuild.audit.validate import read_records
from cfbuild.data import FactChange, RealChange, Record
from cfbuild.errors import BuildStateError, ConfigError
from cfbuild.facts.changes import Statements, changes
from cfbuild.filter.context import RuleContext, Rules
from cfbuild.pipeline.audit import AuditOptions, audit
from cfbuild.pipeline.generate import GenerateOptions, generate
from cfbuild.pipeline.publish import stage
from cfbuild.pipeline.rebuild import rebuild
from cfbuild.records.maker import Made, RecordMaker
from cfbuild.store import codec, jsonl
from cfbuild.store.folder import BuildFolder
from cfbuild.store.schema.faults import Located

RULES = Rules(min_neighbors=5, min_pool=2)


@pytest.fixture(scope="module")
def maker() -> RecordMaker:
    return RecordMaker(world.updated(), RULES)


@pytest.fixture(scope="module")
def made(maker: RecordMaker) -> Made:
    return maker.make()


def of_person(records: Sequence[Record], number: int, relation: str = world.LIVES) -> Record:
    (found,) = [one for one in records if (one.subject.id, one.relation) == (world.person(number), relation)]
    return found


def test_what_took_anothers_place_becomes_a_record_and_nothing_else_does(made: Made) -> None:
    about = {one.subject.id: one.change for one in made.records if one.change and one.relation == world.LIVES}
    assert {one: change and change.kind for one, change in about.items()} == {
        world.person(number): kind for number, kind in world.RECORDED.items()
    }
    rules = {(one.fact.subject, one.fact.relation): one.decision.rule for one in made.rejected}
    assert rules[world.person(world.NESTED), world.LIVES] == "nested-change"
    assert rules[world.person(world.TO_A_STATE), world.LIVES] == "object-kind"
    # What is known of the others is asked as before: a counterfactual record, or a reject by the rules for facts.
    assert rules[world.person(world.SECOND), world.LIVES] == "several-objects"
    assert rules[world.person(world.ENDED), world.LIVES] == "ended-fact"
    assert of_person(made.records, 20).change is None


def test_the_targets_are_what_held_and_what_holds(made: Made) -> None:
    for number in world.RECORDED:
        record = of_person(made.records, number)
        shift = 3 if number == world.BOTH else 1
        assert (record.target_true.id, record.target_new.id) == (world.city(number), world.city(number + shift))
        assert record.rewrite.count(record.subject.label) == 1 and len(record.paraphrases) == 2
    assert of_person(made.records, world.DATED).change == RealChange("replaced", "2025-03-01", "2025-03-01")
    assert of_person(made.records, world.OVERWRITTEN).change == RealChange("replaced", None, None)
    assert of_person(made.records, world.CORRECTED).change == RealChange("corrected", "2001", None)


def test_a_changed_fact_is_no_counterfactual_too_and_case_ids_are_those_of_nothing_else(
    maker: RecordMaker, made: Made
) -> None:
    pairs = [(one.subject.id, one.relation) for one in made.records]
    assert len(set(pairs)) == len(pairs)
    facts = {case_id for case_id, _ in cases(maker.graph)}
    for record in made.records:
        assert (record.case_id in facts) is (record.change is None)
    without = RecordMaker(replace(world.updated(), changes=()), RULES).make()
    others = [one for one in made.records if one.change is None]
    changed = {(one.fact.subject, one.fact.relation) for one in world.found() if one.kind in ("replaced", "corrected")}
    assert others == [one for one in without.records if (one.subject.id, one.relation) not in changed]


def test_neighbors_and_attribute_entities_did_not_change(maker: RecordMaker, made: Made) -> None:
    changed = {(one.fact.subject, one.fact.relation) for one in world.found()}
    prompts = 0
    for record in (one for one in made.records if one.change):
        for group, value in ((record.neighborhood, record.target_true.id), (record.attribute, record.target_new.id)):
            for prompt in group:
                assert (prompt.entity, record.relation) not in changed
                assert maker.graph.current_values(prompt.entity, record.relation) == (value,)
                prompts += 1
    assert prompts > 10 * len(world.RECORDED)


def test_other_facts_of_the_subject_that_did_not_change_are_asked(made: Made) -> None:
    record = of_person(made.records, world.DATED)
    prompts = record.groups["unchanged_facts"]
    assert {(one.relation, one.target_true.id) for one in prompts} == {
        (world.WORKS, world.city(world.DATED + 2)),
        (world.VOTES, world.state(0)),
    }
    assert all(one.target_new == record.target_new and one.entity == record.subject.id for one in prompts)
    assert all(record.subject.label in one.text for one in prompts)
    # Where that person works has changed as well.
    both = of_person(made.records, world.BOTH).groups["unchanged_facts"]
    assert {one.relation for one in both} == {world.VOTES}
    assert all("unchanged_facts" not in one.groups for one in made.records if one.change is None)


def test_an_answer_that_is_the_new_object_is_not_asked() -> None:
    """Test a person who moves to where they work anyway."""
    works = world.city(world.DATED + 2)
    facts = [replace(one, object=works) if one.start == "2025-03-01" else one for one in world.newer()]
    found = changes(Statements(world.older(), world.OLD_DAY), Statements(facts, world.NEW_DAY))
    given = replace(world.updated(), facts=tuple(facts), changes=tuple(one for one in found if one.kind != "unchanged"))
    record = of_person(RecordMaker(given, RULES).make().records, world.DATED)
    assert {one.relation for one in record.groups["unchanged_facts"]} == {world.VOTES}


def test_changes_that_the_facts_do_not_show_are_rejected() -> None:
    stale = replace(world.updated(), facts=tuple(world.older()))
    rules = {one.fact.subject: one.decision.rule for one in RecordMaker(stale, RULES).make().rejected}
    assert {rules[world.person(number)] for number in world.RECORDED} == {"untrue-change"}


def test_only_changes_can_be_asked_for(maker: RecordMaker, made: Made, tmp_path: Path) -> None:
    folder, file = world.build(tmp_path)
    generate(folder, world.options(file, only_updates=True))
    kept = [codec.decode_record(row) for _, row in jsonl.read_rows(folder.path("records.jsonl"))]
    assert [one.case_id for one in kept] == [one.case_id for one in made.records if one.change]
    with pytest.raises(ConfigError, match="--updates"):
        GenerateOptions(only_updates=True)
    with pytest.raises(ConfigError, match="is no file"):
        GenerateOptions(updates=tmp_path / "none.jsonl")


def test_the_record_survives_the_codec_and_the_schema(made: Made) -> None:
    record = of_person(made.records, world.DATED)
    row = codec.encode_record(record)
    assert codec.decode_record(json.loads(jsonl.dump_row(row))) == record
    assert faults_of(row) == []
    assert row["meta"]["change"] == {"kind": "replaced", "start": "2025-03-01", "end": "2025-03-01"}
    row["meta"]["change"]["kind"] = "ended"
    assert [fault.path for fault in faults_of(row)] == ["/meta/change/kind"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> BuildFolder:
    folder, file = world.build(tmp_path_factory.mktemp("updates"))
    generate(folder, world.options(file))
    return folder


def test_a_build_of_both_is_the_makers_and_the_audit_finds_nothing(folder: BuildFolder, made: Made) -> None:
    read = read_records(folder.path("records.jsonl"))
    assert tuple(read.records) == made.records and not read.violations
    summary = audit(AuditOptions(folder.path("records.jsonl"), folder))
    assert summary.rules == {} and summary.rows == len(made.records)
    counted = folder.manifest().entry("generate").counted
    changed = [one for one in made.records if one.change]
    assert counted["changes"]["records"] == len(changed) and counted["changes"]["believed"] == {}
    assert counted["shared_class"]["records"] == len(made.records) - len(changed)


def test_other_changes_are_other_settings_and_the_command_is_told(folder: BuildFolder, tmp_path: Path) -> None:
    file = tmp_path / "other.jsonl"
    jsonl.write_jsonl(file, map(codec.encode_change, world.found()[:2]))
    with pytest.raises(BuildStateError, match=r"updates: 'changes\.jsonl@"):
        generate(folder, world.options(file))
    rebuilt = rebuild(folder.manifest().verbs)
    (command,) = [one for one in rebuilt.commands if one[0] == "generate"]
    assert command[command.index("--updates") + 1] == "./changes.jsonl"
    assert any("changes of" in note for note in rebuilt.notes)
    jsonl.write_jsonl(file, map(codec.encode_change, [_of_other_relation()]))
    with pytest.raises(ConfigError, match="P6, of which the build has no facts"):
        generate(world.write_both(tmp_path)[1], world.options(file))


def _of_other_relation() -> FactChange:
    change = world.found()[0]
    assert change.old and change.new
    return FactChange("replaced", replace(change.old, relation="P6"), replace(change.new, relation="P6"))


def test_the_card_tells_how_many_and_what_was_believed(folder: BuildFolder) -> None:
    card = stage(folder, "someone/changes").card
    assert "## Real changes" in card and "records are about a change in the world" in card


Row = dict[str, Any]


def _swap(row: Row) -> None:
    request = row["requested_rewrite"]
    request["target_true"], request["target_new"] = request["target_new"], request["target_true"]


def _moved(row: Row) -> None:
    """Plant an attribute entity that lives there no longer."""
    row["meta"]["attribute"][0]["entity"] = world.person(world.ENDED)


def _false_o_star(row: Row) -> None:
    row["requested_rewrite"]["target_new"] = {"str": world.CITIES[5], "id": world.city(5)}


def _country(row: Row) -> None:
    """Plant the state of what holds now."""
    number = world.CORRECTED + 1
    row["requested_rewrite"]["target_true"] = {"str": world.STATES[number % 3], "id": world.state(number)}


def _moved_office(row: Row) -> None:
    """Plant an object that does not hold in a fact that is said not to have changed."""
    for prompt in row["meta"]["groups"]["unchanged_facts"]:
        if prompt["relation_id"] == world.WORKS:
            prompt["target_true"] = {"str": world.CITIES[5], "id": world.city(5)}


PLANTS: list[tuple[str, int, Callable[[Row], None]]] = [
    ("untrue-change", world.DATED, _swap),
    ("untrue-change", world.CORRECTED, _false_o_star),
    ("nested-change", world.CORRECTED, _country),
    ("neighbor-changed", world.DEPRECATED, _moved),
    ("changed-answer", world.DATED, _moved_office),
    ("ended-fact", world.DATED, lambda row: row["meta"].pop("change")),
    ("target-true", world.DATED, lambda row: row["meta"].pop("change")),
]


@pytest.mark.parametrize(("rule", "number", "plant"), PLANTS)
def test_what_a_record_about_a_change_may_not_be_is_found(
    rule: str, number: int, plant: Callable[[Row], None], maker: RecordMaker, made: Made
) -> None:
    context = AuditContext(rules=RuleContext(maker.graph, {}))

    def faults(row: Row) -> set[str]:
        return {fault.rule for fault in judge(Located(1, row), context).faults}

    row = copy.deepcopy(codec.encode_record(of_person(made.records, number)))
    assert faults(row) == set()
    plant(row)
    assert rule in faults(row)
