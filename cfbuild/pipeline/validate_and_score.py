"""`cfbuild validate-and-score`: validation, then an editor on every record, then the paper's table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cfbuild import __version__
from cfbuild.edit import COVARIANCE_TOKENS, EDITORS, TRAINED, check_name
from cfbuild.errors import ConfigError, SchemaError
from cfbuild.option import NAMED_VALUES, option, restart_option, seed_option, values_of
from cfbuild.progress import Progress, silent
from cfbuild.store.codec import decode_reference
from cfbuild.store.files import sha256_file, sha256_text
from cfbuild.store.jsonl import read_values, write_json
from cfbuild.store.runs import CASES, EDITS, REPORT, VERB, Run, default_name, new_run
from cfbuild.store.schema import conforming

if TYPE_CHECKING:
    from cfbuild.audit.validate import RecordFile
    from cfbuild.data import Record, Reference
    from cfbuild.edit.editor import OpenEditor
    from cfbuild.lm.model import LanguageModel
    from cfbuild.score.passes import Passes
    from cfbuild.score.table import Report
    from cfbuild.store.folder import BuildFolder

SHORT = ("layer", "steps", "key_mode")
"""Settings of editors that have their own options."""
ABOUT_EDITOR = "The editor"


@dataclass(frozen=True, slots=True)
class EvaluateOptions:
    """Options of `cfbuild validate-and-score`; for a setting of the editor, None means the preset's or the editor's.

    `settings` are an editor's by name; `layer`, `steps` and `key_mode` are settings too. Raises ConfigError for a
    number below its minimum and an unknown editor.
    """

    file: Path | None = option(None, "Any CounterFact-format file. [default: the build's records]", flag="--file -f")
    skip_invalid: bool = option(False, "Score the valid rows all the same.")
    run: str | None = option(None, "The run's name: runs stand side by side in a build. [default: the editor's name]")
    editor: str = option(
        "rome", f"The editor to score: {', '.join(EDITORS)}; or module:attribute of your own.", panel=ABOUT_EDITOR
    )
    layer: int | None = option(None, "Layer to edit. [default: the preset's]", panel=ABOUT_EDITOR)
    key_mode: str | None = option(
        None,
        "rome: reference (as released) or consistent (R-ROME). [default: reference]",
        panel=ABOUT_EDITOR,
    )
    covariance: str = option(
        "build", "Corpus of C: build, a text file, hub:NAME; or an .npz file with C; or none.", panel=ABOUT_EDITOR
    )
    covariance_tokens: int = option(COVARIANCE_TOKENS, "Tokens of the corpus to use.", panel=ABOUT_EDITOR)
    steps: int | None = option(None, "Most optimisation steps of an edit. [default: the editor's]", panel=ABOUT_EDITOR)
    batch: int | None = option(
        None, "Records that emmet, or an editor like it, edits together. [default: 100]", panel=ABOUT_EDITOR
    )
    settings: Mapping[str, Any] = option(
        dict,
        "Any other setting of the editor; may be given several times.",
        flag="--set",
        metavar="NAME=VALUE",
        form=NAMED_VALUES,
        panel=ABOUT_EDITOR,
    )
    limit: int | None = option(None, "Score only the first so many records.")
    skip_generation: bool = option(False, "No texts, so no GE and RS.")
    keep_edits: bool = option(False, "Keep the edits: edits.safetensors beside the run's cases.")
    seed: int = seed_option()
    restart: bool = restart_option()

    def __post_init__(self) -> None:
        check_name(self.editor)
        for name in ("limit", "batch", "covariance_tokens"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least 1")

    @property
    def name(self) -> str:
        """The run's name: the option's, or else the editor's."""
        return self.run or default_name(self.editor)

    @property
    def asked(self) -> dict[str, Any]:
        """The editor's settings that were given, by their own options or in `settings`, which take precedence."""
        short = {name: getattr(self, name) for name in SHORT}
        return {**{name: value for name, value in short.items() if value is not None}, **self.settings}


def evaluate(
    folder: BuildFolder,
    options: EvaluateOptions,
    lm: LanguageModel,
    progress: Progress = silent,
    read: RecordFile | None = None,
) -> Report:
    """Edit and score every record; write the run's cases.jsonl and report.json, and report.html; return the report.

    `read` is the file of records, if it was read before. An interrupted run continues after its last finished chunk,
    with the same bytes; a finished run is not repeated. Raises SchemaError if the file has violations and
    `skip_invalid` is not set, BuildStateError for work made with other settings, and the errors of the editor.
    """
    from cfbuild.audit.validate import read_records
    from cfbuild.pipeline.report import write_page

    read = read or read_records(options.file or folder.require("records.jsonl"))
    run = new_run(folder, options.name)
    with folder.lock(VERB):
        report = _evaluate(run, options, lm, read, progress)
        write_page(folder, options.file, read)
    return report


def _evaluate(run: Run, options: EvaluateOptions, lm: LanguageModel, read: RecordFile, progress: Progress) -> Report:
    """Return the report of a run, made now or before; call it inside the lock."""
    from cfbuild.score.passes import Passes
    from cfbuild.score.scored import read_cases
    from cfbuild.score.table import Report
    from cfbuild.score.texts import ReferenceTexts

    folder = run.folder
    config = _config(folder, options, lm, read.sha256)
    if not folder.begin(run.entry, config, restart=options.restart):
        folder.discard(run.entry)  # a run may have been killed between its last two steps
        return Report.of_cases(list(read_cases(run)), run.record.counted["signature"])
    if read.violations and not options.skip_invalid:
        raise SchemaError(
            f"{read.path}: {read.tally.faulty} of {read.tally.rows} rows have {len(read.violations)} violations; run "
            "with --validate-only to see them, or with --skip-invalid to score the rows that are valid"
        )
    records, references = read.records[: options.limit], _references(folder)
    passes = Passes(
        folder.progress(run.entry),
        lm,
        make_editor(lm, options, records, references, progress, folder.path(TRAINED)),
        records,
        batch=options.batch,
        texts=None if options.skip_generation else ReferenceTexts(references),
        seed=options.seed,
        keep_edits=options.keep_edits,
        progress=progress,
    )
    passes.work_off()
    signature = _signature(passes, read.sha256)
    files = _write(run, passes, options)
    report = Report.of_cases(list(read_cases(run)), signature)
    write_json(run.path(REPORT), report.as_dict())
    folder.finish(run.entry, config, {**files, run.file(REPORT): 1}, {"signature": signature})
    folder.discard(run.entry)
    return report


def _write(run: Run, passes: Passes, options: EvaluateOptions) -> dict[str, int]:
    """Write the run's cases and, if they are kept, edits; return the number of rows by file."""
    files = {run.file(CASES): passes.write_cases(run.path(CASES))}
    if options.keep_edits:
        files[run.file(EDITS)] = passes.write_edits(run.path(EDITS))
    return files


def _config(folder: BuildFolder, options: EvaluateOptions, lm: LanguageModel, digest: str) -> dict[str, Any]:
    """Return everything that the run's bytes depend on; `digest` is the sha256 of the file of records."""
    from cfbuild.edit.editor import editor_spec
    from cfbuild.edit.supplies import covariance_name, trained_digest
    from cfbuild.score.passes import TOGETHER

    spec = editor_spec(options.editor)
    config = {**values_of(options), "file": None, "records": digest, "cfbuild": __version__}
    del config["restart"], config["run"]
    chosen = _chosen(options, lm)
    config |= {name: chosen.pop(name, None) for name in SHORT} | {"settings": chosen}
    config["batch"] = (options.batch or TOGETHER) if spec.together else None
    if "covariance" in spec.needs:
        config["covariance"] = covariance_name(options.covariance)
    else:
        config["covariance"] = config["covariance_tokens"] = None
    if "trained" in spec.needs:
        config["trained"] = trained_digest(folder.path(TRAINED), options.editor, chosen.pop("trained", None))
    references = folder.path("references.jsonl")
    return {
        **config,
        "references": sha256_file(references) if references.is_file() else None,
        **lm.identity,
    }


def _chosen(options: EvaluateOptions, lm: LanguageModel) -> dict[str, Any]:
    """Return the given settings that differ from the editor's usual ones. Raises ConfigError for an unfit setting."""
    from cfbuild.edit.editor import settled_options

    settled_options(options.editor, lm, options.asked)  # refuses what the editor does not know
    usual = settled_options(options.editor, lm, {})
    return {name: value for name, value in options.asked.items() if getattr(usual, name) != value}


def _references(folder: BuildFolder) -> list[Reference]:
    path = folder.path("references.jsonl")
    return list(read_values(path, conforming("references", decode_reference))) if path.is_file() else []


def make_editor(
    lm: LanguageModel,
    options: EvaluateOptions,
    records: Sequence[Record],
    references: Sequence[Reference],
    progress: Progress,
    networks: Path = Path("build", TRAINED),
) -> OpenEditor:
    """Return the editor of the options; `records` and `references` are the texts of `--covariance build`.

    networks: the folder of trained networks.
    """
    from cfbuild.edit.editor import open_editor
    from cfbuild.edit.supplies import ModelSupplies, build_corpus

    supplies = ModelSupplies(
        lm,
        corpus=lambda: build_corpus(records, references),
        covariance_of=options.covariance,
        tokens=options.covariance_tokens,
        seed=options.seed,
        networks=networks,
        progress=progress,
    )
    return open_editor(options.editor, lm, options.asked, supplies)


def _signature(passes: Passes, digest: str) -> dict[str, Any]:
    """Return everything that the run's figures depend on, short enough for a report.

    digest: the sha256 of the file of records.
    """
    from cfbuild.score.passes import TOGETHER

    settings = dict(passes.editor.signature)
    if contexts := settings.get("contexts"):
        settings["contexts"] = f"{len(contexts)}@{sha256_text(chr(0).join(contexts))[:12]}"
    together = {"batch": passes.batch or TOGETHER} if passes.editor.together else {}
    return {
        **passes.lm.identity,
        **settings,
        **together,
        "records": f"{len(passes.records)}@{digest[:12]}",
        "generation": "none" if passes.texts is None else f"top-k 5, 100 tokens, seed {passes.seed}",
    }
