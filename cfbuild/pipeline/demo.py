"""`cfbuild demo`: the verbs on the bundled snapshot with the embedded model, in minutes on a laptop."""

from __future__ import annotations

from cfbuild.filter.rank import FilterOptions, RankFilter
from cfbuild.lm.families import DEFAULT_PRESET
from cfbuild.lm.model import LanguageModel
from cfbuild.pipeline.fetch import FetchOptions, FetchSummary, fetch
from cfbuild.pipeline.generate import GenerateOptions, GenerateSummary, generate
from cfbuild.pipeline.publish import Staged, stage
from cfbuild.pipeline.validate_and_score import EvaluateOptions, evaluate
from cfbuild.progress import Progress
from cfbuild.records.builder import BuildOptions
from cfbuild.score.table import Report
from cfbuild.store.folder import BuildFolder

MODEL = DEFAULT_PRESET
THRESHOLDS = FilterOptions(min_rank_share=0.5, max_true_rank=1, min_neighbors_right=0.8)
"""The demo edits what the model knows: o_c is its first choice, and it gets most neighbours right."""
MIN_NEIGHBORS = 10
REPOSITORY = "you/counterfact-demo"
"""The name in the dry run of publishing; nothing is sent."""


def fetch_snapshot(folder: BuildFolder, seed: int, restart: bool, progress: Progress) -> FetchSummary:
    """The bundled facts, all of them."""
    return fetch(folder, FetchOptions(source="snapshot", seed=seed, restart=restart), progress)


def generate_known(
    folder: BuildFolder, lm: LanguageModel, records: int, seed: int, restart: bool, progress: Progress
) -> GenerateSummary:
    """`records` records of facts that the model knows, from all relations in turn."""
    options = GenerateOptions(
        build=BuildOptions(seed=seed), limit=records, min_neighbors=MIN_NEIGHBORS, restart=restart
    )
    return generate(folder, options, RankFilter(lm, THRESHOLDS), progress)


def score(folder: BuildFolder, lm: LanguageModel, seed: int, restart: bool, progress: Progress) -> Report:
    """ROME on every record, with generated texts."""
    return evaluate(folder, EvaluateOptions(seed=seed, restart=restart), lm, progress)


def publish_dry(folder: BuildFolder, seed: int) -> Staged:
    """What publishing would put on the Hub; asks nothing of the network."""
    return stage(folder, REPOSITORY, seed)
