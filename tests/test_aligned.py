"""Records in several languages: the same fact, o*, neighbors and case id in each, and why some are not there."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
from aligned_world import CODES, OBJECT, SUBJECT, Unnamed, aligned_graph, aligned_options, write_aligned
from jsonschema import Draft202012Validator
from stopping import stopping
from typer.testing import CliRunner

from cfbuild.audit.validate import read_records
from cfbuild.cli import app
from cfbuild.data import Fact, FactChange, Record, Rejection
from cfbuild.errors import BuildStateError, ConfigError
from cfbuild.pipeline.audit import AuditOptions, audit
from cfbuild.pipeline.export import ExportOptions, export_records
from cfbuild.pipeline.generate import GenerateOptions, generate
from cfbuild.pipeline.publish import stage
from cfbuild.pipeline.rebuild import rebuild
from cfbuild.records.aligned import in_language, record_files
from cfbuild.records.factset import FactSet
from cfbuild.records.maker import RecordMaker
from cfbuild.store.folder import BuildFolder
from cfbuild.store.schema import load_schema


def makers(unnamed: Unnamed | None = None, graph: FactSet | None = None) -> dict[str, RecordMaker]:
    graph = graph or aligned_graph(unnamed)
    found = {code: RecordMaker(in_language(graph, code, "en"), groups=()) for code in CODES}
    found["en"].align([found[code] for code in CODES[1:]])
    return found


def in_all(unnamed: Unnamed | None = None) -> tuple[tuple[Record, ...], dict[str, list[Record | Rejection]]]:
    """Return the English records of a city's relation, and what they are in the other languages."""
    made = makers(unnamed)
    records = made["en"].make(relations=("P19",)).records
    facts = dict(made["en"].cases([one.case_id for one in records]))
    return records, {code: [made[code].same(one, facts[one.case_id]) for one in records] for code in CODES[1:]}


def identity(record: Record) -> tuple[object, ...]:
    ids = record.subject.id, record.target_true.id, record.target_new.id
    return record.case_id, record.relation, *ids, tuple(one.entity for one in record.neighborhood)


def test_a_record_has_the_same_items_in_every_language() -> None:
    records, others = in_all()
    assert len(records) == 48
    for code, same in others.items():
        for record, translated in zip(records, same, strict=True):
            assert isinstance(translated, Record) and translated.language == code
            assert identity(translated) == identity(record) and len(translated.neighborhood) == 10
            assert [one.entity for one in translated.attribute] == [one.entity for one in record.attribute]
            assert translated.rewrite != record.rewrite and len(translated.paraphrases) == len(record.paraphrases)


def test_an_item_without_a_name_in_a_language_is_no_subject_there_and_no_neighbor_anywhere() -> None:
    nameless = f"Q{SUBJECT + 3}"
    records, others = in_all({"de": [nameless]})
    assert len(records) == 48
    assert all(nameless not in [one.entity for one in record.neighborhood] for record in records)
    there = {one.subject.id: isinstance(other, Record) for one, other in zip(records, others["de"], strict=True)}
    assert [subject for subject, is_there in there.items() if not is_there] == [nameless]
    (missing,) = [one for one in others["de"] if isinstance(one, Rejection)]
    assert (missing.decision.rule, missing.decision.measured["language"]) == ("missing-label", "de")
    assert all(isinstance(one, Record) for one in others["fr"])


def test_where_too_few_have_a_name_the_first_language_takes_other_neighbors_and_the_record_is_missing_there() -> None:
    nameless = [f"Q{SUBJECT + number}" for number in (1, 2, 3)]
    records, others = in_all({"de": nameless})
    assert len(records) == 48 and all(len(one.neighborhood) == 10 for one in records)
    for record, german, french in zip(records, others["de"], others["fr"], strict=True):
        first_city = record.target_true.id == f"Q{OBJECT}"
        assert isinstance(french, Record)
        if isinstance(german, Record):
            assert not first_city
        elif record.subject.id in nameless:
            assert german.decision.rule == "missing-label"
        else:
            assert first_city and german.decision.rule == "unaligned-neighbor"
            assert german.decision.measured["item"] in nameless


def test_o_star_has_a_name_in_every_language_if_any_object_has() -> None:
    records, _ = in_all({"fr": [f"Q{OBJECT + 1}"], "ja": [f"Q{OBJECT + 2}"]})
    # Cities without a name in one of the languages are never drawn, where the fact can be said there.
    named = [one for one in records if one.target_true.id in (f"Q{OBJECT}", f"Q{OBJECT + 3}")]
    assert named and {one.target_new.id for one in named} == {f"Q{OBJECT}", f"Q{OBJECT + 3}"}


def test_where_no_o_star_has_a_name_the_record_exists_in_the_first_language_alone() -> None:
    records, others = in_all({"fr": [f"Q{OBJECT + number}" for number in (1, 2, 3)]})
    first = [place for place, one in enumerate(records) if one.target_true.id == f"Q{OBJECT}"]
    assert len(first) == 12
    for place in first:
        missing = others["fr"][place]
        assert isinstance(missing, Rejection) and missing.decision.rule == "unaligned-target"
        assert isinstance(others["de"][place], Record)


def test_a_record_of_a_change_is_about_that_change_in_every_language() -> None:
    graph, subject = aligned_graph(), f"Q{SUBJECT}"
    old, new = (Fact("P19", subject, f"Q{OBJECT + number}", source="made") for number in (0, 1))
    facts = tuple(new if (one.relation, one.subject) == ("P19", subject) else one for one in graph.facts)
    made = makers(graph=replace(graph, facts=facts, changes=(FactChange("replaced", old, new),)))
    (record,) = [one for one in made["en"].make(relations=("P19",)).records if one.change]
    for code in CODES[1:]:
        translated = made[code].same(record, old)
        assert isinstance(translated, Record) and identity(translated) == identity(record)
        assert translated.change == record.change and translated.target_true.id == f"Q{OBJECT}"


def test_a_pickled_aligned_maker_makes_the_same_records() -> None:
    maker = makers({"de": [f"Q{SUBJECT + 3}"]})["en"]
    again = pickle.loads(pickle.dumps(maker))
    assert again.make(relations=("P19",)) == maker.make(relations=("P19",))


def test_languages_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    for codes in (("en",), ("en", "en")):
        with pytest.raises(ConfigError, match="at least two, each once"):
            GenerateOptions(languages=codes)
    with pytest.raises(ConfigError, match="is not the first"):
        GenerateOptions(language="fr", languages=("en", "fr"))
    with pytest.raises(ConfigError, match="no templates in 'la'"):
        generate(write_aligned(tmp_path / "la"), aligned_options(languages=("en", "la")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> BuildFolder:
    folder = write_aligned(tmp_path_factory.mktemp("aligned") / "build", {"de": [f"Q{SUBJECT + 3}"]})
    generate(folder, aligned_options(per_relation=None, relations=("P19", "P106")))
    return folder


def test_a_build_has_a_file_for_each_language_and_a_table_of_their_records(folder: BuildFolder) -> None:
    files = record_files(folder.manifest())
    assert files == {"en": "records.jsonl", **{code: f"records.{code}.jsonl" for code in CODES[1:]}}
    read = {code: read_records(folder.path(file)).all_valid().records for code, file in files.items()}
    for code, records in read.items():
        assert {record.language for record in records} == {code}
        assert "specificity_plus" in records[0].groups
        found = audit(AuditOptions(folder.path(files[code]), folder))
        assert (found.rules, found.known) == ({}, len(records))
    counted = folder.manifest().entry("generate").counted["languages"]
    assert counted["records"] == {code: len(records) for code, records in read.items()}
    ids = [{record.case_id for record in records} for records in read.values()]
    assert counted["in_all"] == len(set.intersection(*ids)) == len(read["de"]) < len(read["en"])
    assert counted["rules"] == {"fr": {}, "de": {"missing-label": 2}, "ja": {}}
    rejected = [json.loads(line) for line in folder.path("rejected.de.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {row["subject_id"] for row in rejected} == {f"Q{SUBJECT + 3}"}
    first = {record.case_id: identity(record) for record in read["en"]}
    assert all(identity(record) == first[record.case_id] for records in read.values() for record in records)


def test_a_finished_build_is_not_repeated_and_an_interrupted_one_ends_the_same(
    folder: BuildFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = aligned_options(per_relation=None, relations=("P19", "P106"))
    names = [*record_files(folder.manifest()).values(), "rejected.de.jsonl"]
    before = {name: folder.path(name).stat().st_mtime_ns for name in names}
    summary = generate(folder, options)
    assert summary.languages is not None and summary.languages["records"]["en"] == summary.kept
    assert before == {name: folder.path(name).stat().st_mtime_ns for name in names}
    stopped = write_aligned(tmp_path / "other", {"de": [f"Q{SUBJECT + 3}"]})
    with pytest.raises(KeyboardInterrupt):
        generate(stopped, options, progress=stopping("records in de", 5))
    generate(stopped, options)
    assert all(stopped.path(name).read_bytes() == folder.path(name).read_bytes() for name in names)
    with pytest.raises(BuildStateError, match="languages"):
        generate(stopped, aligned_options(per_relation=None, relations=("P19", "P106"), languages=("en", "fr")))


def test_a_language_that_is_given_up_leaves_no_file(tmp_path: Path) -> None:
    folder = write_aligned(tmp_path / "build")
    generate(folder, aligned_options(languages=("en", "fr", "de"), limit=3))
    folder.path("records.clean.jsonl").write_text("mine\n")
    generate(folder, aligned_options(languages=("en", "fr"), limit=3, restart=True))
    names = {path.name for path in folder.root.glob("re*.jsonl")}
    assert names >= {"records.jsonl", "records.fr.jsonl", "rejected.fr.jsonl", "records.clean.jsonl"}
    assert not names & {"records.de.jsonl", "rejected.de.jsonl"}


def test_the_command_prints_the_table(tmp_path: Path) -> None:
    folder = write_aligned(tmp_path / "build", {"de": [f"Q{SUBJECT + 3}"]})
    words = ["generate", "--build", str(folder.root), "--no-filter", "--languages", "en,de", "--relations", "P19"]
    ran = CliRunner().invoke(app, words)
    assert ran.exit_code == 0, ran.output
    lines = [" ".join(line.split()) for line in ran.stdout.splitlines()]
    assert "en 48" in lines and "de 47 missing-label 1" in lines and "47 records are there in every language" in lines


def test_each_language_is_a_configuration_and_the_commands_make_all_again(folder: BuildFolder) -> None:
    staged = stage(folder, "someone/aligned")
    configs = {file.path.split("/")[1] for file in staged.files if file.path.startswith("data/")}
    assert {"records", "records_fr", "records_de", "records_ja"} <= configs
    assert "config_name: records_ja" in staged.card and "## Languages" in staged.card
    assert "language:\n- de\n- en\n- fr\n- ja\n" in staged.card
    (command,) = [one for one in rebuild(folder.manifest().verbs).commands if one[0] == "generate"]
    assert command[command.index("--languages") + 1] == "en,fr,de,ja"


def test_the_bmike_export_has_a_case_by_language(folder: BuildFolder, tmp_path: Path) -> None:
    made = export_records(folder, ExportOptions("bmike"))
    rows, count = json.loads(made.path.read_text(encoding="utf-8")), made.records
    counted = folder.manifest().entry("generate").counted["languages"]
    assert len(rows) == count == counted["in_all"]
    schema = load_schema("export-bmike")
    Draft202012Validator.check_schema(schema)
    read = {code: {} for code in CODES}
    for code, file in record_files(folder.manifest()).items():
        read[code] = {one.case_id: one for one in read_records(folder.path(file)).records}
    for row in rows:
        Draft202012Validator(schema).validate(row)
        assert tuple(row) == CODES and len({row[code]["case_id"] for code in CODES}) == 1
        for code in CODES:
            record = read[code][row[code]["case_id"]]
            assert (row[code]["src"], row[code]["alt"]) == (record.rewrite, record.target_new.label)
            assert row[code]["loc"] == record.neighborhood[0].text and row[code]["loc_ans"] == record.target_true.label
    alone = write_aligned(tmp_path / "alone")
    generate(alone, GenerateOptions(per_relation=2))
    with pytest.raises(BuildStateError, match="generate --languages"):
        export_records(alone, ExportOptions("bmike"))
