"""Publishing to a hub on the loopback through the real clients, with every fault that a network has."""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import card_rules
import hub as loopback
import pytest
import tiny
import yaml
from hub import CUT, LOST, STORAGE_TOKEN, TOKEN, Hub, loopback_hub
from markdown_it import MarkdownIt
from pyarrow import parquet
from scored_build import HOSTILE, case, record, records, write_scored
from typer.testing import CliRunner

from cfbuild.cli import app
from cfbuild.data import GroupPrompt, Record
from cfbuild.errors import BuildStateError, ConfigError, PublishError
from cfbuild.pipeline.publish import publish, stage
from cfbuild.publish.card import _size
from cfbuild.publish.columns import columns
from cfbuild.publish.hub import Destination, Published
from cfbuild.publish.hub import Hub as Uploader
from cfbuild.publish.split import DRAWN
from cfbuild.publish.split import split_by_subject as divide
from cfbuild.publish.stage import StagedFile, score_row
from cfbuild.publish.table_chunks import prompt_table
from cfbuild.records.kinds import KINDS
from cfbuild.score.run_report import Report
from cfbuild.store.codec import decode_record
from cfbuild.store.folder import BuildFolder
from cfbuild.store.jsonl import read_rows, read_values, write_json, write_jsonl
from cfbuild.store.schema import schema_faults
from cfbuild.text.safe import HIDDEN, visible

NAME = "someone/counterfact-test"
LOAD = """
import json, sys
from datasets import load_dataset
card = open(sys.argv[2]).read()
exec(card.split("```python\\n")[1].split("```")[0])
assert list(measured) == ["tiny"] and len(records) == 3, measured
found = {}
for config in ("records", "prompts", "multi", "scores", "rejected", "references"):
    found[config] = {split: list(rows) for split, rows in load_dataset(sys.argv[1], config).items()}
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> BuildFolder:
    scored = [record(number, entity=number // 2) for number in range(30)]
    return write_scored(tmp_path_factory.mktemp("publish") / "build", scored)


@pytest.fixture(scope="module")
def staged(build: BuildFolder) -> tuple[StagedFile, ...]:
    return stage(build, NAME).files


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> tuple[StagedFile, ...]:
    """Return the files of another build of the same name."""
    return stage(write_scored(tmp_path_factory.mktemp("publish") / "other", records(9)), NAME).files


@pytest.fixture(scope="module")
def whole(staged: tuple[StagedFile, ...]) -> dict[str, int]:
    """Return the digests by path of the files that the hub must hold."""
    return {one.path: hash(one.source.read_bytes()) for one in staged}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    import datasets
    import huggingface_hub

    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with loopback_hub() as served:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", served.url)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", served.url)
        yield served
        huggingface_hub.close_session()


def read_back(row: dict[str, Any], table: str) -> dict[str, Any]:
    """Return a published row as it was in the build: columns of JSON text are read, as the card says."""
    for path in columns(table).json_texts:
        *outer, name = path.split(".")
        place = row[outer[0]] if outer else row
        place[name] = json.loads(place[name])
    if table == "records" and row["meta"]["change"] is None:
        del row["meta"]["change"]  # a column that a row of the build lacks is null in the published one
    return row


def with_groups(plain: Record) -> Record:
    """Return the record with a prompt of every group."""
    prompt = GroupPrompt(
        f"The home of {plain.subject.label} is in",
        plain.target_new,
        plain.target_true,
        plain.subject.id,
        plain.relation,
        "t9",
    )
    return replace(plain, groups=dict.fromkeys(KINDS, (prompt,)))


def split_by_subject(records: Iterable[Record], seed: int) -> dict[int, str]:
    splits = divide(((one.case_id, one.subject.id) for one in records), seed)
    return {case_id: DRAWN[place] for case_id, place in zip(splits.case_ids, splits.drawn, strict=True)}


def prompt_rows(item: Record) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = prompt_table([item]).to_pylist()
    return rows


def group_rows(row: dict[str, Any], group: str) -> list[dict[str, Any]]:
    """Return the rows of a group's configuration that a record's row should give."""
    request = {**row["requested_rewrite"]}
    return [
        {"case_id": row["case_id"], "requested_rewrite": request, **prompt} for prompt in row["meta"]["groups"][group]
    ]


def digests(hub: Hub) -> dict[str, int]:
    return {path: hash(content) for path, content in hub.files(NAME).items() if path != ".gitattributes"}


def upload(staged: tuple[StagedFile, ...], **where: Any) -> Published:
    """Publish files that are laid out already: laying them out takes longer than all that the hub is asked."""
    return Uploader(Destination(NAME, **where)).publish(staged, "all")


# -------------------------------------------------------------------------------------------------- what is published


def test_splits_share_no_subject_and_do_not_depend_on_order() -> None:
    split_records = [record(number, entity=number // 3) for number in range(90)]
    splits = split_by_subject(split_records, seed=0)
    names: dict[str, set[str]] = {}
    for member in split_records:
        names.setdefault(member.subject.id, set()).add(splits[member.case_id])
    assert all(len(found) == 1 for found in names.values())
    assert Counter(splits.values()) == {"train": 72, "validation": 9, "test": 9}
    assert split_by_subject(list(reversed(split_records)), seed=0) == splits != split_by_subject(split_records, seed=1)
    assert set(split_by_subject(split_records[:3], seed=0).values()) == {"train"}


def test_the_same_build_is_staged_as_the_same_bytes(build: BuildFolder, whole: dict[str, int]) -> None:
    assert {one.path: hash(one.source.read_bytes()) for one in stage(build, NAME).files} == whole


def test_files_end_by_their_size_and_hold_every_row_in_order(
    build: BuildFolder, staged: tuple[StagedFile, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rows(folder: BuildFolder) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {}
        for path in sorted(folder.path("publish").glob("data/*/*.parquet")):
            found.setdefault(f"{path.parent.name}/{path.name[:5]}", []).extend(parquet.read_table(path).to_pylist())
        return found

    whole = rows(build)
    monkeypatch.setattr("cfbuild.publish.stage.SHARD_BYTES", 5_000)
    monkeypatch.setattr("cfbuild.publish.stage.ROWS_A_GROUP", 4)
    folder = BuildFolder(Path(shutil.copytree(build.root, tmp_path / "build")))
    cut = stage(folder, NAME)
    assert rows(folder) == whole and cut.records == 30
    paths = [file.path for file in cut.files if file.path.startswith("data/records/train")]
    count = len(paths)
    assert count > 1 and paths == [f"data/records/train-{n:05d}-of-{count:05d}.parquet" for n in range(count)]
    assert len(cut.files) > len(staged)
    sizes = [file.size for file in cut.files if file.path.endswith(".parquet")]
    assert max(sizes) < 100_000 < sum(sizes)  # a file ends with the group of rows that reaches the limit
    assert f"| `records` | train | {len(whole['records/train']):,} |" in cut.card


def test_the_card_says_what_the_manifest_says(build: BuildFolder) -> None:
    from huggingface_hub import DatasetCard

    card = DatasetCard(stage(build, NAME).card)
    assert card.data.license == ["cc0-1.0"] and card.data.language == ["en"]
    assert [one["config_name"] for one in card.data.configs] == [
        *("records", "prompts", "multi", "scores", "rejected", "references")
    ]
    for part in ("| model | tiny |", "Table 2", "| P103 |", "| ES |", "| unknown-fact | 8 |", "--seed 0", "@inproc"):
        assert part in card.text
    rows = list(read_values(build.path("records.jsonl"), decode_record))
    first = sum(one.scores["tiny"]["target_new_rank"] <= 10 for one in rows)  # type: ignore[operator]
    sharing = sum(one.shared_class is not None and one.shared_class.id is not None for one in rows)
    for part in (
        f"| 10 | {len(rows)} | 0 |",
        f"In {first} of {len(rows)} records it is among the ten likeliest",
        f"In {sharing} of {len(rows)} records the false object shares a class",
        f"| none-shares | {len(rows) - sharing} |",
        "NS is over",
    ):
        assert part in card.text
    citation = yaml.safe_load((build.path("publish") / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["type"] == "dataset" and citation["title"].startswith(NAME)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> BuildFolder:
    """Return a build whose records two runs scored."""
    return write_scored(tmp_path_factory.mktemp("publish") / "compared", records(30), runs=("rome", "ft"))


def test_scores_have_a_row_a_record_and_run(compared: BuildFolder) -> None:
    import pyarrow.parquet as parquet

    paths = [one.source for one in stage(compared, NAME).files if one.path.startswith("data/scores/")]
    rows = [row for path in paths for row in parquet.read_table(path).to_pylist()]
    assert len(paths) == 3 and list(rows[0])[:5] == ["case_id", "run", "relation_id", "editor", "fault"]
    assert Counter(row["run"] for row in rows) == {"rome": 30, "ft": 30}
    for run in ("rome", "ft"):
        got = {row["case_id"]: row for row in rows if row["run"] == run}
        for _, row in read_rows(compared.path(f"runs/{run}/cases.jsonl")):
            assert got[row["case_id"]]["editor"] == run
            assert (got[row["case_id"]]["post"] or {}).get("rewrite_prompts") == (row["post"] or {}).get(
                "rewrite_prompts"
            )


def test_the_cards_scores_are_a_table_of_all_runs_with_their_signatures(compared: BuildFolder) -> None:
    card = stage(compared, NAME).card
    section = card[card.index("## Scores") : card.index("## Dropped by rule")]
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line[:1] == "|"]
    assert table[0][:5] == ["run", "records", "no edit", "S", "ES"] and len({len(row) for row in table}) == 1
    assert [row[0] for row in table[2:]] == ["unedited", "ft", "rome"]
    for row in table[3:]:
        report = json.loads(compared.path(f"runs/{row[0]}/report.json").read_text())
        figure = report["figures"]["post"]["ES"]
        assert row[:3] == [row[0], "30", "1"] and row[4].startswith(
            f"{figure['mean']:.1f} ± {figure['half_width_95']:.1f}"
        )
        assert f"\n{row[0]}: {report['signature']}\n" in section
        assert f"1 records have no edit in the run {row[0]}: the edit is not finite." in section
    relations = card[card.index("### By relation") : card.index("## Scores")]
    assert relations.splitlines()[2].endswith("| S before (ft) | S after (ft) | S before (rome) | S after (rome) |")


def test_an_earlier_builds_run_is_published_under_its_editors_name(tmp_path: Path) -> None:
    """Everything is the same as of a build of today but the manifest, which says where the files lie."""
    staged = {}
    for earlier in (True, False):
        folder = write_scored(tmp_path / f"earlier-{earlier}", records(9), earlier=earlier)
        assert folder.path("cases.jsonl").is_file() == earlier
        staged[earlier] = {one.path: one.sha256 for one in stage(folder, NAME).files}
    different = {path for path in staged[True] if staged[True][path] != staged[False].get(path)}
    assert staged[True].keys() == staged[False].keys() and different <= {"manifest.json", "README.md"}
    assert "data/scores/train-00000-of-00001.parquet" in staged[True]


def test_a_link_among_the_runs_is_not_followed(tmp_path: Path) -> None:
    folder = write_scored(tmp_path / "b", records(3))
    cases = folder.path("runs/rome/cases.jsonl")
    cases.rename(tmp_path / "elsewhere.jsonl")
    cases.symlink_to(tmp_path / "elsewhere.jsonl")
    with pytest.raises(BuildStateError, match="is a symbolic link"):
        stage(folder, NAME)


HEADINGS = [
    NAME.split("/")[1],
    *(
        "Use",
        "Uses and limits",
        "Filter",
        "Rank of the false objects",
        "Class of the false objects",
        "Composition",
        "By relation",
    ),
    *("Scores", "Dropped by rule", "By number of neighborhood prompts", "Rebuild", "Licence", "Citation"),
]
FIELDS = {
    *("language", "license", "pretty_name", "annotations_creators", "language_creators", "multilinguality"),
    *("size_categories", "source_datasets", "task_categories", "tags", "configs"),
}
HOSTILE_CARD = (
    *HOSTILE,
    "a | b \\| c \\",
    "one\ntwo\r\n---\nlicense: other",
    "\n---\n\n# Heading\n\n```\n<script>alert(1)</script>\n````\n",
    "![x](http://elsewhere.example/pixel.png) [y](javascript:alert(1)) *z* ~~w~~",
    "key: [value, {a: &b *c, !!python/object:os.system d}] # %YAML 1.1 ?",
    "\u2028\u2029\x85\x00\ufeff\t- 'x\": \u061c\u202e",
)


@pytest.mark.parametrize("hostile", HOSTILE_CARD)
def test_hostile_names_are_inert_in_the_card(tmp_path: Path, hostile: str) -> None:
    """Wherever a name of somebody else can get into it: model, endpoint, folder, reason, rule, licence, label."""
    from huggingface_hub import DatasetCard

    hostile_records = [record(number, subject=f"{hostile} {number}", relation="P36") for number in range(3)]
    folder = write_scored(tmp_path / "build", hostile_records, scored=False)
    generated = folder.manifest().entry("generate").as_dict()
    judge = {"model": hostile, "revision": hostile, hostile: hostile, "trusted": True}
    config = {**generated["config"], "model_filter": judge, "prefixes": {"source": hostile}, "language": hostile}
    texts = [{**row, "licence": hostile, "text": hostile} for _, row in read_rows(folder.path("references.jsonl"))]
    write_jsonl(folder.path("references.jsonl"), texts)
    files = {name: file["rows"] for name, file in generated["files"].items()}
    facts = {name: value for name, value in generated.items() if name not in ("config", "files")}
    shared = {**facts["shared_class"], "fallbacks": {hostile: 3}}
    folder.finish("fetch", {"source": hostile, "endpoint": hostile, "templates": [hostile]}, {}, {"facts": {}})
    folder.finish("generate", config, files, {**facts, "by_rule": {hostile: 3}, "shared_class": shared})
    cases = [case(one, hostile) for one in hostile_records]
    report = Report.of_cases(cases, {"model": hostile, "editor": hostile}).as_dict()
    write_json(folder.path("report.json"), report)
    folder.finish("validate-and-score", {"model": hostile, "editor": hostile, "trusted": True}, {"report.json": 1}, {})

    text = stage(folder, NAME).card
    card = DatasetCard(text)
    assert str(card) == text and not HIDDEN.search(text)
    assert card.data.license == ["cc0-1.0", "other"] and card.data.language == ["en"]
    assert set(card.data.to_dict()) == FIELDS
    assert card_rules.errors(card.data.to_dict()) == card_rules.warnings(card.data.to_dict()) == []
    # As a reader of GitHub's Markdown takes it: cfbuild's own headings, tables and fences, and nothing of the name's.
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(card.text)
    inline = [one for token in tokens for one in token.children or ()]
    kinds = {token.type for token in tokens} | {one.type for one in inline}
    assert not kinds & {"html_block", "html_inline", "link_open", "image", "em_open", "s_open", "hr", "code_block"}
    headings = [tokens[place + 1].content for place, token in enumerate(tokens) if token.type == "heading_open"]
    assert headings == HEADINGS
    assert sum(one.type == "text" and visible(" ".join(hostile.split())) in one.content for one in inline) >= 5
    fences = {token.info: token.content for token in tokens if token.type == "fence"}
    assert list(fences) == ["python", "text", "sh", "bibtex"]
    commands = [shlex.split(line) for line in re.split(r"\n(?=cfbuild )", fences["sh"])]
    assert [words[1] for words in commands] == ["fetch", "generate", "validate-and-score"]
    assert commands[1][commands[1].index("--trust") + 1] == visible(hostile)


def test_the_card_validates(build: BuildFolder, hub: Hub) -> None:
    from huggingface_hub import DatasetCard

    DatasetCard(stage(build, NAME).card).validate(repo_type="dataset")
    assert hub.log == ["validate"]


@pytest.mark.parametrize(
    ("code", "language", "tag"),
    [
        ("en", "en", None),
        ("haw", "haw", None),
        ("pt-br", "pt", "pt-BR"),
        ("zh-hans", "zh", "zh-Hans"),
        ("zh-hant-hk", "zh", "zh-Hant-HK"),
        ("be-tarask", "be", "be-tarask"),
        ("be-x-old", "be", "be-tarask"),
        ("nds-nl", "nds", "nds-NL"),
        ("simple", "en", "en-simple"),
        ("zh-classical", "lzh", None),
        ("als", "gsw", None),
        ("map-bms", "jv", "jv-x-bms"),
        ("mul", "multilingual", None),
        ("tokipona", "und", "tokipona"),
    ],
)
def test_a_build_in_any_language_has_a_card_that_the_hub_takes(
    tmp_path: Path, hub: Hub, code: str, language: str, tag: str | None
) -> None:
    from huggingface_hub import DatasetCard

    folder = write_scored(tmp_path / "build", [replace(one, language=code) for one in records(3)], scored=False)
    assert publish(folder, Destination(NAME)).changed and "validate" in hub.log
    card = DatasetCard(folder.path("publish/README.md").read_text(encoding="utf-8")).data.to_dict()
    assert card["language"] == [language] and card.get("language_bcp47") == (tag and [tag])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("language: [pt-br]", r'"language\[0\]" with value "pt-br" is not valid.*language_bcp47'),
        ("language: [en, xx]", '"xx" is not valid'),
        ("license: [cc0-1.0, my-own]", r'"license\[1\]" must be one of'),
        ("size_categories: n>1M", '"size_categories" must be one of'),
        ("tags: counterfact", '"tags" must be an array'),
        ("configs: [{config_name: a/b, data_files: []}]", "config_name"),
    ],
)
def test_the_loopback_hub_refuses_what_the_hub_refuses(hub: Hub, tmp_path: Path, wrong: str, message: str) -> None:
    card = tmp_path / "README.md"
    card.write_text(f"---\n{wrong}\n---\n\n# Card\n", encoding="utf-8")
    with pytest.raises(PublishError, match=message):
        upload((StagedFile("README.md", card, card.stat().st_size, "0" * 64),))
    assert digests(hub) == {}


def test_a_million_rows_have_a_size_that_the_hub_knows() -> None:
    assert [_size(count) for count in (3, 1_000, 999_999, 1_000_000, 2 * 10**7)] == [
        *("n<1K", "1K<n<10K", "100K<n<1M", "1M<n<10M", "10M<n<100M")
    ]


def test_texts_under_a_licence_of_the_hubs_are_named_by_it(tmp_path: Path) -> None:
    from huggingface_hub import DatasetCard

    folder = write_scored(tmp_path / "build", records(3), scored=False)
    texts = [row for _, row in read_rows(folder.path("references.jsonl"))]
    named = ("CC-BY-SA-4.0", "CC0-1.0", "GFDL-1.3-invariants-only")
    rows = [{**row, "licence": licence} for row, licence in zip(texts, named, strict=True)]
    write_jsonl(folder.path("references.jsonl"), rows)
    generated = folder.manifest().entry("generate")
    folder.finish("generate", generated.config, {"records.jsonl": 3, "references.jsonl": 3}, generated.counted)
    card = DatasetCard(stage(folder, NAME).card)
    assert card.data.license == ["cc0-1.0", "cc-by-sa-4.0", "other"] and "gfdl-1.3-invariants-only" in card.text


def test_the_files_hold_no_type_that_a_reader_may_not_know(tmp_path: Path) -> None:
    """Plain parquet: `datasets` 3 refuses types of 4 (`List`, `Json`), which 4 writes into a file's metadata."""
    import pyarrow
    from pyarrow import parquet

    def leaves(kind: pyarrow.DataType) -> Iterator[pyarrow.DataType]:
        if pyarrow.types.is_struct(kind):
            for part in kind:
                yield from leaves(part.type)
        elif pyarrow.types.is_list(kind):
            yield from leaves(kind.value_type)
        else:
            yield kind

    folder = write_scored(tmp_path / "build", [with_groups(one) for one in records(6)])
    files = [one.source for one in stage(folder, NAME).files if one.path.endswith(".parquet")]
    assert {path.parent.name for path in files} == {
        *KINDS,
        *("records", "prompts", "multi", "scores", "rejected", "references"),
    }
    known = {pyarrow.string(), pyarrow.int64(), pyarrow.float64(), pyarrow.bool_()}
    for path in files:
        schema = parquet.read_schema(path)
        assert schema.metadata is None and all(one.metadata is None for one in schema)
        assert {one for column in schema for one in leaves(column.type)} <= known
    card = (folder.path("publish") / "README.md").read_text(encoding="utf-8")
    assert "dataset_info" not in card


def test_prompts_are_rows_with_the_object_that_should_be_likelier_after_the_edit() -> None:
    grouped = with_groups(record(0))
    rows = prompt_rows(grouped)
    assert all(schema_faults(row, "prompts") == [] for row in rows)
    counted = Counter(row["kind"] for row in rows)
    groups = {name: len(prompts) for name, prompts in grouped.groups.items()}
    lists = (grouped.paraphrases, grouped.neighborhood, grouped.attribute, grouped.generation)
    own = dict(zip(("paraphrase", "neighborhood", "attribute", "generation"), map(len, lists), strict=True))
    assert counted == {"rewrite": 1, **own, **groups} and len(groups) == len(KINDS)
    for row in rows:
        stays = row["kind"] == "neighborhood" or (row["kind"] in KINDS and KINDS[row["kind"]].stays_true)
        assert row["answer"] == row["target_true" if stays else "target_new"]
        assert (row["answer"] is None) == (row["kind"] == "generation") == (row["choices"] == [])
        assert row["answer"] is None or row["kind"] == "multiple_choice" or row["answer"] in row["choices"]
    assert rows[0]["prompt"] == grouped.rewrite and rows[0]["answer"] == grouped.target_new.label


def test_every_key_of_a_row_is_published(tmp_path: Path) -> None:
    """Of the groups' tables too, whose rows are made of a record's, and read by pandas."""
    import pandas

    folder = write_scored(tmp_path / "build", [with_groups(one) for one in records(6)], scored=False)
    stage(folder, NAME)
    rows = [row for _, row in read_rows(folder.path("records.jsonl"))]
    for group in KINDS:
        made = pandas.concat(map(pandas.read_parquet, sorted(folder.path(f"publish/data/{group}").iterdir())))
        expected = [one for row in rows for one in group_rows(row, group)]
        got = sorted(made.to_dict("records"), key=lambda row: (row["case_id"], row["prompt"]))
        assert got == sorted(expected, key=lambda row: (row["case_id"], row["prompt"])) and len(got) == 6


def test_nothing_published_says_where_things_lay_or_holds_a_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Publish a build made from paths in every option: models, templates, patterns, a corpus, another file."""
    home = tmp_path / "home of ann"
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("CFBUILD_CACHE", str(home / "cache"))
    for name in ("templates", "pararel"):
        (home / name).mkdir(parents=True)
    (home / "templates" / "P103.txt").write_text("[rewrite]\n{} says it in\n")
    (home / "pararel" / "P103.jsonl").write_text('{"pattern": "[X] thinks in [Y]"}\n')
    (home / "corpus.txt").write_text("The mother tongue of Danielle Darrieux is French.\n\n" * 40)
    lm, model = tiny.make("gpt2"), home / "my model"
    lm.model.save_pretrained(model)
    lm.tokenizer.save_pretrained(model)
    sets = f"builtin,pararel,{home / 'templates'}"
    fetch = ["--source", "snapshot", "--relations", "P103", "--templates", sets, "--pararel", str(home / "pararel")]
    few = ["--layer", "1", "--steps", "2", "--skip-generation"]
    for verb, *words in (
        ["fetch", *fetch, "--contact", "ann@example.org"],
        ["generate", "--model", str(model), "--limit", "4", "--prefixes", "none"],
        ["validate-and-score", "--model", str(model), *few, "--covariance", str(home / "corpus.txt")],
    ):
        words = [verb, "--build", str(home / "build"), "--quiet", *words]
        assert CliRunner().invoke(app, words, catch_exceptions=False).exit_code == 0
    folder = BuildFolder(home / "build")
    published = b"".join(one.source.read_bytes() for one in stage(folder, NAME).files)
    manifest = folder.path("publish/manifest.json").read_text(encoding="utf-8")
    for name in ("my model", "templates@", "corpus.txt@"):
        assert name in manifest
    for secret in (str(tmp_path), "home of ann", str(Path.home()), TOKEN, "ann@example.org"):
        assert secret.encode() not in published, secret
    for name in ("report.html", "runs/rome/report.json", "runs/rome/cases.jsonl"):
        assert str(tmp_path).encode() not in folder.path(name).read_bytes()


def test_a_dry_run_shows_every_file_and_asks_nothing(
    build: BuildFolder, staged: tuple[StagedFile, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.socket.connect", lambda *given: pytest.fail("the network was asked"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    words = ["publish", NAME, "--build", str(build.root), "--dry-run"]
    shown = CliRunner().invoke(app, words, catch_exceptions=False).stdout
    for file in staged:
        assert file.path in shown and file.sha256 in shown
    assert "pretty_name: counterfact-test" in shown
    as_json = json.loads(CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False).stdout)
    assert "data/records/train-00000-of-00001.parquet" in {file["path"] for file in as_json["files"]}


@pytest.mark.parametrize("storage", ["xet", pytest.param("lfs", marks=pytest.mark.long)])
def test_command_line_to_load_dataset_and_the_same_rows(
    build: BuildFolder, whole: dict[str, int], tmp_path: Path, storage: str
) -> None:
    """With hf_xet, which the client takes where it is installed, and without it, as where it cannot be."""
    with loopback_hub() as hub:
        environment = {
            **os.environ,
            "HF_ENDPOINT": hub.url,
            "HF_TOKEN": TOKEN,
            "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_DISABLE_XET": str(int(storage == "lfs")),
            "HF_XET_XORB_COMPRESSION_POLICY": "none",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_DEBUG": "1",
        }
        command = [sys.executable, "-m", "cfbuild", "publish", NAME, "--build", str(build.root), "--private"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert "published" in done.stdout and TOKEN not in done.stdout + done.stderr
        again = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert "nothing to do" in again.stdout and len(hub.repositories[NAME].commits) == 2
        assert hub.repositories[NAME].private and hub.log.count("commit") == 1
        assert ("xorb" in hub.log, "upload" in hub.log) == (storage == "xet", storage == "lfs")
        assert STORAGE_TOKEN not in done.stdout + done.stderr
        assert digests(hub) == whole
        loaded = subprocess.run(
            [sys.executable, "-c", LOAD, NAME, str(build.path("publish/README.md"))],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        found = json.loads(loaded.stdout)
    paths = {"records": build.path("records.jsonl"), "cases": build.path("runs/rome/cases.jsonl")}
    rows = {name: [row for _, row in read_rows(path)] for name, path in paths.items()}
    scores = [score_row(row, "rome") for row in rows["cases"]]
    for config, expected in (("records", rows["records"]), ("scores", scores)):
        assert set(found[config]) == {"train", "validation", "test"}
        got = [read_back(row, config) for split in found[config].values() for row in split]
        assert sorted(got, key=lambda row: row["case_id"]) == expected
    expected = [row for record in map(decode_record, rows["records"]) for row in prompt_rows(record)]
    got = [row for split in found["prompts"].values() for row in split]
    assert sorted(got, key=repr) == sorted(expected, key=repr)
    for config in ("rejected", "references"):
        got = [read_back(row, config) for row in found[config]["full"]]
        assert got == [row for _, row in read_rows(build.path(f"{config}.jsonl"))]
    subjects = [{row["meta"]["subject_id"] for row in split} for split in found["records"].values()]
    assert sum(map(len, subjects)) == len(set.union(*subjects)) == 15
    assert not [path for path in build.root.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]


# ------------------------------------------------------------------------------------------------------- and how


def test_one_commit_then_none(build: BuildFolder, whole: dict[str, int], hub: Hub) -> None:
    first = publish(build, Destination(NAME))
    assert first.changed and digests(hub) == whole
    count = len(hub.log)
    second = publish(build, Destination(NAME))
    assert not second.changed and second.commit == first.commit
    assert len(hub.repositories[NAME].commits) == 2 and set(hub.log[count:]) == {"info", "tree"}
    assert hub.tokens == {f"Bearer {TOKEN}", None}  # None: the storage that files are put into gets no token


def test_main_moved_before_and_a_shard_of_old_is_removed(
    staged: tuple[StagedFile, ...], whole: dict[str, int], hub: Hub
) -> None:
    upload(staged)
    hub.push(NAME, "notes.txt", b"mine")
    hub.push(NAME, "data/records/train-00001-of-00002.parquet", b"old")
    upload(staged)
    files = hub.files(NAME)
    assert files.pop("notes.txt") == b"mine" and "data/records/train-00001-of-00002.parquet" not in files
    assert digests(hub).keys() - {"notes.txt"} == whole.keys()


def test_main_moves_during_the_commit(staged: tuple[StagedFile, ...], whole: dict[str, int], hub: Hub) -> None:
    moves = iter(["notes.txt"])

    def move() -> None:
        for path in moves:
            hub.push(NAME, path, b"mine")

    hub.before_commit = move
    assert upload(staged).changed
    assert hub.log.count("commit") == 2 and hub.files(NAME)["notes.txt"] == b"mine"
    assert whole.items() <= digests(hub).items()


def test_somebody_elses_data_is_not_overwritten_unseen(
    staged: tuple[StagedFile, ...], others: tuple[StagedFile, ...], hub: Hub
) -> None:
    upload(staged)
    hub.before_commit = lambda: hub.push(NAME, "README.md", b"theirs") and None
    with pytest.raises(PublishError, match=r"somebody else changed README\.md"):
        upload(others)
    hub.before_commit = lambda: None
    assert hub.files(NAME)["README.md"] == b"theirs" and upload(others).changed


@pytest.mark.parametrize("fault", [409, 412, 429, 500, CUT, LOST])
def test_a_commit_that_fails_once(staged: tuple[StagedFile, ...], whole: dict[str, int], hub: Hub, fault: int) -> None:
    faults = iter([fault])
    hub.plan = lambda number, route: next(faults, None) if route == "commit" else None
    assert upload(staged).changed
    assert digests(hub) == whole and len(hub.repositories[NAME].commits) == 2
    assert hub.log.count("commit") == (1 if fault == LOST else 2)


@pytest.fixture
def xet(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """Yield the hub with Xet's client, which gives up soon and knows nothing of an earlier hub at its port."""
    import huggingface_hub
    from huggingface_hub.utils import _xet

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", False)
    for name, value in (
        ("XORB_COMPRESSION_POLICY", "none"),
        ("CLIENT_RETRY_MAX_ATTEMPTS", "1"),
        ("CLIENT_RETRY_BASE_DELAY", "1ms"),
        ("TELEMETRY_ENABLED", "false"),
        ("CACHE", str(tmp_path / "xet")),
    ):
        monkeypatch.setenv(f"HF_XET_{name}", value)
    _xet.abort_xet_session()
    yield hub
    _xet.abort_xet_session()


@pytest.mark.parametrize(
    ("route", "fault"), [("write_token", 401), ("write_token", CUT), ("xorb", 500), ("shard", CUT), ("shard", LOST)]
)
def test_storage_that_fails_once_or_for_good(
    staged: tuple[StagedFile, ...], whole: dict[str, int], xet: Hub, route: str, fault: int
) -> None:
    xet.plan = lambda number, called: fault if called == route else None
    with pytest.raises(PublishError) as caught:
        upload(staged)
    assert TOKEN not in str(caught.value) and STORAGE_TOKEN not in str(caught.value)
    assert digests(xet) == {} and xet.log.count("commit") == 0
    faults = iter([fault])
    xet.plan = lambda number, called: next(faults, None) if called == route else None
    assert upload(staged).changed
    assert digests(xet) == whole
    assert len(xet.repositories[NAME].commits) == 2


@pytest.mark.parametrize("fault", [CUT, pytest.param(LOST, marks=pytest.mark.long)])
def test_cut_off_at_each_request_in_turn_and_run_again(
    staged: tuple[StagedFile, ...], whole: dict[str, int], hub: Hub, fault: int
) -> None:
    """From the n-th request on there is no connection: main is as before or complete, and a second run completes it."""
    for number in range(200):
        hub.repositories.clear()
        hub.objects.clear()
        hub.log.clear()
        hub.plan = lambda now, route, first=number: None if now < first else fault if now == first else CUT
        try:
            upload(staged, tag="v1")
        except PublishError as error:
            assert TOKEN not in str(error) and (error.__context__ is None or error.__suppress_context__)
        reached = len(hub.log) > number
        if NAME in hub.repositories:
            assert digests(hub) in ({}, whole)
        hub.plan = lambda now, route: None
        again = upload(staged, tag="v1")
        assert again.commit == hub.repositories[NAME].tags["v1"]
        assert digests(hub) == whole and len(hub.repositories[NAME].commits) == 2
        if not reached:
            assert number > 20
            return
    pytest.fail("publishing never came to its end")


def test_a_hub_that_always_refuses(staged: tuple[StagedFile, ...], hub: Hub) -> None:
    hub.plan = lambda number, route: 503 if route == "commit" else None
    with pytest.raises(PublishError, match=r"failed 5 times.*run the same command again"):
        upload(staged)
    hub.plan = lambda number, route: 403 if route == "commit" else None
    with pytest.raises(PublishError, match="did not take"):
        upload(staged)
    assert digests(hub) == {}


def test_branch_tag_and_pull_request(staged: tuple[StagedFile, ...], others: tuple[StagedFile, ...], hub: Hub) -> None:
    upload(staged)
    old = hub.repositories[NAME].branches["main"]
    there = upload(others, revision="next", tag="v2")
    repository = hub.repositories[NAME]
    assert repository.branches == {"main": old, "next": there.commit} and repository.tags == {"v2": there.commit}
    with pytest.raises(PublishError, match="has a tag v2 already"):
        upload(staged, tag="v2")
    opened = upload(others, create_pr=True)
    assert opened.url.endswith("/discussions/1") and repository.branches["main"] == old
    assert upload(others, create_pr=True).commit == opened.commit and len(repository.requests) == 1


def test_a_pull_request_whose_answer_was_lost_is_found(staged: tuple[StagedFile, ...], hub: Hub) -> None:
    faults = iter([LOST])
    hub.plan = lambda number, route: next(faults, None) if route == "commit" else None
    opened = upload(staged, create_pr=True)
    assert opened.changed and opened.url.endswith("/discussions/1") and len(hub.repositories[NAME].requests) == 1


def test_private_is_not_pretended(staged: tuple[StagedFile, ...], hub: Hub) -> None:
    upload(staged)
    with pytest.raises(PublishError, match="exists and is public"):
        upload(staged, private=True)


def test_without_a_token_it_says_how_to_give_one(build: BuildFolder, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(PublishError, match="HF_TOKEN"):
        publish(build, Destination(NAME))
    assert hub.log == []


def test_a_wrong_token_is_not_told(
    build: BuildFolder, hub: Hub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrongOne")
    with caplog.at_level(logging.DEBUG), pytest.raises(PublishError) as caught:
        publish(build, Destination(NAME))
    assert "hf_wrongOne" not in caplog.text + str(caught.value) and caught.value.exit_code == 3


@pytest.mark.parametrize("name", ["counterfact", "a/b/c", "../x", "a b/c", "a/b\n", ""])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(ConfigError, match="OWNER/NAME"):
        Destination(name)


def test_options_that_do_not_go_together() -> None:
    with pytest.raises(ConfigError, match="--create-pr"):
        Destination(NAME, create_pr=True, tag="v1")


def test_the_loopback_hub_has_no_other_routes() -> None:
    assert {name for _, _, name in loopback.ROUTES} >= {"create", "preupload", "batch", "upload", "commit", "tag"}
