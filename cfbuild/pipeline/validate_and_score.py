"""`cfbuild validate-and-score`: validation, then an editor on every record, then the paper's table."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cfbuild import __version__
from cfbuild.edit import COVARIANCE_TOKENS, EDITORS, TOKENS_PER_WIDTH, TRAINED, check_name
from cfbuild.edit.presets import AUTO_LAYER, EDITORS_AT_ROMES_LAYER
from cfbuild.errors import ConfigError, SchemaError, check_least
from cfbuild.option import NAMED_VALUES, WORD, Form, option, restart_option, seed_option, values_of
from cfbuild.pipeline.scoring import ENTITIES, THIS_PROCESS, ScoredRecords, ScoreUnits, ScoringWorkers, run_signature
from cfbuild.progress import Progress, silent
from cfbuild.store.files import sha256_file, write_atomic
from cfbuild.store.jsonl import read_json, write_json
from cfbuild.store.runs import CASES, CURVES_DRAWN, EDITS, REPORT, RETAINED, TIMING, VERB, Run, default_name, new_run

if TYPE_CHECKING:
    from cfbuild.audit.validate import RecordFile
    from cfbuild.lm.model import LanguageModel
    from cfbuild.score.run_report import Report
    from cfbuild.store.folder import BuildFolder

SETTINGS_WITH_OPTIONS = ("layer", "steps", "key_mode")
"""The settings of editors that have an option of their own; all others are given by `--set`."""
ABOUT_EDITOR = "The editor"
"""The panel of the help that has the options of editors."""

_log = logging.getLogger(__name__)


def _layer(text: str) -> int | str:
    """Return the layer of a text, a number or `auto`. Raises ConfigError for anything else."""
    if text == AUTO_LAYER:
        return text
    try:
        return int(text)
    except ValueError as error:
        raise ConfigError(f"--layer {text}: expected a number or {AUTO_LAYER}") from error


LAYER = Form(_layer).naming(AUTO_LAYER)
EDITOR = WORD.naming(*EDITORS)
CORPUS = WORD.naming("build", "none")
"""The forms of a layer, of an editor's name and of a covariance's corpus, with words for a shell."""


def layer_option() -> Any:
    """Return the field of the option `--layer`."""
    return option(
        None,
        "The layer to edit; auto: the one that `cfbuild sweep` found in this build. [default: the preset's]",
        panel=ABOUT_EDITOR,
        metavar="LAYER",
        form=LAYER,
    )


def covariance_option() -> Any:
    """Return the field of the option `--covariance`."""
    help = (
        "The texts that the covariance of keys is measured on: build (its own), a text file, or hub:NAME; or an .npz "
        "file that has the covariance; or none."
    )
    return option("build", help, panel=ABOUT_EDITOR, form=CORPUS)


def covariance_tokens_option() -> Any:
    """Return the field of the option `--covariance-tokens`."""
    usual = f"{COVARIANCE_TOKENS:,}, or {TOKENS_PER_WIDTH} times the width of a key if that is more"
    return option(
        None,
        f"Measure the covariance on N tokens of its texts; 5,000 do for a trial. [default: {usual}]",
        panel=ABOUT_EDITOR,
    )


def steps_option() -> Any:
    """Return the field of the option `--steps`."""
    return option(None, "Optimise an edit for N steps at most. [default: the editor's]", panel=ABOUT_EDITOR)


def settings_option() -> Any:
    """Return the field of the option `--set`."""
    return option(
        dict,
        "Set any other setting of the editor; may be given several times.",
        flag="--set",
        metavar="NAME=VALUE",
        form=NAMED_VALUES,
        panel=ABOUT_EDITOR,
    )


@dataclass(frozen=True, slots=True)
class ScoringOptions:
    """Options of commands that edit and score. Raises ConfigError for a number below its minimum.

    An editor's setting that is None has the preset's value, or else the editor's default.
    """

    file: Path | None = option(
        None, "Score this file of CounterFact's format. [default: the build's records]", flag="--file -f"
    )
    skip_invalid: bool = option(False, "If rows are not valid, score the others.")
    layer: int | str | None = layer_option()
    key_mode: str | None = option(
        None,
        "For rome: compute keys as released (reference), or as R-ROME does (consistent). [default: reference]",
        panel=ABOUT_EDITOR,
        form=WORD.naming("reference", "consistent"),
    )
    covariance: str = covariance_option()
    covariance_tokens: int | None = covariance_tokens_option()
    steps: int | None = steps_option()
    batch: int | None = option(
        None,
        "Edit N records together, with an editor such as emmet or memit, or in each step of --sequence. "
        "[default: 100; 1 for a --sequence with an editor of single records]",
        panel=ABOUT_EDITOR,
    )
    sequence: int | None = option(
        None,
        "Edit N batches (0: all) one after another on the same model; score each batch after its edit, and all at "
        "the end. [default: edit each batch on the unedited model]",
        panel=ABOUT_EDITOR,
    )
    settings: Mapping[str, Any] = settings_option()
    limit: int | None = option(None, "Score only the first N records. [default: all]")
    skip_generation: bool = option(False, "Generate no texts; then there is no GE and no RS.")
    texts: int | None = option(None, "Generate texts of the first N records only. [default: all]")
    in_use: bool = option(False, "Also let the model answer freely, and count the answers that name o*.")
    perplexity: bool = option(False, "Also measure the perplexity of a fixed text, before any edit and after each.")
    keep_edits: bool = option(False, "Keep the edits, in edits.safetensors beside the run's cases.")
    seed: int = seed_option()
    restart: bool = restart_option()

    def __post_init__(self) -> None:
        check_least(self, limit=1, batch=1, covariance_tokens=1, texts=1)
        if self.sequence is not None and self.sequence < 0:
            raise ConfigError(f"sequence is {self.sequence}; expected a number of batches, or 0 for all of them")

    @property
    def editor_settings(self) -> dict[str, Any]:
        """Return the given settings of the editor. Where an option and `settings` set the same, `settings` counts."""
        by_option = {name: getattr(self, name) for name in SETTINGS_WITH_OPTIONS}
        return {**{name: value for name, value in by_option.items() if value is not None}, **self.settings}


@dataclass(frozen=True, slots=True)
class EvaluateOptions(ScoringOptions):
    """Options of `cfbuild validate-and-score`. Raises ConfigError as ScoringOptions does, and for an unknown editor."""

    run: str | None = option(None, "The run's name; a build can have several runs. [default: the editor's name]")
    editor: str = option(
        "rome",
        f"The editor to score: {', '.join(EDITORS)}; or MODULE:ATTRIBUTE for an editor of yours.",
        panel=ABOUT_EDITOR,
        form=EDITOR,
    )

    def __post_init__(self) -> None:
        check_name(self.editor)
        ScoringOptions.__post_init__(self)

    @property
    def name(self) -> str:
        """Return the run's name: the option's, or else the editor's."""
        return self.run or default_name(self.editor)


def scoring_options(options: Any) -> EvaluateOptions:
    """Return the options with which this verb would edit and score as the `options` of another say, without texts."""
    names = [member.name for member in fields(EvaluateOptions) if hasattr(options, member.name)]
    return EvaluateOptions(**{name: getattr(options, name) for name in names}, skip_generation=True)


def evaluate(
    folder: BuildFolder,
    options: EvaluateOptions,
    lm: LanguageModel,
    progress: Progress = silent,
    read: RecordFile | None = None,
    workers: ScoringWorkers = THIS_PROCESS,
) -> Report:
    """Edit and score every record; write the run's cases.jsonl and report.json, and report.html; return the report.

    read: the file of records, if it was read before.
    workers: the processes that edit and score; they change no byte.
    Raises SchemaError if the file has violations and `skip_invalid` is not set, BuildStateError for work made with
    other settings, and the errors of the editor, `with_layer` and `map_chunks`.
    """
    from cfbuild.audit.validate import read_records
    from cfbuild.pipeline.report import report

    read = read or read_records(options.file or folder.require("records.jsonl"))
    run, options = new_run(folder, options.name), with_layer(folder, options, lm)
    with folder.lock(VERB):
        scored = score_run(run, options, lm, read, progress, workers)
        report(folder, options.file, read)
    return scored


def with_layer(folder: BuildFolder, options: EvaluateOptions, lm: LanguageModel) -> EvaluateOptions:
    """Return the options with `auto` as layer replaced by the layer that a sweep in the build found.

    Raises ConfigError for an editor that does not edit where ROME does, or if no sweep of this model found a layer.
    """
    if options.layer != AUTO_LAYER:
        return options
    from cfbuild.edit.artefacts import weights_identity
    from cfbuild.score.swept import layer_found

    if options.editor not in EDITORS_AT_ROMES_LAYER:
        raise ConfigError(
            f"--layer {AUTO_LAYER} is the layer at which ROME is best, for {', '.join(EDITORS_AT_ROMES_LAYER)}; give "
            f"{options.editor} a number"
        )
    layer = layer_found(folder, lm.name, weights_identity(lm)["revision"])
    _log.info("--layer %s: layer %d", AUTO_LAYER, layer)
    return replace(options, layer=layer)


def score_run(
    run: Run,
    options: EvaluateOptions,
    lm: LanguageModel,
    read: RecordFile,
    progress: Progress,
    workers: ScoringWorkers = THIS_PROCESS,
) -> Report:
    """Edit and score a run's records unless that is done; return its report. The caller holds the build's lock."""
    from cfbuild.lm.load import ModelRecipe
    from cfbuild.score.run_report import Report
    from cfbuild.score.scored import read_cases
    from cfbuild.score.sequence import SequentialPasses
    from cfbuild.views.page.plots import curves_svg

    folder = run.folder
    config = run_config(folder, options, lm, read.sha256)
    if not folder.begin(run.entry, config, restart=options.restart):
        if options.sequence is not None:
            return Report.of_dict(read_json(run.path(REPORT)))
        return Report.of_cases(list(read_cases(run)), run.record.counted["signature"])
    refuse_violations(read, options)
    records = ScoredRecords(read.records[: options.limit], folder)
    recipe = ModelRecipe.of(lm, workers.model.for_workers(workers.processes.gpus))
    job = ScoreUnits(folder.progress(run.entry), options, records, recipe)
    passes = workers.work_off(job, lm, progress)
    signature = run_signature(passes, read.sha256)
    files = {run.file(CASES): passes.write_cases(run.path(CASES))}
    if options.keep_edits:
        files[run.file(EDITS)] = passes.write_edits(run.path(EDITS))
    curve = None
    if isinstance(passes, SequentialPasses):
        files[run.file(RETAINED)] = passes.write_retained(run.path(RETAINED))
        curve = passes.curve()
        write_atomic(run.path(CURVES_DRAWN), curves_svg(curve))
        files[run.file(CURVES_DRAWN)] = 1
    report = Report.of_cases(list(read_cases(run)), signature, curve)
    write_json(run.path(REPORT), report.as_dict())
    cost = passes.cost()
    run.path(TIMING).unlink(missing_ok=True)  # an earlier run's
    if cost is not None:
        write_json(run.path(TIMING), cost.as_dict())
    folder.finish(run.entry, config, {**files, run.file(REPORT): 1}, {"signature": signature})
    return report


def refuse_violations(read: RecordFile, options: ScoringOptions) -> None:
    """Raise SchemaError if the file of records has violations and the options do not skip them."""
    if read.violations and not options.skip_invalid:
        raise SchemaError(
            f"{read.path}: {read.tally.faulty} of {read.tally.rows} rows have {len(read.violations)} violations; run "
            "with --validate-only to see them, or with --skip-invalid to score the rows that are valid"
        )


def run_config(folder: BuildFolder, options: EvaluateOptions, lm: LanguageModel, digest: str) -> dict[str, Any]:
    """Return everything that the run's bytes depend on, for the manifest. `digest` is the records' sha256."""
    from cfbuild.edit.editor import editor_spec, settled_options
    from cfbuild.edit.supplies import covariance_name, trained_digest
    from cfbuild.score.sequence import batch_size

    spec = editor_spec(options.editor)
    config = {**values_of(options), "file": None, "records": digest, "cfbuild": __version__}
    del config["restart"], config["run"]
    settled_options(options.editor, lm, options.editor_settings)  # refuses what the editor does not know
    usual = settled_options(options.editor, lm, {})
    chosen = {name: value for name, value in options.editor_settings.items() if getattr(usual, name) != value}
    config |= {name: chosen.pop(name, None) for name in SETTINGS_WITH_OPTIONS} | {"settings": chosen}
    is_batched = spec.together or options.sequence is not None
    config["batch"] = batch_size(options.batch, spec.together) if is_batched else None
    if "covariance" in spec.needs:
        config["covariance"] = covariance_name(options.covariance)
    else:
        config["covariance"] = config["covariance_tokens"] = None
    if "trained" in spec.needs:
        config["trained"] = trained_digest(folder.path(TRAINED), options.editor, chosen.pop("trained", None))
    files = ("references.jsonl", *((ENTITIES,) if options.in_use else ()))
    config |= {"in_use": options.in_use or None, "perplexity": options.perplexity or None}
    for name in files:
        path = folder.path(name)
        config[name.partition(".")[0]] = sha256_file(path) if path.is_file() else None
    return {**config, **lm.identity}
