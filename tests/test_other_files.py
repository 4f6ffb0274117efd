"""Other people's files as they are: every shape, every wrapping, other formats, and values of any type anywhere."""

from __future__ import annotations

import bz2
import copy
import gzip
import json
import lzma
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from conftest import shared_file
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import FAULTS, IN_GROUPS, Row, clean_rows, clean_world, plain, planted
from typer.testing import CliRunner

from cfbuild.audit.validate import read_records, violations
from cfbuild.cli import app
from cfbuild.errors import CfbuildError, ConfigError, DataError
from cfbuild.pipeline.audit import AuditOptions, AuditSummary, audit
from cfbuild.pipeline.export import ExportOptions, export_records
from cfbuild.pipeline.publish import stage
from cfbuild.publish.formats import EXPORTERS
from cfbuild.store import codec, jsonl
from cfbuild.store.folder import BuildFolder

ROWS = clean_rows(*clean_world(), 6)
PLAIN = [plain(row) for row in ROWS]


def audited(path: Path, rows: Any, **options: Any) -> AuditSummary:
    file = path / "rows.json"
    file.write_text(json.dumps(rows), encoding="utf-8")
    return audit(AuditOptions(file, **options))


def fixed(path: Path, rows: Any, **options: Any) -> Any:
    """Return the rows that `--fix` writes, having found them clean."""
    summary = audited(path, rows, fix=path / "fixed.json", **options)
    kept = json.loads((path / "fixed.json").read_text(encoding="utf-8"))
    assert summary.written == len(kept)
    assert not kept or audit(AuditOptions(path / "fixed.json")).rules == {}
    return kept


# ------------------------------------------------------------------------------------- shapes of EasyEdit's requests

REQUEST = {
    "prompt": "Lena Orlov plays",
    "subject": "Lena Orlov",
    "target_new": "football",
    "ground_truth": "chess",
    "rephrase_prompt": "The sport of Lena Orlov is",
}
ENTRY = {"prompt": "Max Roth plays", "ground_truth": [["chess", "the game of chess"]]}
BAD = {"prompt": "The chess player Nia Bell plays", "ground_truth": "chess"}
SHAPES: dict[str, tuple[Any, str, Any]] = {
    "lists of texts": (
        {"near": {"prompt": ["Max Roth plays", BAD["prompt"]], "ground_truth": ["chess", "chess"]}},
        "/near/prompt/1",
        {"near": {"prompt": ["Max Roth plays"], "ground_truth": ["chess"]}},
    ),
    "lists of texts and of lists": (
        {"near": {"prompt": [BAD["prompt"], "Max Roth plays"], "ground_truth": [["chess"], [["go", "weiqi"]]]}},
        "/near/prompt/0",
        {"near": {"prompt": ["Max Roth plays"], "ground_truth": [[["go", "weiqi"]]]}},
    ),
    "lists of objects": ({"near": [ENTRY, BAD]}, "/near/1/prompt", {"near": [ENTRY]}),
    "lists of lists of objects": ({"near": [[ENTRY], [ENTRY, BAD][1:]]}, "/near/1/0/prompt", {"near": [[ENTRY], []]}),
    "nested lists of texts": (
        {"near": {"prompt": [["Max Roth plays", BAD["prompt"]]], "ground_truth": [["chess", "chess"]]}},
        "/near/prompt/0/1",
        {"near": {"prompt": [["Max Roth plays"]], "ground_truth": [["chess"]]}},
    ),
    "objects with lists": (
        {"near": [{"prompt": ["Max Roth plays", BAD["prompt"]], "ground_truth": ["chess", "chess"]}]},
        "/near/0/prompt/1",
        {"near": [{"prompt": ["Max Roth plays"], "ground_truth": ["chess"]}]},
    ),
    "a single object": ({"near": BAD, "far": ENTRY}, "/near/prompt", {"far": ENTRY}),
    "kinds in kinds": ({"near": {"a": [ENTRY], "b": [BAD]}}, "/near/b/0/prompt", {"near": {"a": [ENTRY], "b": []}}),
    "no kinds": ([ENTRY, BAD], "/1/prompt", [ENTRY]),
    "no kinds, lists": (
        {"prompt": ["Max Roth plays", BAD["prompt"]], "ground_truth": ["chess", "chess"]},
        "/prompt/1",
        {"prompt": ["Max Roth plays"], "ground_truth": ["chess"]},
    ),
    "a kind with a slash": ({"a/b~c": [ENTRY, BAD]}, "/a~1b~0c/1/prompt", {"a/b~c": [ENTRY]}),
    "the older portability": (
        {"Recalled": "x", "New Question": BAD["prompt"], "New Answer": "chess"},
        "/New Question",
        None,
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("key", ["locality", "portability"])
@pytest.mark.parametrize("result", [False, True])
def test_every_shape_is_audited_prompt_by_prompt(tmp_path: Path, shape: str, key: str, result: bool) -> None:
    given_, path, left = SHAPES[shape]
    row: Row = {"case_id": 0, **REQUEST, key: given_}
    base = ""
    if result:
        row, base = {"pre": {}, "case_id": 0, "requested_rewrite": {**REQUEST, key: given_}, "post": {}}, REWRITE
    summary = audited(tmp_path, [row])
    assert list(summary.rules) == ["answer-in-prompt"]
    (finding,) = summary.rules["answer-in-prompt"].examples
    assert (finding.line, finding.case_id, finding.path) == (1, 0, f"{base}/{key}{path}")
    (mended,) = fixed(tmp_path, [row])
    assert (mended["requested_rewrite"] if result else mended).get(key) == left


REWRITE = "/requested_rewrite"


@pytest.mark.parametrize("empty", [None, "", {}, [], {"near": None}, {"near": []}, {"near": {"prompt": "", "x": 1}}])
def test_nothing_under_a_kind_is_no_fault(tmp_path: Path, empty: Any) -> None:
    assert audited(tmp_path, [{**REQUEST, "locality": empty, "portability": empty}]).rules == {}


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (3, "/locality"),
        ({"near": 3}, "/locality/near"),
        ({"near": ["x", 3]}, "/locality/near/1"),
        ({"near": {"prompt": ["Max plays", None], "ground_truth": ["go", "go"]}}, "/locality/near/prompt/1"),
        ({"near": {"prompt": "Max plays", "ground_truth": 1989}}, "/locality/near/ground_truth"),
        ({"near": {"prompt": ["Max plays", "Nia plays"], "ground_truth": ["go"]}}, "/locality/near/ground_truth"),
    ],
)
def test_what_is_no_prompt_is_named(tmp_path: Path, value: Any, path: str) -> None:
    summary = audited(tmp_path, [{**REQUEST, "locality": value}])
    assert [one.path for one in summary.rules["row-format"].examples] == [path]


def test_results_stay_beside_their_prompts(tmp_path: Path) -> None:
    near = {"prompt": ["Max Roth plays", BAD["prompt"], "Ada Poe plays"], "ground_truth": ["chess"] * 3}
    measured = {"rewrite_acc": [1.0], "locality": {"near_acc": [0.1, 0.2, 0.3], "near_output": [[1], [2], [3]]}}
    row = {"pre": measured, "case_id": 0, "requested_rewrite": {**REQUEST, "locality": {"near": near}}, "time": 1.5}
    (kept,) = fixed(tmp_path, [row])
    assert kept["pre"]["locality"] == {"near_acc": [0.1, 0.3], "near_output": [[1], [3]]}
    assert kept["requested_rewrite"]["locality"]["near"]["prompt"] == ["Max Roth plays", "Ada Poe plays"]


def test_a_ground_truth_that_nobody_gave_is_none(tmp_path: Path) -> None:
    row = {**REQUEST, "prompt": "Lena Orlov is a", "target_new": "poet", "ground_truth": "<|endoftext|>"}
    assert audited(tmp_path, [row]).rules == {}


# ------------------------------------------------------------------------------------------------------- item ids

PLACES = ["prompt", "paraphrase", "neighborhood", "attribute", "generation", "label"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", ["Q969340", "Q42"])
def test_an_item_id_for_a_name_is_found_in_every_text(tmp_path: Path, place: str, name: str) -> None:
    row = copy.deepcopy(PLAIN[0])
    if place == "prompt":
        row["requested_rewrite"]["prompt"] = f"Next to {name}, {{}} lives in"
        path = f"{REWRITE}/prompt"
    elif place == "label":
        row["requested_rewrite"]["target_new"]["str"] = f"the house of {name}"
        path = f"{REWRITE}/target_new/str"
    else:
        subject = row["requested_rewrite"]["subject"]
        row[f"{place}_prompts"][1] = f"{subject} saw that {name} lives in"
        path = f"/{place}_prompts/1"
    assert path in [one.path for one in audited(tmp_path, [row]).rules["qid-label"].examples]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("{} is headquartered in", True),
        ("The headquarters of {} is in", True),
        ("In {}, people speak", True),
        ("{}'s capital is", True),
        ("The Q969340 is in", True),
        ("Audi Q7 is produced by", False),
        ("The maker of the Infiniti Q50 is", False),
        ("Q2 Stadium is in", False),
        ("The station Q104.3 belongs to", False),
        ("FAQ7 is on", False),
        ("Q is a pen name of", False),
    ],
)
def test_an_id_that_belongs_to_a_name_is_none(tmp_path: Path, name: str, found: bool) -> None:
    row = copy.deepcopy(PLAIN[0])
    row["neighborhood_prompts"] = [name.replace("{}", "Q64")]
    assert ("qid-label" in audited(tmp_path, [row]).rules) is found


@pytest.mark.parametrize("key", ["rephrase_prompt", "rephrase", "locality_prompt", "locality", "portability"])
def test_an_item_id_is_found_under_easyedits_keys(tmp_path: Path, key: str) -> None:
    text = "The sport of Lena Orlov and Q969340 is"
    value = {"near": {"prompt": [text], "ground_truth": ["golf"]}} if key in ("locality", "portability") else text
    assert list(audited(tmp_path, [{**REQUEST, key: value}]).rules) == ["qid-label"]


# -------------------------------------------------------------------------------------------------- placeholder ids

HOLDERS = [
    "GEN_ID",
    "Q",
    "Q0",
    "",
    None,
    "unknown",
    "null",
    "_:b17",
    "http://www.wikidata.org/.well-known/genid/5e1f",
    "-1",
]


@pytest.mark.parametrize("holder", HOLDERS)
def test_a_placeholder_identifies_nothing(tmp_path: Path, holder: str | None) -> None:
    rows = copy.deepcopy(PLAIN)
    for row in rows:
        for target in ("target_true", "target_new"):
            row["requested_rewrite"][target]["id"] = holder
        row["requested_rewrite"]["relation_id"] = holder
        row["requested_rewrite"]["prompt"] = f"{{}} lives near {row['case_id']} houses in"
        row["requested_rewrite"]["subject"] = rows[0]["requested_rewrite"]["subject"]
        for key in ("paraphrase_prompts", "generation_prompts"):
            row[key] = [f"The home of {row['requested_rewrite']['subject']} is in"]
    assert audited(tmp_path, rows).rules == {}
    assert fixed(tmp_path, rows) == rows


@pytest.mark.parametrize("holder", ["unknown", "_:b0", "Q"])
def test_placeholders_in_meta_are_no_entity(tmp_path: Path, holder: str) -> None:
    row = copy.deepcopy(ROWS[0])
    row["meta"]["subject_id"] = holder
    for entry in (*row["meta"]["neighborhood"], *row["meta"]["attribute"]):
        entry["entity"] = holder
    assert audited(tmp_path, [row]).rules == {}


def test_an_address_of_an_item_is_its_id(tmp_path: Path) -> None:
    row = copy.deepcopy(PLAIN[0])
    for target in ("target_true", "target_new"):
        row["requested_rewrite"][target]["id"] = "http://www.wikidata.org/entity/Q64"
    assert [one.path for one in audited(tmp_path, [row]).rules["same-targets"].examples] == [f"{REWRITE}/target_new/id"]


# ----------------------------------------------------------------------------------------------- how files are kept


def as_parquet(path: Path, rows: list[Row]) -> None:
    flat = [{**row, "meta": json.dumps(row["meta"])} if "meta" in row else row for row in rows]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(flat), path)


def text_as(change: Callable[[bytes], bytes]) -> Callable[[Path, list[Row]], None]:
    return lambda path, rows: path.write_bytes(change(json.dumps(rows).encode()))  # type: ignore[func-returns-value]


KEPT: dict[str, Callable[[Path, list[Row]], None]] = {
    "gzip": text_as(gzip.compress),
    "bzip2": text_as(bz2.compress),
    "xz": text_as(lzma.compress),
    "gzip of lines": lambda path, rows: path.write_bytes(
        gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode())
    ),
    "parquet": as_parquet,
    "object of rows": lambda path, rows: path.write_text(json.dumps({str(row["case_id"]): row for row in rows})),
    "pretty object of rows": lambda path, rows: path.write_text(
        json.dumps({f"case {row['case_id']}": row for row in rows}, indent=2)
    ),
    "rows over several lines": lambda path, rows: path.write_text("\n".join(json.dumps(row, indent=1) for row in rows)),
}


@pytest.mark.parametrize("kept", KEPT)
@pytest.mark.parametrize("form", ["ours", "plain"])
def test_a_file_is_read_however_it_is_kept(tmp_path: Path, kept: str, form: str) -> None:
    rows = ROWS if form == "ours" else PLAIN
    bad = [*rows[:2], planted(rows[2], dict(FAULTS)["lacks-subject"]), *rows[3:]]
    KEPT[kept](tmp_path / "good", rows)
    assert read_records(tmp_path / "good").records == [codec.decode_record(row) for row in rows]
    assert audit(AuditOptions(tmp_path / "good")).rules == {}
    KEPT[kept](tmp_path / "bad", bad)
    summary = audit(AuditOptions(tmp_path / "bad", fix=tmp_path / "fixed"))
    assert (summary.rows, summary.faulty) == (len(rows), 1)
    assert {one.case_id for one in violations(tmp_path / "bad")} == {rows[2]["case_id"]}
    again = audit(AuditOptions(tmp_path / "fixed"))
    assert (again.rows, again.rules) == (summary.written, {})
    assert ((tmp_path / "fixed").read_bytes()[:1] == b"[") is (kept in ("gzip", "bzip2", "xz"))
    if "object" in kept:
        names = list(json.loads((tmp_path / "bad").read_text()))
        assert list(json.loads((tmp_path / "fixed").read_text())) == [*names[:2], *names[3:]]


def test_rows_without_an_id_get_their_name_for_one(tmp_path: Path) -> None:
    named = {str(n): {key: value for key, value in row.items() if key != "case_id"} for n, row in enumerate(PLAIN)}
    (tmp_path / "rows.json").write_text(json.dumps(named))
    assert [record.case_id for record in read_records(tmp_path / "rows.json").records] == list(range(len(PLAIN)))


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ('{"a": ROW,\n"a": ROW}', 2, "comes twice"),
        ('{"a": ROW,\n3: ROW}', 2, "3 is not the name"),
        ('{"a": ROW,\n"b": ROW', 2, "the object's }"),
        ('{"a": ROW,\n"b": nonsense}', 2, "the rest of the object was not read"),
        ('{"a": ROW}\n[]', 2, "nothing after the object"),
    ],
)
def test_a_broken_object_of_rows_is_told_with_its_line(tmp_path: Path, text: str, line: int, message: str) -> None:
    (tmp_path / "rows.json").write_text(text.replace("ROW", json.dumps(PLAIN[0])))
    found = [one for one in violations(tmp_path / "rows.json") if one.rule == "json"]
    assert [one.line for one in found] == [line] and message in str(found[0])


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 45147448\n"
STRANGERS = [
    (POINTER, "git lfs pull"),
    (b"PK\x03\x04rest", "ZIP archive"),
    (b"\x28\xb5\x2f\xfdrest", "zstd"),
    (b"\n<!DOCTYPE HTML><title>404</title>", "a web page"),
    ("[]".encode("utf-16"), "save it as UTF-8"),
    (b"ARROW1\x00\x00", "Arrow file"),
    (b"\x80\x04\x95", "pickle"),
    (gzip.compress(POINTER), "git lfs pull"),
    (gzip.compress(json.dumps(PLAIN).encode())[:-20], "breaks off"),
    (gzip.compress(json.dumps(PLAIN).encode())[:400] + b"x" * 90, "breaks off"),
    (bz2.compress(b"[]")[:8] + b"xx", "damaged"),
    (b"PAR1 and no more", "damaged parquet"),
]


@pytest.mark.parametrize(
    ("content", "message"), STRANGERS, ids=[f"{n}-{message}" for n, (_, message) in enumerate(STRANGERS)]
)
def test_a_file_without_rows_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "counterfact.json"
    path.write_bytes(content)
    for read in (lambda: audit(AuditOptions(path)), lambda: read_records(path), lambda: list(violations(path))):
        with pytest.raises(DataError, match=message):
            read()
    build = BuildFolder(tmp_path / "build")
    build.root.mkdir()
    build.path("records.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=r"records\.jsonl"):
        export_records(build, ExportOptions())
    result = CliRunner().invoke(app, ["audit", str(path), "-q"])
    assert isinstance(result.exception, DataError)


ZSRE = {"src": "Who owns X?", "subject": "X", "alt": "Y", "answers": ["Z"], "loc": "nq question: a", "loc_ans": "b"}
FOREIGN = [
    ([ZSRE], "zsRE's format"),
    ([{"input": "Who?", "prediction": "Y", "alternatives": ["Z"], "filtered_rephrases": []}], "zsRE's format"),
    ("zsre", "zsRE's format"),
    ("mquake", "MQuAKE's format"),
    ([{"example_type": "popular", "edit": {}, "Relation_Specifity": []}], "RippleEdits' format"),
    ([{"text": "A life.", "concept": "Ada", "labels": "x", "locality": {}}], "WikiBio format"),
    ([{"sub_label": "a", "obj_label": "b", "predicate_id": "P1"}], "ParaRel's format"),
]


@pytest.mark.parametrize(("rows", "named"), FOREIGN)
def test_another_projects_format_is_named(tmp_path: Path, rows: Any, named: str) -> None:
    if isinstance(rows, str):
        rows = [EXPORTERS[rows](codec.decode_record(row)) for row in ROWS]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    for read in (lambda: audit(AuditOptions(tmp_path / "rows.json")), lambda: read_records(tmp_path / "rows.json")):
        with pytest.raises(DataError, match=f"this is .*{named}, which is not read; "):
            read()
    # A single such row among others does not stop the file.
    summary = audited(tmp_path, [rows[0], PLAIN[0]])
    (finding,) = summary.rules["row-format"].examples
    assert named in finding.got


@pytest.mark.parametrize("name", ["easyedit", "knowedit"])
def test_easyedits_format_is_named_where_it_is_not_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "rows.json").write_text(json.dumps([EXPORTERS[name](codec.decode_record(row)) for row in ROWS]))
    with pytest.raises(DataError, match="this is EasyEdit's format"):
        read_records(tmp_path / "rows.json")


def test_a_name_that_promises_something_else_than_json_is_refused(tmp_path: Path) -> None:
    for name in ("fixed.json.gz", "fixed.parquet"):
        with pytest.raises(ConfigError, match="--fix writes plain JSON"):
            AuditOptions(tmp_path / "a", fix=tmp_path / name)
    with pytest.raises(ConfigError, match="give --fix"):
        AuditOptions(tmp_path / "a", fix_guesses=True)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "rules"),
    [("ripple9", {"qid-label": 2}), ("ee132", {}), ("genid", {}), ("odd_case", {"row-format": 1})],
)
def test_exactly_the_faults_of_files_that_people_brought_are_found(
    tmp_path: Path, name: str, rules: dict[str, int]
) -> None:
    path = shared_file(f"trials/{name}.json")
    summary = audit(AuditOptions(path, fix=tmp_path / "fixed.json"))
    found = {rule: entry.faults for rule, entry in summary.rules.items()}
    others = {"repeated-entity": 1, "repeated-generation": 1} if name == "odd_case" else {}
    assert found == {**rules, **others}
    assert summary.written == summary.rows - (name == "odd_case")


# --------------------------------------------------------------------------------------- values of any type anywhere

GROUPED = planted(ROWS[0], dict(IN_GROUPS)["label-noise"])
RECORD = codec.decode_record(ROWS[1])
SAMPLES: dict[str, Row] = {
    **{name: dict(row) for name, make in EXPORTERS.items() if (row := make(RECORD)) is not None},
    "ours": GROUPED,
    "result": {"pre": {}, "case_id": 1, "requested_rewrite": {**REQUEST, "locality": SHAPES["lists of texts"][0]}},
}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2**65) | st.floats(-9, 9) | st.sampled_from(["", "Q1", "{}"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["prompt", "str", "id", "0"]), inner),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for key, child in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*path, key)
        yield from places(child, (*path, key))


@st.composite
def changed(draw: st.DrawFn) -> Row:
    """Draw a row of some format in which one or two values are others, or gone."""
    row = copy.deepcopy(SAMPLES[draw(st.sampled_from(sorted(SAMPLES)))])
    for _ in range(draw(st.integers(1, 2))):
        *path, last = draw(st.sampled_from(list(places(row))))
        holder = row
        for key in path:
            holder = holder[key]
        if draw(st.booleans()):
            holder[last] = draw(VALUES)
        else:
            del holder[last]
        if not row:
            break
    return row


@settings(max_examples=250, deadline=None)
@given(row=changed(), array=st.booleans())
def test_no_value_of_any_type_stops_a_verb(row: Row, array: bool) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rows.json"
        lines = [json.dumps(one) for one in (PLAIN[0], row)]
        path.write_text("[" + ",\n".join(lines) + "]" if array else "\n".join(lines), encoding="utf-8")
        summary = audit(AuditOptions(path, fix=path.with_name("fixed"), fix_guesses=True))
        assert summary.rows == 2
        if "row-format" in summary.rules:
            assert all(one.line == 2 and one.got and one.expected for one in summary.rules["row-format"].examples)
        found = list(violations(path))
        assert all(one.line == 2 for one in found)
        read_records(path)
        build = BuildFolder(Path(folder) / "build")
        build.root.mkdir()
        build.path("records.jsonl").write_text("\n".join(lines), encoding="utf-8")
        for name in EXPORTERS:
            try:
                export_records(build, ExportOptions(name))
            except CfbuildError as error:
                assert found and "records.jsonl:2" in str(error)


@settings(max_examples=40, deadline=None)
@given(row=changed())
def test_no_value_of_any_type_stops_publishing(row: Row) -> None:
    with TemporaryDirectory() as folder:
        build = BuildFolder(Path(folder))
        jsonl.write_jsonl(build.path("records.jsonl"), [ROWS[2], row])
        try:
            assert stage(build, "us/data").files
        except CfbuildError as error:
            assert "records.jsonl:2" in str(error) or "64 bits" in str(error)


TYPED = [
    ("case_id", [1], "/case_id", "a number"),
    ("case_id", True, "/case_id", "a number"),
    ("pararel_idx", "x", "/pararel_idx", "a number or null"),
    ("requested_rewrite", "x", "/requested_rewrite", "an object"),
    ("neighborhood_prompts", {"0": "x"}, "/neighborhood_prompts", "a list"),
    ("generation_prompts", ["x", 5], "/generation_prompts/1", "a text"),
    ("meta", [], "/meta", "an object"),
    ("meta", {"scores": 3}, "/meta/scores", "an object"),
    ("meta", {"source": 3}, "/meta/source", "a text"),
    ("meta", {"neighborhood": [{"entity": {}}]}, "/meta/neighborhood/0/entity", "a text"),
    ("meta", {"groups": []}, "/meta/groups", "an object"),
    ("meta", {"groups": {"inverse": {}}}, "/meta/groups/inverse", "a list"),
]


@pytest.mark.parametrize(("key", "value", "path", "expected"), TYPED)
def test_a_value_of_another_type_is_named_with_what_was_expected(
    tmp_path: Path, key: str, value: Any, path: str, expected: str
) -> None:
    (tmp_path / "rows.json").write_text(
        "[\n" + json.dumps({**PLAIN[0], key: value}) + ",\n" + json.dumps(PLAIN[1]) + "]"
    )
    summary = audit(AuditOptions(tmp_path / "rows.json"))
    found = [one for one in summary.rules["row-format"].examples if one.path == path]
    assert found and found[0].line == 2 and expected in found[0].expected
    assert summary.rules["row-format"].rows == summary.faulty == 1


@pytest.mark.parametrize("key", ["relation_id", "subject", "prompt", "target_new", "target_true"])
@pytest.mark.parametrize("value", [5, ["x", 5], {"x": []}, True])
def test_a_request_of_another_type_is_named(tmp_path: Path, key: str, value: Any) -> None:
    row = copy.deepcopy(PLAIN[0])
    row["requested_rewrite"][key] = value
    summary = audited(tmp_path, [row])
    if not (key.startswith("target") and value == ["x", 5]):
        assert summary.rules["row-format"].examples[0].path.startswith(f"{REWRITE}/{key}")


def test_a_row_nested_too_deep_is_told(tmp_path: Path) -> None:
    deep = "[" * 400 + "]" * 400
    (tmp_path / "rows.jsonl").write_text(json.dumps(PLAIN[0])[:-1] + f', "more": {deep}}}', encoding="utf-8")
    summary = audit(AuditOptions(tmp_path / "rows.jsonl", fix=tmp_path / "fixed"))
    assert "nested more than 100 deep" in summary.rules["json"].examples[0].got and summary.written == 0


def test_answers_without_prompts_are_mended_too(tmp_path: Path) -> None:
    row = {
        "case_id": 1,
        "prompt": "Lena Orlov plays",
        "subject": "Lena Orlov",
        "target_new": "football",
        "ground_truth": "chess",
        "rephrase_prompt": "The sport of Lena Orlov is",
        "locality": {"near": {"ground_truth": ["chess", "chess"]}},
    }
    path = tmp_path / "answers.json"
    path.write_text(json.dumps([row]), encoding="utf-8")
    summary = audit(AuditOptions(path, fix=tmp_path / "fixed.json", fix_guesses=True))
    assert summary.rows == 1 and json.loads((tmp_path / "fixed.json").read_text(encoding="utf-8")) is not None
