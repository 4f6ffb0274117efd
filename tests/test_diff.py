"""The changes between two fetches: every planted one with its kind, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from changed_world import NEW_DAY, OLD_DAY, PLANTS, Pair, planted
from small_world import item, templates, write_build
from typer.testing import CliRunner

from cfbuild.cli import app
from cfbuild.data import Fact
from cfbuild.errors import BuildStateError, ConfigError
from cfbuild.facts.changes import KINDS, Statements, changes
from cfbuild.pipeline.diff import DiffOptions, diff
from cfbuild.store.codec import decode_change
from cfbuild.store.folder import BuildFolder
from cfbuild.store.jsonl import read_values
from cfbuild.store.schema import conforming, load_schema

PAIR = Pair("P6", "Q10", ("Q11", "Q12", "Q13"))


@pytest.mark.parametrize("name", PLANTS)
def test_a_change_is_found_with_its_kind(name: str) -> None:
    old, new, expected = PLANTS[name](PAIR)
    elsewhere = [Fact("P6", "Q1", "Q2")]  # a relation that only one fetch has is not compared
    found = changes(Statements([*old, *elsewhere], OLD_DAY), Statements([*new, *elsewhere], NEW_DAY))
    assert [change for change in found if change.fact.subject == "Q10"] == expected


@pytest.mark.parametrize("seed", range(3))
def test_all_planted_changes_are_found_and_nothing_else(seed: int) -> None:
    old, new, expected = planted(seed, 2000)
    found = list(changes(Statements(old, OLD_DAY), Statements(new, NEW_DAY)))
    assert sorted(found, key=repr) == sorted(expected, key=repr)
    assert {change.kind for change in found} == set(KINDS)
    assert found == list(changes(Statements(old[::-1], OLD_DAY), Statements(new[::-1], NEW_DAY))), "in any order"


def test_a_fetch_compared_with_itself_has_not_changed() -> None:
    old, _, _ = planted(0, 300)
    assert {change.kind for change in changes(Statements(old, OLD_DAY), Statements(old, OLD_DAY))} == {"unchanged"}


def test_the_schema_names_every_kind_of_change() -> None:
    assert load_schema("changes")["properties"]["kind"]["enum"] == list(KINDS)


def build(root: Path, facts: list[Fact]) -> BuildFolder:
    return BuildFolder(write_build(root, facts, [item(1, "One")], templates("P551")))


def test_the_command_writes_the_changes_and_counts_all(tmp_path: Path) -> None:
    held, newer = Fact("P551", "Q1", "Q2"), Fact("P551", "Q1", "Q3")
    stays, only = Fact("P551", "Q4", "Q2", start="2001"), Fact("P937", "Q1", "Q2")
    old, new = build(tmp_path / "old", [held, stays]), build(tmp_path / "new", [newer, stays, only])
    ran = CliRunner().invoke(app, ["diff", str(old.root), str(new.root), "--json"])
    assert ran.exit_code == 0, ran.output
    counted = json.loads(ran.stdout)
    assert counted["kinds"] == {**dict.fromkeys(KINDS, 0), "unchanged": 1, "replaced": 1}
    assert (counted["written"], counted["only_old"], counted["only_new"]) == (1, [], ["P937"])
    file = new.path("changes.jsonl")
    (change,) = read_values(file, conforming("changes", decode_change))
    assert (change.kind, change.old, change.new) == ("replaced", held, newer)
    before = file.read_bytes()
    out = tmp_path / "all.jsonl"
    ran = CliRunner().invoke(app, ["diff", str(old.root), str(new.root), "--unchanged", "--out", str(out)])
    assert ran.exit_code == 0 and "not compared" in ran.stdout and "P937" in ran.stdout
    assert len(out.read_bytes().splitlines()) == 2 and file.read_bytes() == before


def test_builds_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    first, second = build(tmp_path / "a", [Fact("P551", "Q1", "Q2")]), build(tmp_path / "b", [Fact("P937", "Q1", "Q2")])
    with pytest.raises(BuildStateError, match=r"a has facts of P551 and .*b of P937; expected a relation"):
        diff(DiffOptions(first, second))
    with pytest.raises(BuildStateError, match=r"facts\.jsonl"):
        diff(DiffOptions(first, BuildFolder(tmp_path / "nothing")))
    with pytest.raises(ConfigError, match="given twice"):
        DiffOptions(first, BuildFolder(tmp_path / "a"))
    with pytest.raises(ConfigError, match="is not a folder"):
        DiffOptions(first, second, tmp_path / "none" / "x.jsonl")
