"""`cfbuild sweep`: an editor at every layer (ROME's paper, Figure 5), curves over the layers, and the best layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cfbuild.edit import TOKENS, check_name
from cfbuild.errors import ConfigError, check_least
from cfbuild.option import COMMA_SEPARATED, option, restart_option, seed_option, split
from cfbuild.pipeline.scoring import ScoredRecords, new_supplies, short_settings
from cfbuild.pipeline.validate_and_score import (
    ABOUT_EDITOR,
    CORPUS,
    EDITOR,
    covariance_tokens_option,
    refuse_violations,
    run_config,
    scoring_options,
    settings_option,
    steps_option,
)
from cfbuild.progress import Progress, silent
from cfbuild.store.files import write_atomic
from cfbuild.store.jsonl import write_json, write_jsonl
from cfbuild.store.runs import FOUND, POINTS, REPORT, SWEEP, Run, default_name, new_run

if TYPE_CHECKING:
    from cfbuild.audit.validate import RecordFile
    from cfbuild.lm.model import LanguageModel
    from cfbuild.score.swept import Series, SweepReport
    from cfbuild.store.folder import BuildFolder

BY_TOKEN, BY_BOUND = "token", "norm_constraint"
"""The settings of which a sweep draws a curve for each value: ROME's token, and fine-tuning's bound on the change."""


@dataclass(frozen=True, slots=True)
class SweepOptions:
    """Options of `cfbuild sweep`. Raises ConfigError for an unknown editor or token, or a number out of range."""

    run: str | None = option(None, "The sweep's name; a build can have several. [default: the editor's name]")
    file: Path | None = option(
        None, "Edit by this file of CounterFact's format. [default: the build's records]", flag="--file -f"
    )
    skip_invalid: bool = option(False, "If rows are not valid, edit by the others.")
    limit: int = option(20, "Edit the first N records at every point.")
    layers: str = option("all", "The layers to edit: all, or numbers and ranges such as 0-11,17.")
    positions: tuple[str, ...] = option(
        tuple(TOKENS),
        "For rome: comma-separated tokens to edit at, a curve for each.",
        form=COMMA_SEPARATED.naming(*TOKENS),
    )
    eps: tuple[str, ...] = option(
        ("5e-4", "1e-3", "5e-3", "none"),
        "For ft: comma-separated bounds on the change of each weight, a curve for each; none is no bound.",
        form=COMMA_SEPARATED,
    )
    editor: str = option(
        "rome", "The editor: rome, ft, or another that has their settings.", panel=ABOUT_EDITOR, form=EDITOR
    )
    covariance: str = option(
        "build",
        "The texts that the covariance of keys is measured on: build (its own), a text file, or hub:NAME; or none.",
        panel=ABOUT_EDITOR,
        form=CORPUS,
    )
    covariance_tokens: int | None = covariance_tokens_option()
    steps: int | None = steps_option()
    settings: Mapping[str, Any] = settings_option()
    seed: int = seed_option()
    restart: bool = restart_option()

    def __post_init__(self) -> None:
        check_name(self.editor)
        check_least(self, limit=1, covariance_tokens=1)
        unknown = [name for name in self.positions if name not in TOKENS]
        if unknown or not self.positions:
            raise ConfigError(f"--positions {','.join(self.positions)}: expected names from {', '.join(TOKENS)}")
        if not self.eps:
            raise ConfigError("--eps names no bound; expected bounds with commas between, such as 5e-4,none")
        for name, flag in (("layer", "--layers"), (BY_TOKEN, "--positions"), (BY_BOUND, "--eps")):
            if name in self.settings:
                raise ConfigError(f"--set {name}: a sweep goes over it; use {flag}")

    @property
    def name(self) -> str:
        """Return the sweep's name: the option's, or else the editor's."""
        return self.run or default_name(self.editor)


def sweep(
    folder: BuildFolder,
    options: SweepOptions,
    lm: LanguageModel,
    progress: Progress = silent,
    read: RecordFile | None = None,
) -> SweepReport:
    """Edit and score records at every point; write the sweep's files and report.html; return the report.

    read: the file of records, if it was read before.
    Raises SchemaError if the file has violations and `skip_invalid` is not set, BuildStateError for work made with
    other settings, ConfigError for layers that the model does not have or an editor that cannot be swept.
    """
    from cfbuild.audit.validate import read_records
    from cfbuild.pipeline.report import report

    read = read or read_records(options.file or folder.require("records.jsonl"))
    refuse_violations(read, scoring_options(options))
    run = new_run(folder, options.name, SWEEP)
    with folder.lock(SWEEP):
        swept = _sweep(run, options, lm, read, progress)
        report(folder, options.file, read)
    return swept


def _sweep(run: Run, options: SweepOptions, lm: LanguageModel, read: RecordFile, progress: Progress) -> SweepReport:
    """Sweep unless that is done; return the report. The caller holds the build's lock."""
    from cfbuild.score.sweeping import Sweep
    from cfbuild.score.swept import SweepReport, read_sweep, series_name

    folder, scoring = run.folder, scoring_options(options)
    layers = layers_of(options.layers, len(lm.layers))
    curve_of, series = _series(options)
    config = {**run_config(folder, scoring, lm, read.sha256), "layers": list(layers), curve_of: list(series)}
    if not folder.begin(run.entry, config, restart=options.restart):
        return read_sweep(run)
    supplies = new_supplies(lm, scoring, ScoredRecords(read.records, folder), progress)
    records, work, given = read.records[: options.limit], folder.progress(run.entry), scoring.editor_settings
    points = Sweep(work, lm, options.editor, given, supplies, layers, curve_of, series, records, progress)
    rows = points.work_off()
    # The last layer's covariance was computed last and is still in memory.
    usual = short_settings(points.open_editor(layers[-1], series[-1]))
    del usual["layer"], usual[curve_of]
    over = {"layers": _ranges(layers), curve_of: ",".join(map(series_name, series))}
    settings = {**lm.identity, **usual, **over, "records": f"{len(records)}@{read.sha256[:12]}"}
    report = SweepReport.of_rows(rows, settings, curve_of)
    run.path(POINTS).parent.mkdir(parents=True, exist_ok=True)
    files = {run.file(POINTS): write_jsonl(run.path(POINTS), (row.as_dict(curve_of) for row in rows))}
    files |= _write_report(run, report, lm)
    folder.finish(run.entry, config, files, {"signature": settings})
    return report


def _write_report(run: Run, report: SweepReport, lm: LanguageModel) -> dict[str, int]:
    """Write a sweep's report, its drawings and the layer that it found; return row counts by file."""
    from cfbuild.edit.artefacts import weights_identity
    from cfbuild.score.swept import DRAWN, found_preset
    from cfbuild.views.page.plots import sweep_svg

    drawings = {f"{figure}.svg": sweep_svg(report, figure) for figure in DRAWN}
    for name in (FOUND, *drawings):
        run.path(name).unlink(missing_ok=True)  # an earlier sweep of this name may have had files that this one lacks
    write_json(run.path(REPORT), report.as_dict())
    names = [REPORT]
    for name, drawing in drawings.items():
        if drawing is not None:
            write_atomic(run.path(name), drawing)
            names.append(name)
    if report.found is not None:
        write_json(run.path(FOUND), found_preset(report, weights_identity(lm)["revision"]))
        names.append(FOUND)
    return {run.file(name): 1 for name in names}


def _series(options: SweepOptions) -> tuple[str, tuple[Series, ...]]:
    """Return the setting that has a curve for each value, and the values.

    Raises ConfigError for an editor that has neither setting or edits records together.
    """
    from cfbuild.edit.editor import editor_spec

    spec = editor_spec(options.editor)
    known = {field.name for field in fields(spec.options)}
    if spec.together or "layer" not in known or not known & {BY_TOKEN, BY_BOUND}:
        raise ConfigError(
            f"--editor {options.editor}: a sweep needs an editor that edits each record by itself, at one layer, and "
            f"has the setting {BY_TOKEN} or {BY_BOUND}; rome, rome-fast, ft, ft-l and ft-m do"
        )
    if BY_TOKEN in known:
        return BY_TOKEN, tuple(dict.fromkeys(options.positions))
    return BY_BOUND, tuple(dict.fromkeys(_bound(text) for text in options.eps))


def _bound(text: str) -> float | None:
    try:
        return None if text == "none" else float(text)
    except ValueError as error:
        raise ConfigError(f"--eps {text}: expected a number or none") from error


def layers_of(text: str, depth: int) -> tuple[int, ...]:
    """Return the layers that a text names, ascending: `all`, or numbers and ranges with commas between.

    Raises ConfigError for any other text, or a layer that a model of `depth` layers does not have.
    """
    from cfbuild.edit.presets import check_layer

    if text == "all":
        return tuple(range(depth))
    try:
        found = {layer for part in split(text) for layer in _range(part)}
    except ValueError as error:
        raise ConfigError(f"--layers {text}: expected all, or numbers and ranges such as 0-11,17") from error
    if not found:
        raise ConfigError(f"--layers {text}: names no layer; the model has layers 0 to {depth - 1}")
    return tuple(check_layer(layer, depth) for layer in sorted(found))


def _range(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def _ranges(layers: tuple[int, ...]) -> str:
    """Return layers as `layers_of` reads them: `0-11,17`."""
    consecutive = groupby(enumerate(layers), key=lambda numbered: numbered[1] - numbered[0])
    ranges = ([layer for _, layer in numbered] for _, numbered in consecutive)
    return ",".join(f"{found[0]}-{found[-1]}" if len(found) > 1 else f"{found[0]}" for found in ranges)
