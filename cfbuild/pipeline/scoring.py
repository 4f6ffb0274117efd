"""A run's passes over its records, with its editor and what that needs, in this process or in several."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cfbuild.edit import TRAINED
from cfbuild.errors import ConfigError
from cfbuild.lm.selection import ModelOptions
from cfbuild.progress import Progress, silent
from cfbuild.store.codec import decode_entity, decode_reference
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
class Crew:
    """The workers of a run, each of which loads the model that the options say."""

    workers: ModelWorkerOptions = field(default_factory=ModelWorkerOptions)
    model: ModelOptions = field(default_factory=ModelOptions)

    def recipe(self, lm: LanguageModel) -> ModelRecipe:
        """Return the recipe of the model that each worker loads."""
        from cfbuild.lm.load import ModelRecipe

        return ModelRecipe.of(lm, self.model.for_workers(self.workers.gpus))

    def work_off(self, job: ScoreUnits, lm: LanguageModel, progress: Progress) -> Passes:
        """Return the passes of a job, after all that was left of them is done."""
        passes = job.passes(lm, progress)
        if self.workers.is_alone:
            passes.work_off()
        else:
            units = passes.unfinished(passes.log())
            passes.take_in(units, map_chunks(job, units, self.workers))
        return passes

    def check(self, options: ScoringOptions) -> None:
        """Raise ConfigError for fewer workers than one, and for several where batches follow one another."""
        self.workers.check_workers()
        if options.sequence is not None and not self.workers.is_alone:
            raise ConfigError("--sequence edits batch after batch on one model; leave --workers and --ray out")


NO_CREW = Crew()
"""This process, and the model that it has."""


@dataclass(frozen=True)
class ScoredRecords:
    """The records to score, and the folder of the build that has reference texts, names and trained networks."""

    records: Sequence[Record]
    folder: BuildFolder

    @property
    def references(self) -> list[Reference]:
        """The build's reference texts, read anew."""
        return references_of(self.folder)


@dataclass(frozen=True)
class ScoreUnits:
    """The job that edits and scores units of records.

    work: where unfinished work is kept, which every worker must reach. model: the recipe of the model, which workers
    load.
    """

    work: Path
    options: EvaluateOptions
    scored: ScoredRecords
    model: ModelRecipe

    def open(self) -> Callable[[UnfinishedUnit], list[Row]]:
        """Return the function that does it, with a model of its own. Raises ConfigError if that is another model."""
        return self.passes(self.model.load(), silent).rows_of

    def passes(self, lm: LanguageModel, progress: Progress) -> Passes:
        """Return the passes over the records."""
        return _passes(self.work, self.options, lm, self.scored, progress)


def _passes(
    work: Path, options: EvaluateOptions, lm: LanguageModel, scored: ScoredRecords, progress: Progress
) -> Passes:
    """Return the passes over the records, with the editor made; `work` is where unfinished work is kept."""
    from cfbuild.score.passes import Passes
    from cfbuild.score.sequence import SequentialPasses, batch_size, edited_records
    from cfbuild.score.texts import ReferenceTexts

    records, references = scored.records, scored.references
    editor = make_editor(lm, options, scored, progress)
    kind = Passes
    if options.sequence is not None:
        kind = SequentialPasses
        records = edited_records(records, batch_size(options.batch, editor.together), options.sequence)
    elif options.batch is not None and not editor.together:
        _log.warning(
            "--batch %d has no effect: %s edits each record by itself, on the unedited model; with --sequence it is "
            "how many records are edited before they are scored",
            options.batch,
            options.editor,
        )
    return kind(
        work,
        lm,
        editor,
        records,
        batch=options.batch,
        texts=None if options.skip_generation else ReferenceTexts(references),
        seed=options.seed,
        keep_edits=options.keep_edits,
        progress=progress,
        texts_of=options.texts,
        names=_names(scored.folder, records) if options.in_use else None,
        perplexity=options.perplexity,
    )


def references_of(folder: BuildFolder) -> list[Reference]:
    """Return the build's reference texts; none if it has no file of them."""
    path = folder.path("references.jsonl")
    return list(read_values(path, conforming("references", decode_reference))) if path.is_file() else []


def _names(folder: BuildFolder, records: Sequence[Record]) -> ObjectNames:
    """Return the names of the records' objects, as far as the build knows them."""
    from cfbuild.score.in_use import ObjectNames

    path = folder.path(ENTITIES)
    entities = read_values(path, conforming("entities", decode_entity)) if path.is_file() else ()
    return ObjectNames.of(records, entities)


def make_editor(lm: LanguageModel, options: EvaluateOptions, scored: ScoredRecords, progress: Progress) -> OpenEditor:
    """Return the editor of the options; what is scored, with its references, are the texts of `--covariance build`."""
    from cfbuild.edit.editor import open_editor

    return open_editor(options.editor, lm, options.asked, new_supplies(lm, options, scored, progress))


def new_supplies(
    lm: LanguageModel, options: EvaluateOptions, scored: ScoredRecords, progress: Progress
) -> ModelSupplies:
    """Return the supplies of the options' editor; `scored` as in `make_editor`."""
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
