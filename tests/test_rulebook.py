"""One rule book: what validation refuses an audit reports, under the same id and at the same place."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from planted import FAULTS, IN_GROUPS, IN_META, Row, clean_rows, clean_world, faults_of, plain, planted

from cfbuild.audit import validate
from cfbuild.audit.evidence import AuditContext
from cfbuild.audit.findings import judge
from cfbuild.audit.row import parts_of
from cfbuild.audit.rulebook import AUDIT_RULES, VIOLATION_RULES, EarlierRows, violations_in
from cfbuild.audit.validate import read_records, read_valid, violations
from cfbuild.errors import DataError
from cfbuild.pipeline.audit import AuditOptions, audit
from cfbuild.store import jsonl
from cfbuild.store.codec import decode_record
from cfbuild.store.files import sha256_file
from cfbuild.store.schema import schema_faults

ROWS = clean_rows(*clean_world(), 4)
WHOLE = planted(ROWS[0], dict(IN_GROUPS)["label-noise"])
"""A row with every key that a record may have."""
LISTED_TARGET = WHOLE | {"requested_rewrite": WHOLE["requested_rewrite"] | {"target_new": [""]}}
"""A row with a list where the false object should be: the place of what lacks there leads into the list by a name."""
BEYOND_SCHEMA = {*VIOLATION_RULES, "encoding", "duplicate-case-id"}
TEXTS = ["", " ", "Q1", "P2", "x ", "{}", "\ud83d", "OSLO"]
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 9)
    | st.sampled_from(["", " ", "Q1", "P2", "x ", "{}", "\ud83d", "OSLO"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["prompt", "str", "id"]), inner),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a value, as the keys that lead there."""
    yield path
    for key, child in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(child, (*path, key))


PLACES = [path for path in places(WHOLE) if path]


def at(row: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        row = row[key]
    return row


@st.composite
def changed_rows(draw: st.DrawFn) -> Row:
    """Return a row in which up to four values are other ones, gone, or copies of values elsewhere in it."""
    row = copy.deepcopy(WHOLE)
    for _ in range(draw(st.integers(1, 4))):
        *path, last = draw(st.sampled_from(PLACES))
        try:
            holder = at(row, tuple(path))
            kind = draw(st.sampled_from(["value", "gone", "copy"]))
            if kind == "gone":
                del holder[last]
            else:
                value = at(row, draw(st.sampled_from(PLACES))) if kind == "copy" else draw(VALUES)
                holder[last] = copy.deepcopy(value)
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change has taken the place away
    if draw(st.booleans()):
        row.pop("meta", None)
    return row


@settings(max_examples=150, deadline=None)
@example(row=LISTED_TARGET)
@given(row=changed_rows())
def test_an_audit_reports_every_violation_of_any_row(row: Row) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_text("".join(json.dumps(one) + "\n" for one in (row, row)), encoding="utf-8")
        refused = {(one.line, one.rule, one.path) for one in violations(path) if one.rule in BEYOND_SCHEMA}
        found = {(line, fault.rule, fault.path) for line, faults in audited(path) for fault in faults}
        assert refused <= found
        # And what it cleans has none left.
        audit(AuditOptions(path, fix=path.with_name("fixed.jsonl")))
        assert [one for one in violations(path.with_name("fixed.jsonl")) if one.rule in BEYOND_SCHEMA] == []


def audited(path: Path) -> Iterator[tuple[int, list[Any]]]:
    """Yield the faults that an audit finds in each row of a file, by line."""
    earlier = EarlierRows()
    for located in validate.read_located(path):
        row = judge(located, AuditContext())
        yield located.line, [*row.faults, *row.faults_after(earlier)]


@pytest.mark.parametrize(("rule", "plant"), [*FAULTS, *IN_META, *IN_GROUPS])
def test_a_rule_speaks_under_its_own_id_only(rule: str, plant: Any) -> None:
    parts = parts_of(planted(ROWS[1], plant))
    assert parts is not None
    found = {name: {fault.rule for fault in find(parts)} for name, find in VIOLATION_RULES.items()}
    context = AuditContext().of(parts)
    found |= {name: {fault.rule for fault in find(parts, context)} for name, find in AUDIT_RULES.items()}
    assert found[rule] == {rule}
    assert all(rules <= {name} for name, rules in found.items())


def test_violations_are_the_rules_that_validation_has() -> None:
    for rule, plant in (*FAULTS, *IN_META):
        row = planted(ROWS[1], plant)
        others = [fault for fault in faults_of(row) if fault not in schema_faults(row, "record")]
        parts = parts_of(row)
        assert parts is not None and others == violations_in(parts)
        assert (rule in {fault.rule for fault in others}) is (rule in VIOLATION_RULES)


@pytest.mark.parametrize("form", ["ours", "plain"])
def test_letter_case_means_the_same_to_both(tmp_path: Path, form: str) -> None:
    def change(row: Row) -> None:
        request = row["requested_rewrite"]
        row["generation_prompts"][0] = request["subject"].upper() + " lives"
        request["target_new"]["str"] = request["target_true"]["str"].upper()

    row = planted(ROWS[0] if form == "ours" else plain(ROWS[0]), change)
    # A name in other letters still names the subject, and still is the true object.
    place = "/requested_rewrite/target_new/str"
    assert [(fault.rule, fault.path) for fault in faults_of(row)] == [("same-targets", place)]
    jsonl.write_jsonl(tmp_path / "rows.jsonl", [row])
    (example,) = audit(AuditOptions(tmp_path / "rows.jsonl")).rules["same-targets"].examples
    assert example.path == place and "lacks-subject" not in audit(AuditOptions(tmp_path / "rows.jsonl")).rules


FILES = {
    "lines": lambda rows: "".join(json.dumps(row) + "\n" for row in rows),
    "array": json.dumps,
    "pretty array": lambda rows: "\ufeff\n" + json.dumps(rows, indent=1) + "\n",
    "array and more": lambda rows: json.dumps(rows) + " x" * 2_000_000,
    "broken array": lambda rows: json.dumps(rows)[:-1] + ",}" + " y" * 2_000_000,
    "broken line": lambda rows: json.dumps(rows[0]) + '\n{"a": \n',
    "nothing": lambda rows: "",
}


@pytest.mark.parametrize("form", FILES)
def test_a_file_is_opened_once_and_told_whole(tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [*ROWS, planted(ROWS[3], FAULTS[0][1]), ROWS[0]]
    path = tmp_path / "rows.json"
    path.write_text(FILES[form](rows), encoding="utf-8")
    tally, opened, real = validate.RowTally(), [], Path.open
    expected = [decode_record(row) for row in read_valid(path)], list(violations(path, tally)), sha256_file(path)
    monkeypatch.setattr(
        Path, "open", lambda self, *args, **options: opened.append(self) or real(self, *args, **options)
    )
    read = read_records(path)
    assert opened == [path]
    assert (read.records, read.violations, read.sha256) == expected
    assert (read.path, read.tally) == (path, tally)
    if form == "lines":
        assert (len(read.records), read.tally.rows, read.tally.faulty) == (4, 6, 2)


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_records(tmp_path / "none.json")


@pytest.mark.parametrize(
    "change",
    [
        {"case_id": []},
        {"case_id": {}},
        {"requested_rewrite": {**ROWS[0]["requested_rewrite"], "relation_id": ["P1"]}},
        {"paraphrase_prompts": "text"},
        {"meta": {"groups": {"inverse": [3, {"prompt": 4}]}}},
    ],
)
def test_values_of_wrong_types_stop_no_audit(tmp_path: Path, change: Row) -> None:
    jsonl.write_jsonl(tmp_path / "rows.jsonl", [{**ROWS[0], **change}, ROWS[1]])
    summary = audit(AuditOptions(tmp_path / "rows.jsonl", fix=tmp_path / "fixed.jsonl"))
    assert (summary.rows, summary.written) == (2, 1) and list(summary.rules) == ["row-format"]
    (example, *_) = summary.rules["row-format"].examples
    assert example.line == 1 and example.path and example.expected.startswith(("a ", "an "))


def test_rows_on_the_same_line_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text(json.dumps([ROWS[0], ROWS[0]]), encoding="utf-8")
    summary = audit(AuditOptions(tmp_path / "rows.json"))
    assert {rule: entry.rows for rule, entry in summary.rules.items()} == {
        "conflicting-edits": 1,
        "duplicate-case-id": 1,
    }


def test_a_generation_prompt_is_removed_by_its_number_though_others_repeat(tmp_path: Path) -> None:
    row = copy.deepcopy(ROWS[0])
    texts = row["generation_prompts"]
    row["generation_prompts"] = [texts[0], texts[0], "Somebody else", texts[1]]
    jsonl.write_jsonl(tmp_path / "rows.jsonl", [row])
    audit(AuditOptions(tmp_path / "rows.jsonl", fix=tmp_path / "fixed.jsonl"))
    ((_, left),) = jsonl.read_rows(tmp_path / "fixed.jsonl")
    assert left["generation_prompts"] == texts[:2]


def test_a_row_that_cleaning_would_break_is_dropped(tmp_path: Path) -> None:
    row = plain(ROWS[0])
    subject = row["requested_rewrite"]["subject"]
    row["paraphrase_prompts"] = [f"and Riley. {subject} has a house in", f"{subject} has a house in"]
    jsonl.write_jsonl(tmp_path / "rows.jsonl", [row])
    summary = audit(AuditOptions(tmp_path / "rows.jsonl", fix=tmp_path / "fixed.jsonl"))
    assert (summary.written, summary.dropped) == (0, 1)
    ((_, note),) = jsonl.read_rows(tmp_path / "fixed.jsonl.changes.jsonl")
    assert (note["change"], note["rule"]) == ("drop-row", "duplicate-prompt")
