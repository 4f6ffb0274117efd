"""`cfbuild compare`: several editors on the same records, a run for each, and the table of all runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from cfbuild.edit import EDITORS, check_name
from cfbuild.edit.presets import AUTO_LAYER, EDITORS_AT_ROMES_LAYER
from cfbuild.errors import CfbuildError, ConfigError
from cfbuild.option import COMMA_SEPARATED, option
from cfbuild.pipeline.scoring import THIS_PROCESS, ScoredRecords, ScoringWorkers, make_editor
from cfbuild.pipeline.validate_and_score import (
    SETTINGS_WITH_OPTIONS,
    EvaluateOptions,
    ScoringOptions,
    refuse_violations,
    run_config,
    score_run,
    with_layer,
)
from cfbuild.progress import Progress, silent
from cfbuild.store.runs import VERB, finished_runs, new_run

if TYPE_CHECKING:
    from cfbuild.audit.validate import RecordFile
    from cfbuild.lm.model import LanguageModel
    from cfbuild.pipeline.report import Reported
    from cfbuild.store.folder import BuildFolder

EDITORS_COMPARED = ("rome", "ft", "ft-l", "memit", "ike")
"""The default: the paper's ROME and fine-tuning, MEMIT for many edits at once, and IKE, which edits no weights."""


@dataclass(frozen=True, slots=True)
class CompareOptions(ScoringOptions):
    """Options of `cfbuild compare`. A setting `EDITOR.NAME` is for that editor, any other for all that have it.

    Raises ConfigError as ScoringOptions does, for an unknown editor, an editor named twice, and a setting for none.
    """

    editors: tuple[str, ...] = option(
        EDITORS_COMPARED,
        "Comma-separated editors to compare; the differences shown are from the first.",
        flag="--editors -e",
        form=COMMA_SEPARATED.naming(*EDITORS),
    )

    def __post_init__(self) -> None:
        ScoringOptions.__post_init__(self)
        if not self.editors:
            raise ConfigError("--editors names no editor; expected names with commas between, such as rome,ft")
        for name in self.editors:
            check_name(name)
        names = [EvaluateOptions(editor=name).name for name in self.editors]
        if len(set(names)) < len(names):
            raise ConfigError(f"--editors {','.join(self.editors)}: an editor, or a run's name, comes twice")
        keys = {_key(name) for name in self.editors}
        for name in self.settings:
            editor = name.rpartition(".")[0]
            if editor and editor not in keys:
                raise ConfigError(f"--set {name}: {editor!r} is none of the editors {', '.join(self.editors)}")


def compare(
    folder: BuildFolder,
    options: CompareOptions,
    lm: LanguageModel,
    progress: Progress = silent,
    read: RecordFile | None = None,
    workers: ScoringWorkers = THIS_PROCESS,
) -> Reported:
    """Edit and score every record by each editor, in a run for each; write report.html; return its table.

    These runs come first in the table. Finished runs are not repeated, an interrupted one goes on. `read` and
    `workers` are as in `evaluate`. Raises ConfigError, before anything runs, naming every editor that cannot be made or
    was run with other settings; SchemaError as `evaluate` does.
    """
    from cfbuild.audit.validate import read_records
    from cfbuild.pipeline.report import report

    read = read or read_records(options.file or folder.require("records.jsonl"))
    refuse_violations(read, options)
    runs = [with_layer(folder, run, lm) for run in run_options(options)]
    with folder.lock("compare"):
        _check_editors(folder, runs, lm, read, progress)
        for run in runs:
            score_run(new_run(folder, run.name), run, lm, read, progress, workers)
        names = [run.name for run in runs]
        earlier = [run.name for run in finished_runs(folder) if run.name not in names]
        return report(folder, options.file, read, [*names, *earlier], progress)


def run_options(options: CompareOptions) -> list[EvaluateOptions]:
    """Return the options of each editor's run, with which validate-and-score would make the same run.

    Raises ConfigError for a setting that none of the editors has.
    """
    from cfbuild.edit.editor import editor_spec

    shared = {option.name: getattr(options, option.name) for option in fields(ScoringOptions)}
    known = {name: [field.name for field in fields(editor_spec(name).options)] for name in options.editors}
    for name in options.editor_settings:
        if "." not in name and not any(name in settings for settings in known.values()):
            raise ConfigError(f"--set {name}: none of the editors {', '.join(options.editors)} has such a setting")
    return [
        EvaluateOptions(**{**shared, **_settings(options, name, known[name])}, editor=name) for name in options.editors
    ]


def _settings(options: CompareOptions, editor: str, known: Sequence[str]) -> dict[str, Any]:
    """Return the values of the options for an editor's settings, of which it has `known`.

    A setting that was given to all editors gives way to one that was given to this one.
    """
    by_option = {name: getattr(options, name) if name in known else None for name in SETTINGS_WITH_OPTIONS}
    if by_option["layer"] == AUTO_LAYER and editor not in EDITORS_AT_ROMES_LAYER:
        by_option["layer"] = None
    named = {name.rpartition(".")[::2]: value for name, value in options.settings.items()}
    settings: Mapping[str, Any] = {
        **{name: value for (key, name), value in named.items() if not key and name in known},
        **{name: value for (key, name), value in named.items() if key == _key(editor)},
    }
    return {**by_option, "settings": settings}


def _key(editor: str) -> str:
    """Return an editor's name as `--set EDITOR.NAME` is read, with `_` for every `-`: `ft_l`."""
    return editor.replace("-", "_")


def _check_editors(
    folder: BuildFolder, runs: Sequence[EvaluateOptions], lm: LanguageModel, read: RecordFile, progress: Progress
) -> None:
    """Make every editor whose run is not finished; those that need no covariance or training come first.

    What took long to make is kept on the disk. Raises ConfigError naming each editor that cannot be made, or whose run
    has other settings, with the reason.
    """
    from cfbuild.edit.editor import editor_spec

    refused = {}
    for run in sorted(runs, key=lambda run: bool(editor_spec(run.editor).needs)):
        try:
            config = run_config(folder, run, lm, read.sha256)
            if run.restart or not folder.is_done(f"{VERB}/{run.name}", config):
                make_editor(lm, run, ScoredRecords(read.records[: run.limit], folder), progress)
        except CfbuildError as error:
            refused[run.editor] = str(error)
    if refused:
        reasons = "".join(f"\n- {run.editor}: {refused[run.editor]}" for run in runs if run.editor in refused)
        raise ConfigError(f"nothing was run, for {len(refused)} of {len(runs)} editors cannot be used:{reasons}")
