"""`cfbuild demo`: the main verbs on the bundled facts with the bundled model, in minutes on a laptop."""

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
"""The demo edits facts that the model knows: it ranks the true object first and answers most neighborhood prompts."""
REPOSITORY = "you/counterfact-demo"
"""The dataset's name in the dry run of publishing; nothing is sent."""


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """Options of `cfbuild demo`."""

    records: int = option(16, "How many records to make and score.")
    seed: int = seed_option()
    restart: bool = restart_option()


def fetch_snapshot(folder: BuildFolder, options: DemoOptions, progress: Progress) -> FetchSummary:
    """Fetch all bundled facts into the build; return the counts."""
    return fetch(folder, FetchOptions(source="snapshot", seed=options.seed, restart=options.restart), progress)


def generate_known(folder: BuildFolder, lm: LanguageModel, options: DemoOptions, progress: Progress) -> GenerateSummary:
    """Make records of facts that the model knows, from all relations in turn; return the counts."""
    from cfbuild.filter.rank import RankFilter

    build = BuildOptions(seed=options.seed)
    chosen = GenerateOptions(build=build, limit=options.records, restart=options.restart)
    return generate(folder, chosen, RankFilter(lm, THRESHOLDS, progress), progress)


def score(folder: BuildFolder, lm: LanguageModel, options: DemoOptions, progress: Progress) -> Report:
    """Edit every record by ROME and score it, with generated texts; return the report."""
    from cfbuild.pipeline.validate_and_score import EvaluateOptions, evaluate

    return evaluate(folder, EvaluateOptions(seed=options.seed, restart=options.restart), lm, progress)


def stage_demo(folder: BuildFolder, options: DemoOptions, progress: Progress) -> Staged:
    """Return the files and the card that publishing would put on the Hub; sends nothing."""
    from cfbuild.pipeline.publish import stage

    return stage(folder, REPOSITORY, options.seed, progress)
