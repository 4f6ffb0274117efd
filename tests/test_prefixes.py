"""Sentences before paraphrases: which can stand alone, that they name nothing of the fact, and where they come from."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny
from small_world import small_options, write_world

from cfbuild.data import Reference
from cfbuild.errors import BuildStateError, ConfigError, DataError
from cfbuild.lm.model import LanguageModel
from cfbuild.lm.sample import sample_texts
from cfbuild.pipeline.audit import AuditOptions, audit
from cfbuild.pipeline.generate import generate
from cfbuild.records.prefixes import Sampler
from cfbuild.store import codec, files, jsonl
from cfbuild.store.folder import BuildFolder
from cfbuild.templates.sentences import MOST, Mentions, cut_sentences
from cfbuild.text.names import find_name

GOOD = "The market opened early in the morning."
SENTENCES = [
    (GOOD, True),
    ("Mr. Gray met J. R. Brown of St. Mark in the rain.", True),
    ('The guard said "nobody may enter today" and left.', True),
    ("A delegation (of seven) waited for hours outside.", True),
    ("It rained.", False),
    ("one day the market opened early.", False),
    ("The market that opened early in the morning", False),
    ("The old Riley House, Texas, Anson Jones Press, and " * 4 + "the end came at last for all.", False),
    ("He left the market early in the morning.", False),
    ("This was the oldest market of the region.", False),
    ("The house of the painter is No.", False),
    ("The house of the painter stands behind St.", False),
    ("The painter (born in the north left early.", False),
    ('The guard said "nobody may enter today and left.', False),
    ("The market , it is said , opened early.", False),
    ("The market of {} opened early in the morning.", False),
    ("The Market Opened. Houston, Texas: Anson Jones Press.", False),
]


@pytest.mark.parametrize(("text", "whole"), SENTENCES)
def test_only_whole_sentences_that_speak_for_themselves(text: str, whole: bool) -> None:
    assert cut_sentences([text], "en", 0) == ((text,) if whole else ())


def test_texts_are_cut_at_sentences_and_lines_and_said_once() -> None:
    text = f"{GOOD} Nobody bought the  red apples there! Was the street quiet at noon?\n{GOOD}\nno sentence at all"
    cut = {GOOD, "Nobody bought the red apples there!", "Was the street quiet at noon?"}
    assert set(cut_sentences([text, text], "en", 0)) == cut == set(cut_sentences([text], "qq", 1))


def test_of_very_many_sentences_a_seeded_choice_is_kept() -> None:
    text = "\n".join(f"The train number {n} was late again." for n in range(MOST + 500))
    first, different = cut_sentences([text], "en", 0), cut_sentences([text], "en", 1)
    assert len(set(first)) == MOST and first == cut_sentences([text], "en", 0) != different


@pytest.mark.parametrize(
    ("text", "names", "kept"),
    [
        ("The road to OSLO was closed.", ["Oslo"], False),
        ("The Oslovian road was closed.", ["Oslo"], True),
        ("The New York road was closed.", ["new york"], False),
        ("The road of the US was closed.", ["US"], False),
        ("The road let us down again.", ["US"], True),
        ("The road de Gaulle was closed.", ["de"], True),
        ("The road was closed, Oslo's mayor said.", ["Oslo"], False),
    ],
)
def test_mentions_are_found_as_whole_words_by_label_and_alias(text: str, names: list[str], kept: bool) -> None:
    assert Mentions([text, GOOD], "en").without([*names, " "]) == ((text, GOOD) if kept else (GOOD,))
    assert (find_name(text, names) is None) is kept


LINES = [
    "The harbor of Oslo was closed for the winter.",
    "The mayor of Lima City opened a new bridge.",
    "The baker on the corner sold old bread.",
    "The letter arrived two weeks too late.",
    "Person A0 painted the fence with a brush.",
]


def rows(folder: BuildFolder) -> list[dict[str, Any]]:
    return [row for _, row in jsonl.read_rows(folder.path("records.jsonl"))]


def check_prefixes(folder: BuildFolder, expected: set[str]) -> None:
    found = set()
    for row in rows(folder):
        for text, detail in zip(row["paraphrase_prompts"], row["meta"]["paraphrases"], strict=True):
            assert text == f"{detail['prefix']} {detail['clean']}" and detail["prefix"] in expected
            assert row["requested_rewrite"]["subject"] in detail["clean"]
            found.add(detail["prefix"])
        assert len({detail["prefix"] for detail in row["meta"]["paraphrases"]}) == 2
    assert found == expected


def test_a_file_gives_sentences_that_name_no_object_of_the_relation(tmp_path: Path) -> None:
    folder = BuildFolder(write_world(tmp_path / "build"))
    file = tmp_path / "mine.txt"
    file.write_text("\n".join([*LINES, "half a sentence"]), encoding="utf-8")
    generate(folder, small_options(prefixes=str(file)))
    check_prefixes(folder, set(LINES[2:]))
    assert all(
        "Person A0" not in detail["prefix"]
        for row in rows(folder)
        if row["requested_rewrite"]["subject"] == "Person A0"
        for detail in row["meta"]["paraphrases"]
    )
    summary = audit(AuditOptions(folder.path("records.jsonl"), folder))
    assert not {"prefix-fragment", "prefix-mention"} & summary.rules.keys()
    config = folder.manifest().entry("generate").config["prefixes"]
    assert config == {"source": "file", "name": file.name, "sha256": files.sha256_file(file)}
    file.write_text(GOOD, encoding="utf-8")
    with pytest.raises(BuildStateError, match="prefixes"):
        generate(folder, small_options(prefixes=str(file)))


def test_reference_texts_give_sentences_if_they_are_wikipedias(tmp_path: Path) -> None:
    folder = BuildFolder(write_world(tmp_path / "build"))
    options = small_options(prefixes="references")
    with pytest.raises(ConfigError, match="--references"):
        generate(folder, options)
    lead = Reference("P551", "Q1", "Q1001", "Person B1", " ".join(LINES), "Person B1", 3, "https://x", "CC-BY-SA-4.0")
    jsonl.write_jsonl(folder.path("references.jsonl"), [codec.encode_reference(lead)])
    folder.finish("fetch", {}, {"references.jsonl": 1}, {})
    generate(folder, options)
    check_prefixes(folder, set(LINES[2:]))


def test_sampled_texts_are_written_once_and_kept_while_records_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = BuildFolder(write_world(tmp_path / "build"))
    calls: list[int] = []

    def texts() -> Sequence[str]:
        calls.append(1)
        return [f"{LINES[2]} {LINES[3]}\nand {LINES[0]}", f"{LINES[4]} The"]

    sampler = Sampler({"model": "tiny", "revision": "r1", "seed": 0}, texts)
    options = small_options(prefixes="model")
    with pytest.raises(ConfigError, match="needs a model"):
        generate(folder, options)
    with monkeypatch.context() as patched:
        patched.setattr("cfbuild.pipeline.generate.map_chunks", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            generate(folder, options, None, sampler=sampler)
    generate(folder, options, None, sampler=sampler)
    check_prefixes(folder, set(LINES[2:]))
    generate(folder, options, None, sampler=sampler)
    assert len(calls) == 1
    assert folder.manifest().entry("generate").config["prefixes"] == {"source": "model", **sampler.signature}


def test_sources_that_cannot_be_used_say_what_to_do(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = BuildFolder(write_world(tmp_path / "build"))
    empty, named, latin = (tmp_path / f"{name}.txt" for name in ("empty", "named", "latin"))
    empty.write_text("and so on\n", encoding="utf-8")
    named.write_text(LINES[0], encoding="utf-8")
    latin.write_bytes("The café was closed for the winter.".encode("latin-1"))
    for source, kind, message in (
        ("noise", ConfigError, "expected builtin, references, model, none, or a text file"),
        (str(empty), DataError, "no whole sentence"),
        (str(latin), DataError, "UTF-8"),
    ):
        with pytest.raises(kind, match=message):
            generate(folder, small_options(prefixes=source, restart=True))
    with pytest.raises(ConfigError, match="are in English"):
        generate(folder, small_options(language="fr", restart=True))
    with caplog.at_level(logging.WARNING):
        generate(folder, small_options(prefixes=str(named), restart=True))
    assert "P551: each of 1 sentences names one of its objects" in caplog.text
    assert all(one["prefix"] == "" for row in rows(folder) for one in row["meta"]["paraphrases"])


def test_sampled_texts_are_seeded() -> None:
    lm = tiny.make("gpt2")
    texts = sample_texts(lm, 3, 4, 12)
    assert len(set(texts)) == 4 and texts == sample_texts(lm, 3, 4, 12) != sample_texts(lm, 4, 4, 12)
    assert texts[:2] == sample_texts(lm, 3, 2, 12)


@pytest.mark.long
@pytest.mark.model
def test_a_real_model_writes_whole_sentences(smollm2: LanguageModel) -> None:
    sentences = cut_sentences(sample_texts(smollm2, 0, 12, 60), "en", 0)
    assert len(sentences) >= 5 and json.dumps(sentences)
    assert all(4 <= len(one.split()) <= 25 and one[0].isupper() for one in sentences if one[0].isalpha())
