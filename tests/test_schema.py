from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from planted import faults_of
from small_world import cases, templates, world

from cfbuild.audit.rulebook import VIOLATION_RULES
from cfbuild.audit.validate import RowTally, violations
from cfbuild.errors import ConfigError, DataError
from cfbuild.facts.graph import FactGraph
from cfbuild.records.builder import Builder
from cfbuild.records.draft import BuildOptions
from cfbuild.store import codec
from cfbuild.store.schema import NAMES, accepts, load_schema, schema_faults, validator
from cfbuild.store.schema.accept import compile_accept

Row = dict[str, Any]


def own_row(case: int = 0) -> Row:
    """Return a row as cfbuild writes it."""
    graph = FactGraph(*world(60))
    builder = Builder(graph, templates("P551"), BuildOptions(), lambda relation: ("The door was open.", "Nobody came."))
    case_id, fact = list(cases(graph))[case]
    draft = builder.draft(case_id, fact)
    return codec.encode_record(builder.record(draft, draft.draws[0]))


def plain_row(case: int = 0) -> Row:
    """Return a row as CounterFact has it."""
    row = own_row(case) | {"pararel_idx": 7}
    del row["meta"]
    return row


def found(row: Any) -> list[tuple[str, str]]:
    return [(fault.path, fault.rule) for fault in faults_of(row)]


def test_own_and_plain_rows_are_valid() -> None:
    assert found(own_row()) == []
    assert found(plain_row()) == []


def put(*path: Any) -> Callable[[Row], None]:
    """Return an edit that puts the last argument where the others point."""
    *keys, last, value = path

    def edit(row: Row) -> None:
        for key in keys:
            row = row[key]
        row[last] = value

    return edit


def drop(key: str) -> Callable[[Row], None]:
    return lambda row: row.pop(key)


def double(key: str) -> Callable[[Row], None]:
    return lambda row: row[key].__setitem__(1, row[key][0])


BROKEN: list[tuple[Callable[[Row], Any], tuple[str, str]]] = [
    (drop("case_id"), ("/case_id", "required")),
    (put("case_id", "0"), ("/case_id", "type")),
    (put("case_id", True), ("/case_id", "type")),
    (put("case_id", -1), ("/case_id", "minimum")),
    (drop("generation_prompts"), ("/generation_prompts", "required")),
    (put("generation_prompts", []), ("/generation_prompts", "minItems")),
    (put("neighborhood_prompts", 3, 5), ("/neighborhood_prompts/3", "type")),
    (put("neighborhood_prompts", 3, " "), ("/neighborhood_prompts/3", "pattern")),
    (put("neighborhood_prompts", 3, "Bob lives in "), ("/neighborhood_prompts/3", "edge-space")),
    (put("requested_rewrite", "relation_id", "p17"), ("/requested_rewrite/relation_id", "pattern")),
    (put("requested_rewrite", "target_new", "id", "Q0"), ("/requested_rewrite/target_new/id", "pattern")),
    (put("requested_rewrite", "target_new", {"str": "x"}), ("/requested_rewrite/target_new/id", "required")),
    (put("requested_rewrite", "prompt", "It lives in"), ("/requested_rewrite/prompt", "slot")),
    (put("requested_rewrite", "prompt", "{} and {} live in"), ("/requested_rewrite/prompt", "slot")),
    (put("paraphrase_prompts", 1, "Nobody lives in"), ("/paraphrase_prompts/1", "lacks-subject")),
    (put("generation_prompts", 3, "Nobody lives in"), ("/generation_prompts/3", "lacks-subject")),
    (double("paraphrase_prompts"), ("/paraphrase_prompts/1", "duplicate-prompt")),
    (double("attribute_prompts"), ("/attribute_prompts/1", "duplicate-prompt")),
    (
        lambda row: row["neighborhood_prompts"].__setitem__(2, row["paraphrase_prompts"][0]),
        ("/neighborhood_prompts/2", "own-prompt"),
    ),
    (
        lambda row: row["requested_rewrite"].update(target_new=row["requested_rewrite"]["target_true"]),
        ("/requested_rewrite/target_new/id", "same-targets"),
    ),
]

BROKEN_META: list[tuple[Callable[[Row], Any], tuple[str, str]]] = [
    (put("meta", None), ("/meta", "type")),
    (put("meta", "colour", "red"), ("/meta/colour", "additionalProperties")),
    (lambda row: row["meta"].pop("language"), ("/meta/language", "required")),
    (lambda row: row["meta"]["neighborhood"].pop(), ("/meta/neighborhood", "meta-length")),
    (lambda row: row["meta"]["paraphrases"].pop(), ("/meta/paraphrases", "meta-length")),
    (put("meta", "paraphrases", 0, "prefix", "Never."), ("/meta/paraphrases/0", "meta-paraphrase")),
    (put("meta", "paraphrases", 0, "clean", "Nobody lives in"), ("/meta/paraphrases/0/clean", "lacks-subject")),
    (put("meta", "scores", {"gpt2": {"rank": [1]}}), ("/meta/scores/gpt2/rank", "type")),
    (
        lambda row: row["meta"]["neighborhood"][4].update(entity=row["meta"]["subject_id"]),
        ("/meta/neighborhood/4/entity", "own-entity"),
    ),
    (
        lambda row: row["meta"]["attribute"][0].update(entity=row["meta"]["neighborhood"][0]["entity"]),
        ("/meta/attribute/0/entity", "shared-entity"),
    ),
]


@pytest.mark.parametrize(("edit", "expected"), BROKEN)
def test_a_broken_plain_row_is_reported_at_its_place(edit: Callable[[Row], Any], expected: tuple[str, str]) -> None:
    row = plain_row()
    edit(row)
    assert expected in found(row)


@pytest.mark.parametrize(("edit", "expected"), BROKEN_META)
def test_a_broken_meta_is_reported_at_its_place(edit: Callable[[Row], Any], expected: tuple[str, str]) -> None:
    row = own_row()
    edit(row)
    assert expected in found(row)


def test_every_semantic_rule_has_a_broken_row() -> None:
    rules = {rule for _, (_, rule) in [*BROKEN, *BROKEN_META]}
    assert set(VIOLATION_RULES) <= rules


def test_null_index_is_for_rows_with_meta_only() -> None:
    row = plain_row() | {"pararel_idx": None}
    assert found(row) == [("/pararel_idx", "type")]


def test_all_faults_of_a_row_are_reported() -> None:
    row = plain_row()
    row["requested_rewrite"]["prompt"] = 3
    del row["attribute_prompts"]
    row["paraphrase_prompts"] = ["Nobody lives in", "Nobody lives in "]
    assert sorted(found(row)) == [
        ("/attribute_prompts", "required"),
        ("/paraphrase_prompts/0", "lacks-subject"),
        ("/paraphrase_prompts/1", "edge-space"),
        ("/paraphrase_prompts/1", "lacks-subject"),
        ("/requested_rewrite/prompt", "type"),
    ]


def test_published_sample_parses_and_its_two_broken_rows_are_told(counterfact_sample: Path) -> None:
    tally = RowTally()
    got = [(one.line, one.case_id, one.path, one.rule) for one in violations(counterfact_sample, tally)]
    text = counterfact_sample.read_text(encoding="utf-8").splitlines()
    second, third = (
        next(n for n in range(len(text)) if f'"case_id": {case},' in text[n] and text[n - 1].strip() == "{")
        for case in (3, 4402)
    )
    assert got == [
        (second, 3, "/pararel_idx", "type"),
        (third, 4402, "/attribute_prompts", "required"),
        (third, 4402, "/generation_prompts", "required"),
        (third, 4402, "/paraphrase_prompts/0", "lacks-subject"),
    ]
    assert (tally.rows, tally.faulty) == (3, 2)


def write(path: Path, rows: list[Row], form: str) -> list[int]:
    """Write rows in one of the forms that exist; return the lines where they start."""
    if form == "lines":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return list(range(1, len(rows) + 1))
    if form == "one line":
        path.write_text(json.dumps(rows), encoding="utf-8-sig")
        return [1] * len(rows)
    text, lines = "\n\n[", []
    for place, row in enumerate(rows):
        text += ("\n" if place % 2 else " \t") if place == 0 else ",\n\n"
        lines.append(text.count("\n") + 1)
        text += json.dumps(row, indent=place % 3)
    path.write_text(text + "\n]\n", encoding="utf-8")
    return lines


@pytest.mark.parametrize("form", ["lines", "one line", "pretty"])
@pytest.mark.parametrize("block", [1, 50, 1 << 20])
def test_lines_are_right_in_every_form(tmp_path: Path, form: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cfbuild.store.schema.located.BLOCK", max(block, 20))
    rows = [{"case_id": number, "text": "é\n{}[],"} for number in range(20)]
    lines = write(tmp_path / "rows.json", rows, form)
    got = [one for one in violations(tmp_path / "rows.json") if one.path == "/requested_rewrite"]
    assert [(one.line, one.case_id) for one in got] == list(zip(lines, range(20), strict=True))


def test_a_case_id_that_comes_again_names_its_first_line(tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", [plain_row(0), plain_row(1), plain_row(0)], "lines")
    (violation,) = violations(tmp_path / "rows.jsonl")
    assert (violation.line, violation.path, violation.rule) == (3, "/case_id", "duplicate-case-id")
    assert "line 1" in violation.got


@pytest.mark.parametrize(
    ("content", "line", "rule"),
    [
        (b"", 1, "empty"),
        (b" \n", 1, "empty"),
        (b"[ ]", 1, "empty"),
        (b"null\n", 1, "type"),
        (b'{"case_id": NaN}', 1, "json"),
        (b'\n{"case_id": 1', 2, "json"),
        (b'{"a": "\xff"}', 1, "encoding"),
        (b'[\n{"a": "\xff"}]', 2, "encoding"),
        (b'{"a": "\\ud800"}', 1, "encoding"),
        (b'{"case_id": 1e999}', 1, "json"),
        (b'[\n{"a": 1}\n{"a": 1}]', 3, "json"),
        (b'[\n{"a": 1},\n]', 3, "json"),
        (b'[\n{"a": 1}\n', 3, "json"),
        (b"[]\n[]", 2, "json"),
        (b"[" * 100_000, 1, "json"),
        (b"9" * 5000, 1, "json"),
    ],
)
def test_a_broken_file_is_reported_and_not_raised(tmp_path: Path, content: bytes, line: int, rule: str) -> None:
    file = tmp_path / "broken"
    file.write_bytes(content)
    got = list(violations(file))
    assert (line, rule) in {(one.line, one.rule) for one in got}
    assert all(str(one).isprintable() for one in got)


def test_a_broken_line_does_not_hide_the_next(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"a": \n{"case_id": 5}\n', encoding="utf-8")
    assert {one.line for one in violations(tmp_path / "rows.jsonl")} == {1, 2}


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        list(violations(tmp_path / "none.json"))
    with pytest.raises(ConfigError, match="there is no schema"):
        load_schema("recrod")


def test_a_violation_says_where_what_and_what_was_expected(tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", [plain_row() | {"case_id": "a"}], "lines")
    (violation,) = violations(tmp_path / "rows.jsonl")
    assert str(violation).startswith(f'{tmp_path / "rows.jsonl"}:1: /case_id: type: got "a"; expected integer')


@pytest.mark.parametrize("name", NAMES)
def test_schemas_are_schemas_and_compile(name: str) -> None:
    Draft202012Validator.check_schema(load_schema(name))
    assert schema_faults({}, name)


SCALARS = st.none() | st.booleans() | st.integers(-2, 9) | st.floats(0, 2) | st.sampled_from(["", " ", "Q1", "P2", "x"])
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner)
)
OWN_ROW = own_row()


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, child in children for place in places(child, (*path, key)))]


def test_the_quick_look_takes_every_row_that_cfbuild_writes() -> None:
    """Those that it does not take go to the slow check, which gives the same answer fifty times later."""
    shared = {"id": "Q515", "steps": 1, "fallback": None}
    for about in (shared, {"id": None, "steps": None, "fallback": "none-shares"}, None):
        row = own_row()
        row["meta"] = {key: value for key, value in row["meta"].items() if key != "shared_class"}
        assert accepts("record")(row | {"meta": row["meta"] | ({"shared_class": about} if about else {})})
    assert accepts("record")(own_row()) and accepts("record")(plain_row())


@settings(max_examples=300, deadline=None)
@given(place=st.sampled_from(places(OWN_ROW)[1:]), value=VALUES, plain=st.booleans())
def test_the_quick_look_accepts_nothing_that_the_schema_refuses(place: Any, value: Any, plain: bool) -> None:
    row = copy.deepcopy(OWN_ROW)
    put(*place, value)(row)
    if plain:
        row.pop("meta")
    if accepts("record")(row):
        assert validator("record").is_valid(row)


def test_the_quick_look_refuses_keywords_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="uniqueItems"):
        compile_accept({"type": "array", "uniqueItems": True})


def test_twenty_thousand_rows_without_a_violation(tmp_path: Path) -> None:
    row = json.dumps(own_row())
    (tmp_path / "rows.jsonl").write_text(
        "".join(row.replace('"case_id": 0', f'"case_id": {n}', 1) + "\n" for n in range(20_000)), encoding="utf-8"
    )
    assert list(violations(tmp_path / "rows.jsonl")) == []
