"""`cfbuild demo`: the verbs on the bundled snapshot with the embedded model, in minutes on a laptop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cfbuild.filter.thresholds import FilterOptions
from cfbuild.option import option, restart_option, seed_option
from cfbuild.pipeline.fetch import FetchOptions, FetchSummary, fetch
from cfbuild.pipeline.generate import GenerateOptions, GenerateSummary, generate
from cfbuild.progress import Progress
from cfbuild.records.draft import BuildOptions
from cfbuild.store.folder import BuildFolder

if TYPE_CHECKING:
    from cfbuild.lm.model import LanguageModel
    from cfbuild.pipeline.publish import Staged
    from cfbuild.score.run_report import Report

THRESHOLDS = FilterOptions(min_rank_share=0.5, max_true_rank=1, min_neighbors_right=0.8)
"""The demo edits facts that the model knows: o_c is its first choice, and it gets most neighbours right."""
REPOSITORY = "you/counterfact-demo"
"""The dataset's name in the dry run of publishing; nothing is sent."""


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """Options of `cfbuild demo`: the number of records to make, and options that it passes to the verbs."""

    records: int = option(32, "How many records to make and score.")
    seed: int = seed_option()
    restart: bool = restart_option()


def fetch_snapshot(folder: BuildFolder, options: DemoOptions, progress: Progress) -> FetchSummary:
    """Return the summary of fetching all bundled facts into the build."""
    return fetch(folder, FetchOptions(source="snapshot", seed=options.seed, restart=options.restart), progress)


def generate_known(folder: BuildFolder, lm: LanguageModel, options: DemoOptions, progress: Progress) -> GenerateSummary:
    """Return the summary of making records of facts that the model knows, from all relations in turn."""
    from cfbuild.filter.rank import RankFilter

    chosen = GenerateOptions(
        build=BuildOptions(seed=options.seed),
        limit=options.records,
        restart=options.restart,
    )
    return generate(folder, chosen, RankFilter(lm, THRESHOLDS, progress), progress)


def score(folder: BuildFolder, lm: LanguageModel, options: DemoOptions, progress: Progress) -> Report:
    """Return the report of editing every record by ROME, with generated texts."""
    from cfbuild.pipeline.validate_and_score import EvaluateOptions, evaluate

    return evaluate(folder, EvaluateOptions(seed=options.seed, restart=options.restart), lm, progress)


def publish_dry(folder: BuildFolder, seed: int, progress: Progress) -> Staged:
    """Return the files and card that publishing would put on the Hub, without the network."""
    from cfbuild.pipeline.publish import stage

    return stage(folder, REPOSITORY, seed, progress)
