"""The command `generate`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cfbuild.cli.shared import Build, OutputOptions
from cfbuild.filter.thresholds import FilterChoice
from cfbuild.lm.selection import ModelOptions
from cfbuild.pipeline.generate import GenerateOptions, GenerateSummary, generate
from cfbuild.records.prefixes import MODEL, Sampler
from cfbuild.store.folder import BuildFolder

if TYPE_CHECKING:
    from cfbuild.lm.model import LanguageModel
    from cfbuild.progress import Progress

EXAMPLES = (
    "cfbuild generate --model gpt2-xl --limit 2000 --known-rank 3",
    "cfbuild generate --no-filter --per-relation 50",
    "cfbuild generate --no-filter --workers 8",
    "cfbuild generate --model gpt2-xl --workers 4 --gpus 1",
    "cfbuild generate --languages en,fr,de --no-filter",
    "cfbuild generate --updates build/changes.jsonl --only-updates --min-neighbors 2",
)


def run(
    build: Build = Path("build"),
    *,
    choice: FilterChoice,
    options: GenerateOptions,
    lm_options: ModelOptions,
    output: OutputOptions,
) -> None:
    """Make records of the fetched facts; keep those whose false object the model finds unlikely.

    The false object (o*) is drawn from the objects of its relation, and the model ranks it among them.
    """
    folder = BuildFolder(build)
    folder.require("facts.jsonl")
    sampled = options.prefixes == MODEL
    lm = None if choice.no_filter and not sampled else output.load_model(lm_options)
    with output.progress() as progress:
        model_filter = None
        if lm is not None and not choice.no_filter:
            from cfbuild.filter.rank import RankFilter

            model_filter = RankFilter(lm, choice.thresholds, progress, lm_options.for_workers(options.gpus))
        sampler = _sampler(lm, options.build.seed, progress) if lm and sampled else None
        summary = generate(folder, options, model_filter, progress, sampler)
    output.print_summary(summary, lambda summary: _lines(summary, options))


def _sampler(lm: LanguageModel, seed: int, progress: Progress) -> Sampler:
    """Return the sampler of texts for --prefixes model: 256 texts of 80 tokens, enough for some hundred sentences."""
    from cfbuild.lm.sample import sample_texts

    count, tokens = 256, 80
    signature = {**lm.identity, "seed": seed, "count": count, "tokens": tokens}
    return Sampler(
        signature, lambda: sample_texts(lm, seed, count, tokens, lambda done: progress("texts", done, count))
    )


def _lines(summary: GenerateSummary, options: GenerateOptions) -> Iterator[str]:
    how = "filtered by a model" if summary.filtered else "not filtered by any model"
    yield f"{summary.kept} records kept, {summary.rejected} of {summary.facts} facts rejected; {how}"
    hints = {
        "too-few-neighbors": f" (fewer than {options.min_neighbors}; --min-neighbors sets the minimum)",
        "pool-too-small": f" (fewer than {options.min_pool} objects to rank o* among; --min-pool sets the minimum)",
    }
    for rule, count in sorted(summary.by_rule.items(), key=lambda item: -item[1]):
        yield f"  {rule}: {count}{hints.get(rule, '')}"
    yield from _spread(summary)
    yield from _changes(summary)
    yield from _languages(summary)


def _spread(summary: GenerateSummary) -> Iterator[str]:
    """Yield a table of records by number of neighborhood prompts, then a line on pools and a line on classes."""
    if summary.neighbors:
        yield "neighborhood prompts  records  dropped"
    for number, counts in summary.neighbors.items():
        yield f"{number:>20}  {counts['records']:>7}  {counts['dropped']:>7}"
    if summary.pools:
        first, count = summary.pools["first_ten"], summary.pools["records"]
        yield (
            f"o* was ranked among {summary.pools['least']} to {summary.pools['greatest']} objects (median "
            f"{summary.pools['median']}) and is among the ten likeliest in {first} of {count} records"
        )
    sharing, count = summary.shared_class["sharing"], summary.shared_class["records"]
    yield f"o* shares a class with the true object in {sharing} of {count} records"


def _changes(summary: GenerateSummary) -> Iterator[str]:
    """Yield a line on records about real changes, and for each model one on what it believes of them."""
    if summary.changes is None:
        return
    kinds = ", ".join(f"{count} {kind}" for kind, count in summary.changes["kinds"].items())
    yield f"{summary.changes['records']} of the records are about real changes: {kinds}"
    for model, counts in summary.changes["believed"].items():
        old, new, neither = (counts[name] for name in ("old", "new", "neither"))
        yield f"before any edit {model} believes what held in {old}, what holds now in {new}, neither in {neither}"


def _languages(summary: GenerateSummary) -> Iterator[str]:
    """Yield a table of records by language, with the rules that left out the others, and the number in all."""
    counted = summary.languages
    if counted is None:
        return
    yield "language  records  not there, by rule"
    for code, count in counted["records"].items():
        rules = sorted(counted["rules"].get(code, {}).items(), key=lambda item: -item[1])
        yield f"{code:>8}  {count:>7}  {', '.join(f'{rule} {number}' for rule, number in rules)}".rstrip()
    yield f"{counted['in_all']} records are there in every language"
