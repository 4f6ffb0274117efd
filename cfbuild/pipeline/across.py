"""`cfbuild across`: edits in each language, scored by prompts in every language: matrices of ES, PS and NS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cfbuild.edit import EDITORS, check_name
from cfbuild.errors import BuildStateError, ConfigError, check_least
from cfbuild.option import COMMA_SEPARATED, option, restart_option, seed_option
from cfbuild.pipeline.scoring import ScoredRecords, make_editor, run_signature
from cfbuild.pipeline.validate_and_score import (
    ABOUT_EDITOR,
    EDITOR,
    EvaluateOptions,
    covariance_option,
    covariance_tokens_option,
    layer_option,
    run_config,
    scoring_options,
    settings_option,
    steps_option,
    with_layer,
)
from cfbuild.progress import Progress, silent
from cfbuild.records.aligned import record_files
from cfbuild.store.codec import encode_case
from cfbuild.store.files import sha256_text
from cfbuild.store.jsonl import read_json, write_json, write_jsonl
from cfbuild.store.runs import NAME, default_name
from cfbuild.templates.builtin import languages

if TYPE_CHECKING:
    from cfbuild.data import Record
    from cfbuild.lm.model import LanguageModel
    from cfbuild.score.crossing import CrossingPasses
    from cfbuild.score.matrix import LanguageMatrix
    from cfbuild.store.folder import BuildFolder
    from cfbuild.store.runs import Run

    RecordsByLanguage = Mapping[str, Mapping[int, Record]]
    """By language and case id the records of cases that all languages have."""

VERB = "across"
"""The verb's name, which `score/matrix.py` has too: that module loads numpy, and help and cards must not."""


@dataclass(frozen=True, slots=True)
class AcrossOptions:
    """Options of `cfbuild across`. Raises ConfigError for an unknown editor, a number below 1, or an unfit name."""

    run: str | None = option(None, "The name of the matrices; a build can have several. [default: the editor's name]")
    languages: tuple[str, ...] = option(
        (),
        "Comma-separated languages to edit and to ask in. [default: all of the build's]",
        form=COMMA_SEPARATED.naming_all(languages),
    )
    limit: int | None = option(None, "Edit only the first N of the records that all languages have. [default: all]")
    editor: str = option(
        "rome",
        f"The editor: {', '.join(EDITORS)}; or MODULE:ATTRIBUTE for an editor of yours.",
        panel=ABOUT_EDITOR,
        form=EDITOR,
    )
    layer: int | str | None = layer_option()
    covariance: str = covariance_option()
    covariance_tokens: int | None = covariance_tokens_option()
    steps: int | None = steps_option()
    batch: int | None = option(
        None, "Edit N records together, with an editor such as emmet or memit. [default: 100]", panel=ABOUT_EDITOR
    )
    settings: Mapping[str, Any] = settings_option()
    seed: int = seed_option()
    restart: bool = restart_option()

    def __post_init__(self) -> None:
        check_name(self.editor)
        check_least(self, limit=1, covariance_tokens=1, batch=1)
        if not NAME.match(self.name):
            raise ConfigError(f"--run {self.name}: expected letters, digits, '.', '_' and '-', 64 at the most")

    @property
    def name(self) -> str:
        """Return the name of the matrices: the option's, or else the editor's."""
        return self.run or default_name(self.editor)


def across(
    folder: BuildFolder, options: AcrossOptions, lm: LanguageModel, progress: Progress = silent
) -> LanguageMatrix:
    """Edit the records in each language and score them in every one; write cases and report.html; return the matrix.

    Raises BuildStateError if the build has fewer than two languages or no record in all of them, ConfigError for a
    language that it does not have, and the errors of the editor.
    """
    from cfbuild.pipeline.report import report

    with folder.lock(VERB):
        matrix = _across(folder, options, lm, progress)
        report(folder)
    return matrix


def _across(folder: BuildFolder, options: AcrossOptions, lm: LanguageModel, progress: Progress) -> LanguageMatrix:
    """Return the matrix, after making it unless that is done. The caller holds the build's lock."""
    from cfbuild.score.matrix import MATRIX, LanguageMatrix, crossing

    run, scoring = crossing(folder, options.name), with_layer(folder, scoring_options(options), lm)
    files = _chosen_files(folder, options.languages)
    digest = sha256_text("\n".join(f"{name} {sha}" for name, sha in folder.digests(list(files.values())).items()))
    config = {**run_config(folder, scoring, lm, digest), "languages": list(files)}
    if not folder.begin(run.entry, config, restart=options.restart):
        return LanguageMatrix.of_dict(read_json(run.path(MATRIX)))
    finished = _finished_passes(run, scoring, lm, _shared_records(folder, files, options.limit), progress)
    cases = {code: passes.cases() for code, passes in finished.items()}
    signature = {**run_signature(finished[next(iter(files))], digest), "languages": ",".join(files)}
    matrix = LanguageMatrix.of_cases(cases, signature)
    run.path(MATRIX).parent.mkdir(parents=True, exist_ok=True)
    rows = {run.file(MATRIX): 1}
    for edited_in, by_language in cases.items():
        for scored_in, scored in by_language.items():
            name = f"cases-{edited_in}-{scored_in}.jsonl"
            rows[run.file(name)] = write_jsonl(run.path(name), map(encode_case, scored))
    write_json(run.path(MATRIX), matrix.as_dict())
    folder.finish(run.entry, config, rows, {"signature": signature})
    return matrix


def _finished_passes(
    run: Run, scoring: EvaluateOptions, lm: LanguageModel, records: RecordsByLanguage, progress: Progress
) -> dict[str, CrossingPasses]:
    """Return the finished passes over the records, by the language of the edits."""
    from cfbuild.score.crossing import CrossingPasses

    first = list(next(iter(records.values())).values())
    # One editor for all languages, so that rows of the matrix differ by nothing but the language of the edits.
    editor = make_editor(lm, scoring, ScoredRecords(first, run.folder), progress)
    finished = {}
    for code, by_case in records.items():
        work = run.folder.progress(run.entry) / code
        work.mkdir(exist_ok=True)
        finished[code] = CrossingPasses(
            work,
            lm,
            editor,
            list(by_case.values()),
            batch=scoring.batch,
            seed=scoring.seed,
            progress=_in_language(code, progress),
            by_language=records,
        )
        finished[code].work_off()
    return finished


def _in_language(code: str, progress: Progress) -> Progress:
    return lambda task, done, total: progress(f"{task} in {code}", done, total)


def _chosen_files(folder: BuildFolder, languages: Sequence[str]) -> dict[str, str]:
    """Return the files of records of the chosen languages (none: all of the build's). Raises as `across`."""
    files = record_files(folder.manifest())
    unknown = [code for code in languages if code not in files]
    if unknown:
        raise ConfigError(f"the build has no records in {', '.join(unknown)}; it has some in {', '.join(files)}")
    chosen = {code: file for code, file in files.items() if not languages or code in languages}
    if len(chosen) < 2:
        raise BuildStateError(
            f"{folder.root} has records in {', '.join(chosen)} alone; make some with `cfbuild generate --languages`"
        )
    return chosen


def _shared_records(folder: BuildFolder, files: Mapping[str, str], limit: int | None) -> RecordsByLanguage:
    """Return the first `limit` (None: all) records that all languages have, in the order of their case ids."""
    from cfbuild.audit.validate import read_records

    by_language = {
        code: {record.case_id: record for record in read_records(folder.require(file)).all_valid().records}
        for code, file in files.items()
    }
    shared = sorted(set.intersection(*map(set, by_language.values())))[:limit]
    if not shared:
        raise BuildStateError(f"{folder.root} has no record that is there in each of {', '.join(files)}")
    return {code: {case_id: records[case_id] for case_id in shared} for code, records in by_language.items()}
