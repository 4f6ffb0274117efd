"""The command `generate`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cfbuild.cli.shared import Build, OutputOptions, load_model, open_folder, shown_progress, tell_summary
from cfbuild.filter.thresholds import FilterChoice
from cfbuild.lm.selection import ModelOptions
from cfbuild.pipeline.generate import GenerateOptions, GenerateSummary, generate
from cfbuild.records.prefixes import MODEL, Sampler

if TYPE_CHECKING:
    from cfbuild.filter.rank import RankFilter
    from cfbuild.lm.model import LanguageModel
    from cfbuild.progress import Progress

EXAMPLES = (
    "cfbuild generate --model gpt2-xl --limit 2000 --known-rank 3",
    "cfbuild generate --no-filter --per-relation 50",
)


def run(
    build: Build = Path("build"),
    *,
    choice: FilterChoice,
    options: GenerateOptions,
    lm_options: ModelOptions,
    output: OutputOptions,
) -> None:
    """Make records of the fetched facts; keep those whose false object the model finds unlikely."""
    folder = open_folder(build)
    folder.require("facts.jsonl")
    sampled = options.prefixes == MODEL
    lm = None if choice.no_filter and not sampled else load_model(lm_options, output.quiet)
    with shown_progress(output.quiet) as progress:
        chosen = None if choice.no_filter or lm is None else _filter(lm, choice, progress)
        sampler = _sampler(lm, options.build.seed, progress) if lm and sampled else None
        summary = generate(folder, options, chosen, progress, sampler)
    tell_summary(summary, output.json_, _lines)


def _filter(lm: LanguageModel, choice: FilterChoice, progress: Progress) -> RankFilter:
    from cfbuild.filter.rank import RankFilter

    return RankFilter(lm, choice.thresholds, progress)


def _sampler(lm: LanguageModel, seed: int, progress: Progress) -> Sampler:
    from cfbuild.lm.sample import sample_texts

    count, tokens = 256, 80
    signature = {**lm.identity, "seed": seed, "count": count, "tokens": tokens}
    return Sampler(
        signature, lambda: sample_texts(lm, seed, count, tokens, lambda done: progress("texts", done, count))
    )


def _lines(summary: GenerateSummary) -> Iterator[str]:
    how = "filtered by a model" if summary.filtered else "not filtered by any model"
    yield f"{summary.kept} records kept, {summary.rejected} of {summary.facts} facts rejected; {how}"
    for rule, count in sorted(summary.by_rule.items(), key=lambda item: -item[1]):
        yield f"  {rule}: {count}"
