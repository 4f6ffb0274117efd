"""`cfbuild compare`: several editors on the same records, a run each, and the table of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from cfbuild.edit import EDITORS, check_name
from cfbuild.edit.presets import AUTO_LAYER, EDITORS_AT_ROMES_LAYER
from cfbuild.errors import CfbuildError, ConfigError
from cfbuild.option import COMMA_SEPARATED, option
from cfbuild.pipeline.scoring import NO_CREW, Crew, ScoredRecords, make_editor
from cfbuild.pipeline.validate_and_score import (
    SHORT,
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
"""The default: ROME, which the paper is about, fine-tuning, many edits at once, and no edit of weights at all."""


@dataclass(frozen=True, slots=True)
class CompareOptions(ScoringOptions):
    """Options of `cfbuild compare`. A setting `EDITOR.NAME` is that editor's, any other of all editors that have it.

    Raises ConfigError as ScoringOptions does, for an unknown editor, one that comes twice, and settings of none.
    """

    editors: tuple[str, ...] = option(
        EDITORS_COMPARED,
        "The editors to compare, with commas between; the others' differences are from the first.",
        flag="--editors -e",
        form=COMMA_SEPARATED.naming(*EDITORS),
    )

    def __post_init__(self) -> None:
        ScoringOptions.__post_init__(self)
        if not self.editors:
            raise ConfigError("no editor to compare; name some with commas between: --editors rome,ft")
        for name in self.editors:
            check_name(name)
        names = [EvaluateOptions(editor=name).name for name in self.editors]
        if len(set(names)) < len(names):
            raise ConfigError(f"--editors {','.join(self.editors)}: an editor, or a run's name, comes twice")
        owners = {_key(name) for name in self.editors}
        for name in self.settings:
            owner = name.rpartition(".")[0]
            if owner and owner not in owners:
                raise ConfigError(f"--set {name}: {owner!r} is none of the editors {', '.join(self.editors)}")


def compare(
    folder: BuildFolder,
    options: CompareOptions,
    lm: LanguageModel,
    progress: Progress = silent,
    read: RecordFile | None = None,
    crew: Crew = NO_CREW,
) -> Reported:
    """Edit and score every record by every editor, a run each; write report.html; return the table, these runs first.

    `read` is the file of records, if it was read before; `crew` are the workers, who change no byte. Finished runs are
    not repeated, an interrupted one goes on. Raises ConfigError, before anything runs, naming every editor that cannot
    be made or was run with other settings; SchemaError as `evaluate` does.
    """
    from cfbuild.audit.validate import read_records
    from cfbuild.pipeline.report import report

    read = read or read_records(options.file or folder.require("records.jsonl"))
    refuse_violations(read, options)
    runs = [with_layer(folder, each, lm) for each in run_options(options)]
    with folder.lock("compare"):
        _check_editors(folder, runs, lm, read, progress)
        for each in runs:
            score_run(new_run(folder, each.name), each, lm, read, progress, crew)
        names = [each.name for each in runs]
        others = [run.name for run in finished_runs(folder) if run.name not in names]
        return report(folder, options.file, read, [*names, *others], progress)


def run_options(options: CompareOptions) -> list[EvaluateOptions]:
    """Return the options of each editor's run, as validate-and-score would have them.

    Raises ConfigError for a setting that none of the editors has.
    """
    shared = {one.name: getattr(options, one.name) for one in fields(ScoringOptions)}
    known = {name: _settings_of(name) for name in options.editors}
    for name in options.asked:
        if "." not in name and not any(name in settings for settings in known.values()):
            raise ConfigError(f"--set {name}: none of the editors {', '.join(options.editors)} has such a setting")
    return [EvaluateOptions(**{**shared, **_own(options, name, known[name])}, editor=name) for name in options.editors]


def _own(options: CompareOptions, editor: str, known: Sequence[str]) -> dict[str, Any]:
    """Return the values of an editor's own options: what was given to all and it has, then what was given to it."""
    short = {name: getattr(options, name) if name in known else None for name in SHORT}
    if short["layer"] == AUTO_LAYER and editor not in EDITORS_AT_ROMES_LAYER:
        short["layer"] = None
    named = {name.rpartition(".")[::2]: value for name, value in options.settings.items()}
    settings: Mapping[str, Any] = {
        **{name: value for (owner, name), value in named.items() if not owner and name in known},
        **{name: value for (owner, name), value in named.items() if owner == _key(editor)},
    }
    return {**short, "settings": settings}


def _settings_of(editor: str) -> tuple[str, ...]:
    from cfbuild.edit.editor import editor_spec

    return tuple(one.name for one in fields(editor_spec(editor).options))


def _key(editor: str) -> str:
    """Return an editor's name as it stands before a setting, where `--set` has made every `-` of names a `_`."""
    return editor.replace("-", "_")


def _check_editors(
    folder: BuildFolder, runs: Sequence[EvaluateOptions], lm: LanguageModel, read: RecordFile, progress: Progress
) -> None:
    """Make every editor whose run is not finished, those without supplies first.

    What takes long to make is an artefact and kept. Raises ConfigError naming each that cannot be made, or whose run
    has other settings, with the reason.
    """
    from cfbuild.edit.editor import editor_spec

    refused = {}
    for each in sorted(runs, key=lambda each: bool(editor_spec(each.editor).needs)):
        try:
            config = run_config(folder, each, lm, read.sha256)
            if each.restart or not folder.is_done(f"{VERB}/{each.name}", config):
                make_editor(lm, each, ScoredRecords(read.records[: each.limit], folder), progress)
        except CfbuildError as error:
            refused[each.editor] = str(error)
    if refused:
        reasons = "".join(f"\n- {name}: {refused[name]}" for name in (each.editor for each in runs) if name in refused)
        raise ConfigError(f"nothing was run, for {len(refused)} of {len(runs)} editors cannot be used:{reasons}")
