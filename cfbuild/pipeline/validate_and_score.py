"""`cfbuild validate-and-score`: validation, then an editor on every record, then the paper's table."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cfbuild import __version__
from cfbuild.edit import COVARIANCE_TOKENS, EDITORS, TOKENS_PER_WIDTH, TRAINED, check_name
from cfbuild.edit.presets import AUTO_LAYER, EDITORS_AT_ROMES_LAYER
from cfbuild.errors import ConfigError, SchemaError
from cfbuild.option import NAMED_VALUES, WORD, Form, option, restart_option, seed_option, values_of
from cfbuild.pipeline.run_signature import run_signature
from cfbuild.pipeline.scoring import ENTITIES, NO_CREW, Crew, ScoredRecords, ScoreUnits
from cfbuild.progress import Progress, silent
from cfbuild.store.files import sha256_file, write_atomic
from cfbuild.store.jsonl import read_json, write_json
from cfbuild.store.runs import (
    CASES,
    CURVES_DRAWN,
    EDITS,
    REPORT,
    RETAINED,
    TIMING,
    VERB,
    Run,
    default_name,
    new_run,
)

if TYPE_CHECKING:
    from cfbuild.audit.validate import RecordFile
    from cfbuild.lm.model import LanguageModel
    from cfbuild.score.passes import Passes
    from cfbuild.score.run_report import Report
    from cfbuild.store.folder import BuildFolder

SHORT = ("layer", "steps", "key_mode")
"""Settings of editors that have their own options."""
ABOUT_EDITOR = "The editor"

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
"""The form of a layer."""


EDITOR = WORD.naming(*EDITORS)
CORPUS = WORD.naming("build", "none")
"""The forms of an editor's name and of what C is of, with words for a shell."""


def layer_option() -> Any:
    """Return the field of the option `--layer`."""
    return option(
        None,
        "Layer to edit; auto: the one that `cfbuild sweep` found in this build. [default: the preset's]",
        panel=ABOUT_EDITOR,
        metavar="LAYER",
        form=LAYER,
    )


def covariance_option() -> Any:
    """Return the field of the option `--covariance`."""
    about = "Corpus of C: build, a text file, hub:NAME; or an .npz file with C; or none."
    return option("build", about, panel=ABOUT_EDITOR, form=CORPUS)


def covariance_tokens_option() -> Any:
    """Return the field of the option `--covariance-tokens`."""
    usual = f"{COVARIANCE_TOKENS:,}, or {TOKENS_PER_WIDTH} a number of a key"
    return option(None, f"Tokens of the corpus to use. [default: {usual}]", panel=ABOUT_EDITOR)


def steps_option() -> Any:
    """Return the field of the option `--steps`."""
    return option(None, "Most optimisation steps of an edit. [default: the editor's]", panel=ABOUT_EDITOR)


def settings_option() -> Any:
    """Return the field of the option `--set`."""
    return option(
        dict,
        "Any other setting of the editor; may be given several times.",
        flag="--set",
        metavar="NAME=VALUE",
        form=NAMED_VALUES,
        panel=ABOUT_EDITOR,
    )


@dataclass(frozen=True, slots=True)
class ScoringOptions:
    """Options of every command that edits and scores; for a setting of an editor, None means the preset's or its own.

    `settings` are an editor's by name; `layer`, `steps` and `key_mode` are settings too. Raises ConfigError for a
    number below its minimum.
    """

    file: Path | None = option(None, "Any CounterFact-format file. [default: the build's records]", flag="--file -f")
    skip_invalid: bool = option(False, "Score the valid rows all the same.")
    layer: int | str | None = layer_option()
    key_mode: str | None = option(
        None,
        "rome: reference (as released) or consistent (R-ROME). [default: reference]",
        panel=ABOUT_EDITOR,
        form=WORD.naming("reference", "consistent"),
    )
    covariance: str = covariance_option()
    covariance_tokens: int | None = covariance_tokens_option()
    steps: int | None = steps_option()
    batch: int | None = option(
        None,
        "Records that emmet, or an editor like it, edits together, or that a batch of --sequence has. "
        "[default: 100; of a sequence of an editor that edits each record by itself, 1]",
        panel=ABOUT_EDITOR,
    )
    sequence: int | None = option(
        None,
        "Edit N batches (0: all) one after another on the same model; score each right after it, and all at the "
        "end. [default: every batch on the unedited model]",
        panel=ABOUT_EDITOR,
    )
    settings: Mapping[str, Any] = settings_option()
    limit: int | None = option(None, "Score only the first N records.")
    skip_generation: bool = option(False, "No texts, so no GE and RS.")
    texts: int | None = option(None, "Write texts of only the first N records. [default: all]")
    in_use: bool = option(False, "Also write what the model answers by itself, and count the answers that name o*.")
    perplexity: bool = option(False, "Also measure the perplexity of a fixed text before any edit and after each.")
    keep_edits: bool = option(False, "Keep the edits: edits.safetensors beside the run's cases.")
    seed: int = seed_option()
    restart: bool = restart_option()

    def __post_init__(self) -> None:
        for name in ("limit", "batch", "covariance_tokens", "texts"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least 1")
        if self.sequence is not None and self.sequence < 0:
            raise ConfigError(f"sequence is {self.sequence}; expected a number of batches, or 0 for all of them")

    @property
    def asked(self) -> dict[str, Any]:
        """The editor's settings that were given, by their own options or in `settings`, which take precedence."""
        short = {name: getattr(self, name) for name in SHORT}
        return {**{name: value for name, value in short.items() if value is not None}, **self.settings}


@dataclass(frozen=True, slots=True)
class EvaluateOptions(ScoringOptions):
    """Options of `cfbuild validate-and-score`. Raises ConfigError as ScoringOptions does, and for an unknown editor."""

    run: str | None = option(None, "The run's name: runs stand side by side in a build. [default: the editor's name]")
    editor: str = option(
        "rome",
        f"The editor to score: {', '.join(EDITORS)}; or module:attribute of your own.",
        panel=ABOUT_EDITOR,
        form=EDITOR,
    )

    def __post_init__(self) -> None:
        check_name(self.editor)
        ScoringOptions.__post_init__(self)

    @property
    def name(self) -> str:
        """The run's name: the option's, or else the editor's."""
        return self.run or default_name(self.editor)


def evaluate(
    folder: BuildFolder,
    options: EvaluateOptions,
    lm: LanguageModel,
    progress: Progress = silent,
    read: RecordFile | None = None,
    crew: Crew = NO_CREW,
) -> Report:
    """Edit and score every record; write the run's cases.jsonl and report.json, and report.html; return the report.

    `read` is the file of records, if it was read before; `crew` are the workers, who change no byte. An interrupted run
    continues after its last finished chunk, with the same bytes; a finished run is not repeated. Raises SchemaError if
    the file has violations and `skip_invalid` is not set, BuildStateError for work made with other settings, the
    errors of the editor, and those of `with_layer` and `map_chunks`.
    """
    from cfbuild.audit.validate import read_records
    from cfbuild.pipeline.report import write_page

    read = read or read_records(options.file or folder.require("records.jsonl"))
    run, options = new_run(folder, options.name), with_layer(folder, options, lm)
    with folder.lock(VERB):
        report = score_run(run, options, lm, read, progress, crew)
        write_page(folder, options.file, read)
    return report


def with_layer(folder: BuildFolder, options: EvaluateOptions, lm: LanguageModel) -> EvaluateOptions:
    """Return options whose layer is a number where it was to be the one that a sweep in the build found.

    Raises ConfigError for an editor that another layer may suit, or if no sweep of this model found one.
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
    crew: Crew = NO_CREW,
) -> Report:
    """Return the report of a run, made now or before; call it inside the lock."""
    from cfbuild.score.run_report import Report
    from cfbuild.score.scored import read_cases
    from cfbuild.score.sequence import SequentialPasses
    from cfbuild.views.page.plots import curves_svg

    folder = run.folder
    config = run_config(folder, options, lm, read.sha256)
    if not folder.begin(run.entry, config, restart=options.restart):
        folder.discard(run.entry)  # a run may have been killed between its last two steps
        found = Report.of_cases(list(read_cases(run)), run.record.counted["signature"])
        return found if options.sequence is None else Report.of_dict(read_json(run.path(REPORT)))
    refuse_violations(read, options)
    records = ScoredRecords(read.records[: options.limit], folder)
    passes = crew.work_off(ScoreUnits(folder.progress(run.entry), options, records, crew.recipe(lm)), lm, progress)
    signature = run_signature(passes, read.sha256)
    files = _write(run, passes, options)
    curve = passes.curve() if isinstance(passes, SequentialPasses) else None
    report = Report.of_cases(list(read_cases(run)), signature, curve)
    if curve is not None:
        write_atomic(run.path(CURVES_DRAWN), curves_svg(curve))
        files[run.file(CURVES_DRAWN)] = 1
    write_json(run.path(REPORT), report.as_dict())
    _write_cost(run, passes)
    folder.finish(run.entry, config, {**files, run.file(REPORT): 1}, {"signature": signature})
    folder.discard(run.entry)
    return report


def refuse_violations(read: RecordFile, options: ScoringOptions) -> None:
    """Raise SchemaError if the file of records has violations that are not to be skipped."""
    if read.violations and not options.skip_invalid:
        raise SchemaError(
            f"{read.path}: {read.tally.faulty} of {read.tally.rows} rows have {len(read.violations)} violations; run "
            "with --validate-only to see them, or with --skip-invalid to score the rows that are valid"
        )


def _write(run: Run, passes: Passes, options: EvaluateOptions) -> dict[str, int]:
    """Write the run's cases and, if they are kept, edits; return the number of rows by file."""
    from cfbuild.score.sequence import SequentialPasses

    files = {run.file(CASES): passes.write_cases(run.path(CASES))}
    if options.keep_edits:
        files[run.file(EDITS)] = passes.write_edits(run.path(EDITS))
    if isinstance(passes, SequentialPasses):
        files[run.file(RETAINED)] = passes.write_retained(run.path(RETAINED))
    return files


def _write_cost(run: Run, passes: Passes) -> None:
    """Write what editing took, or remove what an earlier run of the name left if it is not known."""
    cost = passes.cost()
    if cost is None:
        run.path(TIMING).unlink(missing_ok=True)
    else:
        write_json(run.path(TIMING), cost.as_dict())


def run_config(folder: BuildFolder, options: EvaluateOptions, lm: LanguageModel, digest: str) -> dict[str, Any]:
    """Return everything that the run's bytes depend on; `digest` is the sha256 of the file of records."""
    from cfbuild.edit.editor import editor_spec
    from cfbuild.edit.supplies import covariance_name, trained_digest

    spec = editor_spec(options.editor)
    config = {**values_of(options), "file": None, "records": digest, "cfbuild": __version__}
    del config["restart"], config["run"]
    chosen = _chosen(options, lm)
    config |= {name: chosen.pop(name, None) for name in SHORT} | {"settings": chosen}
    config["batch"] = _batch(options, spec.together)
    if "covariance" in spec.needs:
        config["covariance"] = covariance_name(options.covariance)
    else:
        config["covariance"] = config["covariance_tokens"] = None
    if "trained" in spec.needs:
        config["trained"] = trained_digest(folder.path(TRAINED), options.editor, chosen.pop("trained", None))
    files = ("references.jsonl", *((ENTITIES,) if options.in_use else ()))
    digests = {name.partition(".")[0]: _digest(folder.path(name)) for name in files}
    return {
        **config,
        "in_use": options.in_use or None,
        "perplexity": options.perplexity or None,
        **digests,
        **lm.identity,
    }


def _batch(options: EvaluateOptions, together: bool) -> int | None:
    """Return the most records of a batch, None where there are no batches."""
    from cfbuild.score.sequence import batch_size

    return batch_size(options.batch, together) if together or options.sequence is not None else None


def _digest(path: Path) -> str | None:
    return sha256_file(path) if path.is_file() else None


def _chosen(options: EvaluateOptions, lm: LanguageModel) -> dict[str, Any]:
    """Return the given settings that differ from the editor's usual ones. Raises ConfigError for an unfit setting."""
    from cfbuild.edit.editor import settled_options

    settled_options(options.editor, lm, options.asked)  # refuses what the editor does not know
    usual = settled_options(options.editor, lm, {})
    return {name: value for name, value in options.asked.items() if getattr(usual, name) != value}
