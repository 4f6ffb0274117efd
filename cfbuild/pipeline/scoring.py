"""Editing and scoring the records of a run: its editor with what that needs, the processes, and its signature."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cfbuild.edit import TRAINED
from cfbuild.errors import ConfigError
from cfbuild.lm.selection import ModelOptions
from cfbuild.progress import Progress, silent
from cfbuild.store.codec import decode_entity, decode_reference
from cfbuild.store.files import sha256_text
from cfbuild.store.jsonl import Row, read_values
from cfbuild.store.schema import conforming
from cfbuild.work import ModelWorkerOptions, map_chunks

if TYPE_CHECKING:
    from cfbuild.data import Record, Reference
    from cfbuild.edit.editor import OpenEditor
    from cfbuild.edit.supplies import ModelSupplies
    from cfbuild.lm.load import ModelRecipe
    from cfbuild.lm.model import LanguageModel
    from cfbuild.pipeline.validate_and_score import EvaluateOptions, ScoringOptions
    from cfbuild.score.in_use import ObjectNames
    from cfbuild.score.passes import Passes, UnfinishedUnit
    from cfbuild.store.folder import BuildFolder

ENTITIES = "entities.jsonl"
"""The build's file of the names by which answers are matched."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScoringWorkers:
    """The processes that edit and score a run's records, and the model that each of them loads."""

    processes: ModelWorkerOptions = field(default_factory=ModelWorkerOptions)
    model: ModelOptions = field(default_factory=ModelOptions)

    def work_off(self, job: ScoreUnits, lm: LanguageModel, progress: Progress) -> Passes:
        """Edit and score the records that are not done yet; return the finished passes."""
        passes = job.passes(lm, progress)
        if self.processes.is_alone:
            passes.work_off()
        else:
            unfinished = passes.unfinished(passes.log())
            passes.take_in(unfinished, map_chunks(job, unfinished, self.processes))
        return passes

    def check(self, options: ScoringOptions) -> None:
        """Raise ConfigError for fewer than one worker, and for several workers with --sequence."""
        self.processes.check_workers()
        if options.sequence is not None and not self.processes.is_alone:
            raise ConfigError("--sequence edits batch after batch on one model; leave --workers and --ray out")


THIS_PROCESS = ScoringWorkers()
"""No further process: this one edits and scores, with the model that it has loaded."""


@dataclass(frozen=True)
class ScoredRecords:
    """The records to score, and the build's folder with its reference texts, names and trained networks."""

    records: Sequence[Record]
    folder: BuildFolder

    @property
    def references(self) -> list[Reference]:
        """Return the build's reference texts, read from its file at each call; none if it has no such file."""
        path = self.folder.path("references.jsonl")
        return list(read_values(path, conforming("references", decode_reference))) if path.is_file() else []

    def names(self, records: Sequence[Record]) -> ObjectNames:
        """Return the names of the records' objects, with the aliases that the build knows."""
        from cfbuild.score.in_use import ObjectNames

        path = self.folder.path(ENTITIES)
        entities = read_values(path, conforming("entities", decode_entity)) if path.is_file() else ()
        return ObjectNames.of(records, entities)


@dataclass(frozen=True)
class ScoreUnits:
    """The job that edits and scores units of records.

    work: the folder of unfinished work, which every worker must reach.
    model: the recipe of the model that workers load.
    """

    work: Path
    options: EvaluateOptions
    scored: ScoredRecords
    model: ModelRecipe

    def open(self) -> Callable[[UnfinishedUnit], list[Row]]:
        """Return the function that edits and scores a unit, after loading the model.

        Raises ConfigError if it is another model than that of the run.
        """
        return self.passes(self.model.load(), silent).rows_of

    def passes(self, lm: LanguageModel, progress: Progress) -> Passes:
        """Return the passes over the records, with the editor made."""
        from cfbuild.score.passes import Passes
        from cfbuild.score.sequence import SequentialPasses, batch_size, edited_records
        from cfbuild.score.texts import ReferenceTexts

        options, records, references = self.options, self.scored.records, self.scored.references
        editor = make_editor(lm, options, self.scored, progress)
        kind = Passes
        if options.sequence is not None:
            kind = SequentialPasses
            records = edited_records(records, batch_size(options.batch, editor.together), options.sequence)
        elif options.batch is not None and not editor.together:
            _log.warning(
                "--batch %d has no effect: %s edits each record by itself, on the unedited model; with --sequence it "
                "is how many records are edited before they are scored",
                options.batch,
                options.editor,
            )
        return kind(
            self.work,
            lm,
            editor,
            records,
            batch=options.batch,
            texts=None if options.skip_generation else ReferenceTexts(references),
            seed=options.seed,
            keep_edits=options.keep_edits,
            progress=progress,
            texts_of=options.texts,
            names=self.scored.names(records) if options.in_use else None,
            perplexity=options.perplexity,
        )


def make_editor(lm: LanguageModel, options: EvaluateOptions, scored: ScoredRecords, progress: Progress) -> OpenEditor:
    """Return the editor that the options name. `scored` has the texts that `--covariance build` is measured on."""
    from cfbuild.edit.editor import open_editor

    return open_editor(options.editor, lm, options.editor_settings, new_supplies(lm, options, scored, progress))


def new_supplies(
    lm: LanguageModel, options: EvaluateOptions, scored: ScoredRecords, progress: Progress
) -> ModelSupplies:
    """Return what the editor is supplied with: covariances, contexts and trained networks, made when it asks."""
    from cfbuild.edit.supplies import ModelSupplies, build_corpus

    return ModelSupplies(
        lm,
        corpus=lambda: build_corpus(scored.records, scored.references),
        covariance_of=options.covariance,
        tokens=options.covariance_tokens,
        seed=options.seed,
        networks=scored.folder.path(TRAINED),
        progress=progress,
    )


def short_settings(editor: OpenEditor) -> dict[str, Any]:
    """Return an editor's signature with the number and digest of its contexts in place of their texts."""
    settings = dict(editor.signature)
    if contexts := settings.get("contexts"):
        settings["contexts"] = f"{len(contexts)}@{sha256_text(chr(0).join(contexts))[:12]}"
    return settings


def run_signature(passes: Passes, digest: str) -> dict[str, Any]:
    """Return everything that the run's figures depend on. `digest` is the sha256 of the file of records."""
    from cfbuild.score.fixed_text import fixed_text
    from cfbuild.score.in_use import MOST_TOKENS
    from cfbuild.score.sequence import SequentialPasses, batch_size

    signature = {**passes.lm.identity, **passes.lm.arithmetic, **short_settings(passes.editor)}
    is_sequence = isinstance(passes, SequentialPasses)
    if passes.editor.together or is_sequence:
        signature["batch"] = batch_size(passes.batch, passes.editor.together)
    if is_sequence:
        signature["sequence"] = len(passes.units())
    signature["records"] = f"{len(passes.records)}@{digest[:12]}"
    first = "" if passes.texts_of is None else f", first {passes.texts_of} records"
    signature["generation"] = "none" if passes.texts is None else f"top-k 5, 100 tokens, seed {passes.seed}{first}"
    if passes.names is not None:
        signature["in_use"] = f"greedy, {MOST_TOKENS} tokens at most"
    if passes.perplexity:
        signature["perplexity"] = f"fixed text {sha256_text(fixed_text())[:12]}"
    return signature
