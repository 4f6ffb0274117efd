"""The command `generate`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cfbuild.cli.shared import (
    Build,
    ModelOptions,
    RunOptions,
    given,
    load_model,
    open_folder,
    shown_progress,
    split,
    tell_summary,
)

if TYPE_CHECKING:
    from cfbuild.lm.model import LanguageModel
    from cfbuild.pipeline.generate import GenerateOptions
    from cfbuild.records.prefixes import Sampler

EXAMPLES = (
    "cfbuild generate --model gpt2-xl --limit 2000 --known-rank 3",
    "cfbuild generate --no-filter --per-relation 50",
)


@dataclass(frozen=True)
class FilterFlags:
    """How unlikely o* must be to the model, and how well it must know the facts."""

    no_filter: Annotated[bool, typer.Option("--no-filter", help="Ask no model: keep the first o* drawn.")] = False
    min_rank: Annotated[
        float, typer.Option(help="o*'s rank in its pool, as a share of the pool, must be at least this.")
    ] = 0.5
    known_rank: Annotated[
        int | None, typer.Option(help="The true object must be among so many likeliest of its pool.")
    ] = None
    min_neighbors_right: Annotated[
        float, typer.Option(help="Share of neighborhood prompts on which the model must prefer the true object.")
    ] = 0.0


@dataclass(frozen=True)
class RecordOptions:
    """Which facts become records, how many, and with which prompts."""

    max_draws: Annotated[int, typer.Option(help="How many o* a fact may try.")] = 10
    relations: Annotated[str | None, typer.Option(help="Comma-separated property ids. [default: all]")] = None
    language: Annotated[str, typer.Option(help="Language of the labels to use.")] = "en"
    limit: Annotated[int | None, typer.Option(help="Stop after so many records, taken from the relations in turn.")] = (
        None
    )
    per_relation: Annotated[int | None, typer.Option(help="At most so many records a relation.")] = None
    min_neighbors: Annotated[int, typer.Option(help="Fewest neighborhood prompts a record may have.")] = 0
    prompts_per_entity: Annotated[
        int, typer.Option(help="How often one entity may appear among the neighborhood or attribute prompts.")
    ] = 1
    allow_several: Annotated[
        bool, typer.Option("--allow-several", help="Keep facts whose subject has other objects too.")
    ] = False
    allow_symmetric: Annotated[
        bool, typer.Option("--allow-symmetric", help="Keep relations that hold both ways, such as P47.")
    ] = False
    min_sitelinks: Annotated[int | None, typer.Option(help="Fewest wikis that have a page about the subject.")] = None
    max_sitelinks: Annotated[int | None, typer.Option(help="Most wikis that have a page about the subject.")] = None
    prefixes: Annotated[
        str,
        typer.Option(
            help="Sentences before paraphrases: builtin, references (of fetch --references), model, none, or a file."
        ),
    ] = "builtin"
    groups: Annotated[
        str | None,
        typer.Option(
            help="Prompt groups beyond CounterFact's, comma-separated, or none: subject_aliases, inverse, two_hop, "
            "specificity_plus. [default: all]"
        ),
    ] = None


def run(
    build: Build = Path("build"),
    *,
    filter_options: FilterFlags,
    record_options: RecordOptions,
    lm_options: ModelOptions,
    run_options: RunOptions,
) -> None:
    """Make records of the fetched facts; keep those whose false object the model finds unlikely."""
    from cfbuild.filter import rank
    from cfbuild.pipeline.generate import generate

    thresholds = rank.FilterOptions(
        filter_options.min_rank, filter_options.known_rank, filter_options.min_neighbors_right
    )
    options = _generate_options(record_options, run_options)
    folder = open_folder(build)
    folder.require("facts.jsonl")
    sampled = options.prefixes == "model"
    lm = None if filter_options.no_filter and not sampled else load_model(lm_options, run_options.quiet)
    chosen = None if filter_options.no_filter or lm is None else rank.RankFilter(lm, thresholds)
    sampler = _sampler(lm, run_options.seed) if lm and sampled else None
    with shown_progress(run_options.quiet) as progress:
        summary = generate(folder, options, chosen, progress, sampler)
    tell_summary(summary, run_options.json_, _lines)


def _generate_options(chosen: RecordOptions, run_options: RunOptions) -> GenerateOptions:
    from cfbuild.pipeline.generate import GenerateOptions
    from cfbuild.records.builder import BuildOptions

    return GenerateOptions(
        build=BuildOptions(
            seed=run_options.seed, max_draws=chosen.max_draws, prompts_per_entity=chosen.prompts_per_entity
        ),
        relations=split(chosen.relations) or (),
        language=chosen.language,
        limit=chosen.limit,
        per_relation=chosen.per_relation,
        min_neighbors=chosen.min_neighbors,
        allow_several=chosen.allow_several,
        allow_symmetric=chosen.allow_symmetric,
        min_sitelinks=chosen.min_sitelinks,
        max_sitelinks=chosen.max_sitelinks,
        prefixes=chosen.prefixes,
        restart=run_options.restart,
        **given(groups=() if chosen.groups == "none" else split(chosen.groups)),
    )


def _sampler(lm: LanguageModel, seed: int) -> Sampler:
    from cfbuild.lm.sample import sample_texts
    from cfbuild.records.prefixes import Sampler

    size = {"count": 256, "tokens": 80}
    signature = {**lm.identity, "seed": seed, **size}
    return Sampler(signature, lambda: sample_texts(lm, seed, **size))


def _lines(summary: Any) -> Iterator[str]:
    how = "filtered by a model" if summary.filtered else "not filtered by any model"
    yield f"{summary.kept} records kept, {summary.rejected} of {summary.facts} facts rejected; {how}"
    for rule, count in sorted(summary.by_rule.items(), key=lambda item: -item[1]):
        yield f"  {rule}: {count}"
