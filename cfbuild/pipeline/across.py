"""`cfbuild across`: an edit in each language, and what the model says then in every one: a matrix of ES, PS and NS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cfbuild.edit import EDITORS, check_name
from cfbuild.errors import BuildStateError, ConfigError, check_least
from cfbuild.option import COMMA_SEPARATED, option, restart_option, seed_option
from cfbuild.pipeline.run_signature import run_signature
from cfbuild.pipeline.scoring import ScoredRecords, make_editor
from cfbuild.pipeline.validate_and_score import (
    ABOUT_EDITOR,
    EDITOR,
    EvaluateOptions,
    covariance_option,
    covariance_tokens_option,
    layer_option,
    run_config,
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

    InAll = Mapping[str, Mapping[int, Record]]

VERB = "across"
"""The name of the verb, as `score/matrix.py` has it too: that module loads numpy, which help and cards do without."""


@dataclass(frozen=True, slots=True)
class AcrossOptions:
    """Options of `cfbuild across`. Raises ConfigError for an unknown editor, a number below 1, or a name of no folder.

    languages: those to edit and to ask in; empty for all of the build's.
    """

    run: str | None = option(None, "The matrix' name: they stand side by side in a build. [default: the editor's name]")
    languages: tuple[str, ...] = option(
        (),
        "The languages to edit and to ask in. [default: all of the build's]",
        form=COMMA_SEPARATED.naming_all(languages),
    )
    limit: int | None = option(None, "Edit only the first N of the records that are there in all languages.")
    editor: str = option(
        "rome",
        f"The editor: {', '.join(EDITORS)}; or module:attribute of your own.",
        panel=ABOUT_EDITOR,
        form=EDITOR,
    )
    layer: int | str | None = layer_option()
    covariance: str = covariance_option()
    covariance_tokens: int | None = covariance_tokens_option()
    steps: int | None = steps_option()
    batch: int | None = option(
        None, "Records that an editor of many edits together. [default: 100]", panel=ABOUT_EDITOR
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
        """The matrix' name: the option's, or else the editor's."""
        return self.run or default_name(self.editor)

    @property
    def of_a_language(self) -> EvaluateOptions:
        """The options with which validate-and-score would score a language alone."""
        same = ("limit", "layer", "covariance", "covariance_tokens", "steps", "batch", "settings", "seed", "editor")
        return EvaluateOptions(**{name: getattr(self, name) for name in same}, skip_generation=True)


def across(
    folder: BuildFolder, options: AcrossOptions, lm: LanguageModel, progress: Progress = silent
) -> LanguageMatrix:
    """Edit the records in each language and ask in every one; write the matrix, its cases and report.html.

    An interrupted run goes on after its last finished chunk, with the same bytes; a finished one is not repeated.
    Raises BuildStateError if the build has fewer than two languages or no record in all of them, ConfigError for a
    language that it does not have, and the errors of the editor.
    """
    from cfbuild.pipeline.report import write_page

    with folder.lock(VERB):
        matrix = _across(folder, options, lm, progress)
        write_page(folder)
    return matrix


def _across(folder: BuildFolder, options: AcrossOptions, lm: LanguageModel, progress: Progress) -> LanguageMatrix:
    """Return the matrix, made now or before; call it inside the lock."""
    from cfbuild.score.matrix import MATRIX, LanguageMatrix, crossing

    run, scoring = crossing(folder, options.name), with_layer(folder, options.of_a_language, lm)
    files = _files(folder, options.languages)
    digest = sha256_text("\n".join(f"{name} {sha}" for name, sha in folder.digests(list(files.values())).items()))
    config = {**run_config(folder, scoring, lm, digest), "languages": list(files)}
    if not folder.begin(run.entry, config, restart=options.restart):
        folder.discard(run.entry)  # a run may have been killed between its last two steps
        return LanguageMatrix.of_dict(read_json(run.path(MATRIX)))
    made = _edited(run, scoring, lm, _in_all(folder, files, options.limit), progress)
    cases = {code: passes.cases() for code, passes in made.items()}
    signature = {**run_signature(made[next(iter(files))], digest), "languages": ",".join(files)}
    matrix = LanguageMatrix.of_cases(cases, signature)
    run.path(MATRIX).parent.mkdir(parents=True, exist_ok=True)
    rows = {run.file(MATRIX): 1}
    for edited, of in cases.items():
        for asked, scored in of.items():
            name = f"cases-{edited}-{asked}.jsonl"
            rows[run.file(name)] = write_jsonl(run.path(name), map(encode_case, scored))
    write_json(run.path(MATRIX), matrix.as_dict())
    folder.finish(run.entry, config, rows, {"signature": signature})
    folder.discard(run.entry)
    return matrix


def _edited(
    run: Run, scoring: EvaluateOptions, lm: LanguageModel, records: InAll, progress: Progress
) -> dict[str, CrossingPasses]:
    """Return the finished passes by the language of the edit."""
    from cfbuild.score.crossing import CrossingPasses

    first = list(next(iter(records.values())).values())
    # One editor for all languages, so that rows of the matrix differ by nothing but the language of the edit.
    editor = make_editor(lm, scoring, ScoredRecords(first, run.folder), progress)
    found = {}
    for code, by_case in records.items():
        work = run.folder.progress(run.entry) / code
        work.mkdir(exist_ok=True)
        batch, own = scoring.batch, list(by_case.values())
        found[code] = CrossingPasses(
            work, lm, editor, own, batch=batch, seed=scoring.seed, progress=_in(code, progress), by_language=records
        )
        found[code].work_off()
    return found


def _in(code: str, progress: Progress) -> Progress:
    """Return a display of progress that names the language of the edits."""
    return lambda task, done, total: progress(f"{task} in {code}", done, total)


def _files(folder: BuildFolder, wanted: Sequence[str]) -> dict[str, str]:
    """Return the build's files of records by language; those of `wanted` where there are any. Raises as `across`."""
    files = record_files(folder.manifest())
    unknown = [code for code in wanted if code not in files]
    if unknown:
        raise ConfigError(f"the build has no records in {', '.join(unknown)}; it has some in {', '.join(files)}")
    chosen = {code: file for code, file in files.items() if not wanted or code in wanted}
    if len(chosen) < 2:
        raise BuildStateError(
            f"{folder.root} has records in {', '.join(chosen)} alone; make some with `cfbuild generate --languages`"
        )
    return chosen


def _in_all(folder: BuildFolder, files: Mapping[str, str], limit: int | None) -> InAll:
    """Return the records that are there in all languages, by language and case id, in the order of their case ids."""
    from cfbuild.audit.validate import read_records

    read = {
        code: {record.case_id: record for record in read_records(folder.require(file)).all_valid().records}
        for code, file in files.items()
    }
    shared = sorted(set.intersection(*(set(found) for found in read.values())))[:limit]
    if not shared:
        raise BuildStateError(f"{folder.root} has no record that is there in each of {', '.join(files)}")
    return {code: {case_id: found[case_id] for case_id in shared} for code, found in read.items()}
