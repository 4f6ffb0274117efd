"""Exported files, read as the readers of each project read them. `test_tools.py` has the tools themselves."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from scored_build import records, write_scored
from typer.testing import CliRunner

from cfbuild.audit.validate import violations
from cfbuild.cli import app
from cfbuild.data import Entity, GroupPrompt, Record, Target, Template
from cfbuild.errors import ConfigError
from cfbuild.pipeline.export import ExportOptions, export_records
from cfbuild.publish.bundles import BUNDLES, flat_row
from cfbuild.publish.export_input import ExportInput, OtherNames
from cfbuild.publish.formats import EXPORTERS, LOC_MARK, knowedit, mquake, wikibigedit
from cfbuild.publish.ripple import LISTS, rippleedits
from cfbuild.publish.uniedit import uniedit
from cfbuild.records.multi import free_of_conflicts
from cfbuild.records.prompts import prompts_of, stays_true
from cfbuild.store import codec, jsonl
from cfbuild.store.codec import decode_record
from cfbuild.store.folder import BuildFolder
from cfbuild.store.schema import load_schema

PLAIN = records(12, hostile=True)
HOP = Template("P17", "rewrite", "{} lies in the country of", "test")
ALIAS = "Ms Nobody"


def grouped(record: Record) -> Record:
    """Return the record with a prompt of each group whose answers are known."""
    subject, country, second = record.subject, Target("Q801", "Norway"), Target("Q802", "Peru")
    changed = {
        "subject_aliases": GroupPrompt(
            record.prompt.fill(ALIAS), record.target_new, record.target_true, subject.id, record.relation, "t"
        ),
        "inverse": GroupPrompt(
            f"{record.target_new.label} is home to", subject, Target("Q803", "Ola"), "Q9", "P1376", "t"
        ),
        "two_hop": GroupPrompt(
            f"The home of {subject.label} lies in the country of", country, second, subject.id, "P17", HOP.id
        ),
    }
    stays = {
        "relation_specificity": GroupPrompt(f"{subject.label} speaks", second, country, subject.id, "P17", "t"),
        "forgetting": GroupPrompt(f"{subject.label} stays in", second, country, subject.id, record.relation, "t"),
    }
    return replace(record, groups={name: (one,) for name, one in {**changed, **stays}.items()})


RECORDS = [grouped(record) if record.case_id % 2 else record for record in PLAIN]
ENTITIES = [
    Entity("Q801", {"en": "Norway"}, {"en": ("Norge", "Norway")}),
    *(Entity(record.subject.id, {"en": record.subject.label}, {"en": (ALIAS,)}) for record in RECORDS),
]
KNOWN = OtherNames.of("en", ENTITIES, [HOP])


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> BuildFolder:
    built = write_scored(tmp_path_factory.mktemp("export") / "build", RECORDS, scored=False)
    jsonl.write_jsonl(built.path("entities.jsonl"), map(codec.encode_entity, ENTITIES))
    jsonl.write_jsonl(built.path("templates.jsonl"), [codec.encode_template(HOP)])
    return built


def exported(build: BuildFolder, name: str) -> list[dict[str, Any]]:
    made = export_records(build, ExportOptions(name))
    rows: list[dict[str, Any]] = json.loads(made.path.read_text(encoding="utf-8"))
    assert len(rows) == made.records - made.left_out and made.records == len(RECORDS)
    return rows


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def check(schema: str, rows: list[dict[str, Any]]) -> None:
    published = load_schema(schema)
    Draft202012Validator.check_schema(published)
    assert rows
    for row in rows:
        Draft202012Validator(published).validate(row)


@pytest.mark.parametrize("name", EXPORTERS)
def test_every_row_fits_the_formats_schema(build: BuildFolder, name: str) -> None:
    check(f"export-{name}", exported(build, name))


def test_every_row_of_a_folder_fits_its_schema(build: BuildFolder) -> None:
    made = {name: export_records(build, ExportOptions(name)).path for name in BUNDLES}
    for name in ("lm-eval", "inspect"):
        check("export-question", [row for path in made[name].glob("data/*.jsonl") for row in lines(path)])
    for name in ("counterfact.json", "multi_counterfact.json"):
        check("export-counterfact", json.loads((made["memit"] / name).read_text(encoding="utf-8")))
    check("export-uniedit", list(json.loads((made["uniedit"] / "cfbuild.json").read_text(encoding="utf-8")).values()))
    check("export-tracing", lines(made["tracing"] / "tracing.jsonl"))
    check("export-chat", [row for path in made["chat"].glob("*.jsonl") for row in lines(path)])


def test_counterfact_comes_back_as_the_same_records(build: BuildFolder) -> None:
    rows = exported(build, "counterfact")
    assert list(violations(build.path("export/counterfact.json"))) == []
    for row, record in zip(rows, RECORDS, strict=True):
        again = decode_record(row)
        assert (again.rewrite, again.target_new, again.target_true) == (
            record.rewrite,
            record.target_new,
            record.target_true,
        )
        assert [one.text for one in again.paraphrases] == [one.text for one in record.paraphrases]
        assert [one.text for one in again.neighborhood] == [one.text for one in record.neighborhood]
        assert again.generation == record.generation and "meta" not in row


def test_a_reader_of_counterfact_finds_its_keys(build: BuildFolder) -> None:
    # How the released evaluation reads a row: by these keys, formatting the prompt with the subject.
    for row in exported(build, "counterfact"):
        request = row["requested_rewrite"]
        assert request["prompt"].format(request["subject"]) and " " + request["target_new"]["str"]
        assert isinstance(row["pararel_idx"], int)
        assert all(isinstance(row[f"{group}_prompts"], list) for group in ("paraphrase", "neighborhood", "attribute"))


def test_a_reader_of_zsre_finds_its_keys(build: BuildFolder) -> None:
    for row, record in zip(exported(build, "zsre"), RECORDS, strict=True):
        assert LOC_MARK in row["loc"] and row["alt"] != "" and row["subject"] in row["src"]
        assert row["src"].replace(row["subject"], "{}") == record.prompt.text
        assert row["cond"].split(" >> ")[0] == row["answers"][0]


def test_a_reader_of_easyedit_finds_its_keys(build: BuildFolder) -> None:
    for row, record in zip(exported(build, "easyedit"), RECORDS, strict=True):
        assert row["subject"] in row["prompt"] and row["ground_truth"]
        assert row["target_new"] == record.target_new.label


def test_a_reader_of_knowedit_finds_neighbors_and_groups(build: BuildFolder) -> None:
    for row, record in zip(exported(build, "knowedit"), RECORDS, strict=True):
        locality = {kind: [one["prompt"] for one in some] for kind, some in row["locality"].items()}
        stays = [record.groups[kind][0].text for kind in ("relation_specificity", "forgetting") if record.groups]
        neighbors = [one.text for one in record.neighborhood]
        assert locality == {"Relation_Specificity": [*neighbors, *stays[:1]], "Forgetfulness": stays[1:]}
        assert row["portability"]["Logical_Generalization"][0]["ground_truth"] == [[record.target_new.label]]
        # EasyEdit's collate takes the first prompt of the first list, and a text or a list inside a list as its answer.
        first = (row["locality"]["Relation_Specificity"] or row["locality"]["Forgetfulness"])[0]
        assert isinstance(first["prompt"], str) and first["ground_truth"][0][0] == record.target_true.label


def test_knowedits_lists_are_those_that_the_record_has() -> None:
    assert set(knowedit(PLAIN[1])["portability"]) == {"Logical_Generalization"}
    portability = knowedit(RECORDS[1])["portability"]
    assert [one["ground_truth"] for one in portability["Reasoning"]] == [[["Norway"]], [[RECORDS[1].subject.label]]]
    assert ALIAS in portability["Subject_Aliasing"][0]["prompt"]


def test_a_reader_of_wikibigedit_finds_its_keys() -> None:
    # EasyEdit's example asks for a persona and a hop where they are texts, and puts the others into lists of one.
    with_groups, without = wikibigedit(RECORDS[1]), wikibigedit(PLAIN[1])
    assert with_groups["update"] == PLAIN[1].rewrite and with_groups["ans"] == PLAIN[1].target_new.label
    assert (with_groups["mhop_ans"], without["mhop"], without["mhop_ans"]) == ("Norway", None, None)
    assert ALIAS in with_groups["personas"] and without["personas"] is None
    assert without["loc_ans"] == PLAIN[1].target_true.label


def test_a_reader_of_mquake_finds_its_keys(build: BuildFolder) -> None:
    for row, record in zip(exported(build, "mquake"), RECORDS, strict=True):
        request = row["requested_rewrite"][0]
        assert request["prompt"].format(request["subject"]) == row["questions"][0] == record.rewrite
        assert row["new_single_hops"][0]["answer"] == request["target_new"]["str"] == row["new_answer"]
        assert row["orig"]["triples"] == [[record.subject.id, record.relation, record.target_true.id]]
    known = OtherNames({PLAIN[0].target_new.id: ("Elsewhere", PLAIN[0].target_new.label)})
    assert mquake(PLAIN[0], known)["new_answer_alias"] == ["Elsewhere"]


def test_a_reader_of_rippleedits_finds_its_lists(build: BuildFolder) -> None:
    read = exported(build, "rippleedits")
    known = [record for record in RECORDS if record.relation != "P937"]
    assert len(read) == len(known)  # P937, work location, is none of its relations
    for row, record in zip(read, known, strict=True):
        assert row["edit"]["previous_fact"]["target_id"] == record.target_true.id
        for name in LISTS:
            for case in row[name]:
                for query in (*case["test_queries"], *case["condition_queries"]):
                    assert query["phrase"] == query["prompt"] and query["answers"][0]["value"]
                    assert query["query_type"] == "regular" or query["second_hop_target_ids"] == ["Q801"]
    two_hop = next(row for row, record in zip(read, known, strict=True) if record.groups)["Compositionality_I"][0]
    assert two_hop["test_queries"][0]["answers"] == [{"value": "Norway", "aliases": ["Norge"]}]
    assert two_hop["condition_queries"][0]["phrase"].endswith(" lies in the country of")
    for name in ("Relation_Specificity", "Forgetfulness"):
        (stays,) = next(row for row, record in zip(read, known, strict=True) if record.groups)[name]
        assert stays["test_queries"][0]["answers"][0]["value"] == "Norway"
    assert rippleedits(replace(PLAIN[0], relation="P31")) is None


def uniedits_kind(row: dict[str, Any]) -> str:
    """Return the kind that UniEdit's reader tells from a question's chain."""
    ends = [hop for hop in row["one_hops"] if hop["path"] == ["h_e", "r_e", "t_e"]]
    assert ends and all(len(path) == 5 for path in row["paths"])
    if len(row["paths"]) > 1:
        return "multi-hop"
    if row["paths"][0][:4] == ["t_e", "r_e", "h_e", "b"]:
        return "relation reverse"
    head = ends[0]["head_entity"]
    return "subject alias" if head["aliases"] and ends[0]["subject"] != head["label"] else "rephrase"


def test_a_reader_of_uniedit_tells_every_kind_of_question(build: BuildFolder) -> None:
    folder = export_records(build, ExportOptions("uniedit")).path
    read = json.loads((folder / "cfbuild.json").read_text(encoding="utf-8"))
    assert list(read) == [str(record.case_id) for record in RECORDS]
    row = read["1"]
    assert [uniedits_kind(question) for question in row["generality"].values()] == [
        *["rephrase"] * 2,
        "subject alias",
        "relation reverse",
        "multi-hop",
    ]
    # Its evaluation in batches wants one question of locality, number 0; a neighbor's is of the edit's relation.
    shared = set()
    for each in read.values():
        ((number, question),) = each["locality"].items()
        hop, edit = question["one_hops"][0], each["edit"]
        shared.add(question["loc_type"])
        assert number == "0" and hop["head_entity"]["id"] != edit["tail_entity"]["value"]["id"]
        assert (hop["head_entity"]["id"] == edit["head_entity"]["id"]) == (question["loc_type"] == "head of edit")
        assert question["loc_type"] == "head of edit" or hop["property"]["id"] == edit["property"]["id"]
    assert shared == {"head of edit", "property of edit"}
    assert uniedit(RECORDS[1])["generality"].keys() == {"0", "1", "2"}  # without other names and templates


def test_memits_folder_has_records_snippets_and_the_tables_of_words(build: BuildFolder) -> None:
    texts = [codec.decode_reference(row) for _, row in jsonl.read_rows(build.path("references.jsonl"))]
    first, second = replace(PLAIN[0], target_new=Target("Q1", "Oslo"), relation="P19"), PLAIN[1]
    files = {file.path: file.content for file in BUNDLES["memit"](ExportInput([first, second], KNOWN, texts))}
    assert [row["case_id"] for row in json.loads(files["counterfact.json"])] == [0]
    snippets = json.loads(files["attribute_snippets.json"])
    assert snippets[0]["samples"][0].keys() == {"name", "text"} and snippets[0]["relation_id"] == "P19"
    idf, vocabulary = np.load(io.BytesIO(files["idf.npy"])), json.loads(files["tfidf_vocab.json"])
    assert len(idf) == len(vocabulary) and sorted(vocabulary.values()) == list(range(len(idf)))
    without = {file.path: file for file in BUNDLES["memit"](ExportInput([first, second], KNOWN))}
    assert without["counterfact.json"].rows == 2 and "idf.npy" not in without


def test_no_two_records_of_multi_counterfact_ask_for_different_objects() -> None:
    again = replace(PLAIN[0], case_id=99, target_new=Target("Q77", "Elsewhere"))
    elsewhere = replace(PLAIN[0], case_id=98, relation="P937")
    assert list(free_of_conflicts([PLAIN[0], again, elsewhere])) == [PLAIN[0], elsewhere]


def test_a_row_of_counterfact_tracing_makes_its_prompt() -> None:
    inner = replace(PLAIN[0], prompt=Template("P19", "rewrite", "The home of {} is in", "test"))
    for record in (PLAIN[0], inner):
        row = flat_row(record)
        assert row["prompt"] == f"{row['relation_prefix']}{row['subject']}{row['relation_suffix']}"
        assert row["target_true"] == f" {record.target_true.label}"
    assert flat_row(inner)["subject"] == f" {inner.subject.label}" and flat_row(PLAIN[0])["subject"][0] != " "


def test_pairs_are_as_long_and_have_other_answers() -> None:
    def length(text: str) -> int:
        return len(text) // 8

    files = {file.path: file for file in BUNDLES["tracing"](ExportInput(PLAIN, length=length))}
    pairs = [json.loads(line) for line in files["pairs.jsonl"].content.splitlines()]
    check("export-pairs", pairs)
    assert all(length(one["prompt"]) == length(one["corrupted_prompt"]) == one["tokens"] for one in pairs)
    assert all(one["subject"] != one["corrupted_subject"] and one["answer"] != one["corrupted_answer"] for one in pairs)
    assert "pairs.jsonl" not in {file.path for file in BUNDLES["tracing"](ExportInput(PLAIN))}


def test_questions_have_the_answer_that_is_right_after_the_edit(build: BuildFolder) -> None:
    folder = export_records(build, ExportOptions("inspect")).path
    for kind in {kind for record in RECORDS for kind, *_ in prompts_of(record)}:
        prompts = [(record, *rest) for record in RECORDS for name, *rest in prompts_of(record) if name == kind]
        rows = lines(folder / "data" / f"{kind}.jsonl")
        for row, (record, text, new, true) in zip(rows, prompts, strict=True):
            assert (row["case_id"], row["prompt"]) == (record.case_id, text)
            assert row["choices"] == [f" {new.label}", f" {true.label}"]
            assert row["choices"][row["answer"]].strip() == (true if stays_true(kind) else new).label
            assert [names[0] for names in row["names"]] == [new.label, true.label]
    assert lines(folder / "data" / "two_hop.jsonl")[0]["names"][0] == ["Norway", "Norge"]


@pytest.mark.parametrize("name", ["lm-eval", "inspect"])
def test_the_code_of_a_folder_is_python(build: BuildFolder, name: str) -> None:
    files = list(export_records(build, ExportOptions(name)).path.glob("*.py"))
    assert len(files) == 1
    compile(files[0].read_text(encoding="utf-8"), files[0].name, "exec")


@pytest.mark.parametrize("name", BUNDLES)
def test_a_folder_made_twice_is_the_same(build: BuildFolder, name: str) -> None:
    contents = []
    for _ in range(2):
        root = export_records(build, ExportOptions(name)).path
        contents.append({path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()})
    assert contents[0] == contents[1] and contents[0]


def test_the_command_counts_the_records_and_those_left_out(build: BuildFolder, tmp_path: Path) -> None:
    out = tmp_path / "mine.json"
    words = ["export", "--build", str(build.root), "--format", "zsre", "--out", str(out)]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert "12 records in the format zsre" in result.stdout and len(json.loads(out.read_text(encoding="utf-8"))) == 12
    words = ["export", "--build", str(build.root), "--format", "rippleedits"]
    assert "; 3 left out" in CliRunner().invoke(app, words, catch_exceptions=False).stdout


def test_unknown_formats_and_unfit_paths_are_refused(build: BuildFolder, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected one of counterfact, easyedit"):
        ExportOptions("csv")
    with pytest.raises(ConfigError, match="--format tracing"):
        ExportOptions("zsre", pairs_for="gpt2-xl")
    with pytest.raises(ConfigError, match="is not a folder"):
        export_records(build, ExportOptions("zsre", tmp_path / "no" / "x.json"))
    with pytest.raises(ConfigError, match="is there already"):
        export_records(build, ExportOptions("memit", tmp_path))
