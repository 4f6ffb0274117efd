"""Edits in each language, asked about in every one: the matrix, its cases, and where it is shown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny
from aligned_world import aligned_options, write_aligned
from stopping import stopping

from cfbuild.cli.across import print_matrix
from cfbuild.data import CaseScore, PromptScore
from cfbuild.errors import BuildStateError, ConfigError, DataError
from cfbuild.lm.model import LanguageModel
from cfbuild.pipeline.across import AcrossOptions, across
from cfbuild.pipeline.generate import GenerateOptions, generate
from cfbuild.pipeline.publish import stage
from cfbuild.pipeline.rebuild import rebuild
from cfbuild.pipeline.validate_and_score import EvaluateOptions, evaluate
from cfbuild.score.matrix import MATRIX, SHOWN, LanguageMatrix, crossing, finished_matrices
from cfbuild.store.codec import decode_case
from cfbuild.store.folder import BuildFolder
from cfbuild.store.jsonl import read_values
from cfbuild.store.schema import conforming

CODES = ("en", "fr", "ja")
LIMIT = 6
EDITING: dict[str, Any] = {"editor": "ft", "steps": 3, "settings": {"layer": 1, "learning_rate": 0.05}}


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return tiny.make("llama", max_position_embeddings=512)


def build(root: Path) -> BuildFolder:
    folder = write_aligned(root)
    generate(folder, aligned_options(languages=CODES, per_relation=2, relations=("P19", "P106", "P27"), groups=()))
    return folder


def options(**given: object) -> AcrossOptions:
    return AcrossOptions(**EDITING | {"limit": LIMIT} | given)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def folder(lm: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> BuildFolder:
    folder = build(tmp_path_factory.mktemp("across") / "build")
    across(folder, options(), lm)
    return folder


def test_the_matrix_has_edits_and_prompts_in_every_language(folder: BuildFolder) -> None:
    (matrix,) = finished_matrices(folder).values()
    assert (matrix.languages, matrix.cases, matrix.faulty) == (CODES, LIMIT, dict.fromkeys(CODES, 0))
    assert LanguageMatrix.of_dict(json.loads(json.dumps(matrix.as_dict()))) == matrix
    for name in SHOWN:
        labels, cells = zip(*matrix.rows(name), strict=True)
        assert labels == ("unedited", *CODES)
        assert all(figure is not None and figure.cases == LIMIT for row in cells for figure in row)
    with pytest.raises(DataError, match="no matrix"):
        LanguageMatrix.of_dict({"signature": "x"})


def test_rows_are_languages_of_edits_and_columns_languages_of_prompts(folder: BuildFolder) -> None:
    def cases(edited: str, prompted: str) -> list[CaseScore]:
        path = crossing(folder, "ft").path(f"cases-{edited}-{prompted}.jsonl")
        return list(read_values(path, conforming("cases", decode_case)))

    for prompted in CODES:
        own, *others = (cases(edited, prompted) for edited in (prompted, *(code for code in CODES if code != prompted)))
        before = [one.pre.prompts for one in own]
        # Whatever the language of the edit, the unedited model is asked the same.
        assert all(_near(a.pre.prompts, b) for of in others for a, b in zip(of, before, strict=True))
        # Fine-tuning makes o* likelier in its own language; each edit leaves the model in another state.
        for case in own:
            assert case.post is not None
            assert case.post.prompts["rewrite"][0].target_new_nll < case.pre.prompts["rewrite"][0].target_new_nll
        assert all(one.post and two.post and one.post != two.post for one, two in zip(own, others[0], strict=True))


def _near(found: Mapping[str, Sequence[PromptScore]], expected: Mapping[str, Sequence[PromptScore]]) -> bool:
    pairs = [(a, b) for name in found for a, b in zip(found[name], expected[name], strict=True)]
    return all(a.target_new_nll == pytest.approx(b.target_new_nll, abs=1e-3) for a, b in pairs)


@pytest.mark.parametrize("code", ["en", "ja"])
def test_the_diagonal_is_what_scoring_the_language_alone_gives(
    code: str, folder: BuildFolder, lm: LanguageModel, tmp_path: Path
) -> None:
    (matrix,) = finished_matrices(folder).values()
    file = folder.path("records.jsonl" if code == "en" else f"records.{code}.jsonl")
    report = evaluate(
        BuildFolder(tmp_path), EvaluateOptions(file=file, limit=LIMIT, skip_generation=True, **EDITING), lm
    )
    for name in SHOWN:
        assert report.figures["post"][name].mean == pytest.approx(matrix.after[code][code][name].mean)
        assert report.figures["pre"][name].mean == pytest.approx(matrix.before[code][name].mean)


def test_an_interrupted_run_ends_with_the_same_bytes(folder: BuildFolder, lm: LanguageModel, tmp_path: Path) -> None:
    stopped = build(tmp_path / "other")
    with pytest.raises(KeyboardInterrupt):
        across(stopped, options(), lm, stopping("records in fr", 1))
    assert not finished_matrices(stopped)
    across(stopped, options(), lm)
    names = [MATRIX, *(f"cases-{edited}-{prompted}.jsonl" for edited in CODES for prompted in CODES)]
    for name in names:
        assert crossing(stopped, "ft").path(name).read_bytes() == crossing(folder, "ft").path(name).read_bytes()
    before = crossing(stopped, "ft").path(MATRIX).stat().st_mtime_ns
    across(stopped, options(), lm)
    assert crossing(stopped, "ft").path(MATRIX).stat().st_mtime_ns == before
    with pytest.raises(BuildStateError, match="limit"):
        across(stopped, options(limit=2), lm)


def test_in_context_editing_reads_the_fact_in_one_language_and_the_prompt_in_another(
    lm: LanguageModel, tmp_path: Path
) -> None:
    folder = build(tmp_path / "build")
    matrix = across(folder, AcrossOptions(editor="ike", limit=2, languages=("fr", "en"), run="in-context"), lm)
    assert matrix.languages == ("en", "fr") and matrix.cases == 2
    assert crossing(folder, "in-context").path("cases-en-fr.jsonl").is_file()


def test_the_matrix_is_in_the_terminal_on_the_page_and_on_the_card(
    folder: BuildFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    (matrix,) = finished_matrices(folder).values()
    print_matrix(matrix)
    shown = capsys.readouterr().out
    page = folder.path("report.html").read_text(encoding="utf-8")
    card = stage(folder, "someone/across").card
    for name in SHOWN:
        for edited in CODES:
            for prompted in CODES:
                figure = matrix.after[edited][prompted][name]
                text = f"{figure.mean:.1f} ± {figure.half_width:.1f}"
                assert text in shown and text in card and text.replace("-", "−") in page
    assert "Across languages" in page and "Across languages" in card


def test_the_commands_of_a_card_make_the_matrix_again(folder: BuildFolder) -> None:
    (command,) = [one for one in rebuild(folder.manifest().verbs).commands if one[0] == "across"]
    assert command[command.index("--languages") + 1] == ",".join(CODES)
    assert command[command.index("--limit") + 1] == str(LIMIT) and command[command.index("--editor") + 1] == "ft"


def test_builds_without_the_languages_are_refused(lm: LanguageModel, folder: BuildFolder, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no records in es"):
        across(folder, options(languages=("en", "es")), lm)
    with pytest.raises(ConfigError, match="--run"):
        AcrossOptions(run="../x")
    alone = write_aligned(tmp_path / "alone")
    generate(alone, GenerateOptions(per_relation=2))
    with pytest.raises(BuildStateError, match="generate --languages"):
        across(alone, options(), lm)
