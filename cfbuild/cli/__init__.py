"""The command line: options in, a verb called, a summary out. Data goes to stdout, everything else to stderr.

Nothing heavy is imported before a command runs, so that help answers at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cfbuild import __version__
from cfbuild.cli import audit, look
from cfbuild.cli import publish as publishing
from cfbuild.cli.shared import (
    Build,
    Device,
    Json,
    ModelOptions,
    Quiet,
    Restart,
    RunOptions,
    Seed,
    examples,
    given,
    guard_streams,
    named_values,
    open_folder,
    say,
    shown_progress,
    split,
    tell,
    tell_json,
    with_options,
)
from cfbuild.display import visible
from cfbuild.edit import EDITORS
from cfbuild.errors import CfbuildError

if TYPE_CHECKING:
    from cfbuild.lm.model import LanguageModel
    from cfbuild.pipeline.folder import BuildFolder
    from cfbuild.pipeline.prefixes import Sampler

ABOUT_EDITOR = "The editor"

app = typer.Typer(
    name="cfbuild",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Build CounterFact-style knowledge-editing data, filter it with a language model, score editors on it.",
    epilog="Start with `cfbuild demo`: the whole road on bundled facts, offline.",
)

EXIT_STORAGE = 5
"""Exit code where a file cannot be written or read: a full disk, a folder that is read-only."""

NAMED = 10
"""Faulty records of a kind that the summary names; report.json names them all."""


def main() -> None:
    """Run the command line; turn an error that a user can meet into its message and exit code."""
    guard_streams()
    try:
        app()
    except CfbuildError as error:
        tell(f"cfbuild: {error}", err=True)
        raise SystemExit(error.exit_code) from None
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        tell(
            f"cfbuild: {where}{error.strerror or error}. What stood there before still does; make room or choose "
            "another folder, then run the same command again",
            err=True,
        )
        raise SystemExit(EXIT_STORAGE) from None
    except KeyboardInterrupt:
        tell("cfbuild: interrupted; run the same command again to go on from here", err=True)
        raise SystemExit(130) from None


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"cfbuild {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


@app.command(
    epilog=examples(
        "cfbuild fetch --contact you@example.org",
        "cfbuild fetch --relations P36,P103 --per-relation 2000 --contact you@example.org",
        "cfbuild fetch --source snapshot --build build/small",
    )
)
@with_options
def fetch(
    build: Build = Path("build"),
    source: Annotated[str, typer.Option(help="wikidata, pararel, or snapshot (bundled facts, offline).")] = "wikidata",
    endpoint: Annotated[
        str | None, typer.Option(help="SPARQL endpoint: a URL, wikidata, or qlever. [default: wikidata]")
    ] = None,
    relations: Annotated[
        str | None, typer.Option(help="Comma-separated property ids. [default: all that have templates]")
    ] = None,
    language: Annotated[str, typer.Option(help="Language of labels and aliases.")] = "en",
    per_relation: Annotated[int | None, typer.Option(help="A seeded sample of so many facts a relation.")] = None,
    statements: Annotated[
        bool, typer.Option("--statements", help="Ask for ranks, dates, redirects and revisions too (Wikidata).")
    ] = False,
    references: Annotated[
        bool, typer.Option("--references", help="Get lead texts of Wikipedia articles too, for RS and prefixes.")
    ] = False,
    references_per_object: Annotated[int, typer.Option(help="How many such texts for each relation and object.")] = 5,
    wikipedia: Annotated[
        str | None, typer.Option(help="Address of the MediaWiki API to ask. [default: the language's Wikipedia]")
    ] = None,
    templates: Annotated[
        str, typer.Option(help="Template sets, comma-separated: builtin, pararel, folders with files of your own.")
    ] = "builtin",
    pararel: Annotated[
        str | None, typer.Option(help="A ParaRel checkout, or the URL of its raw files. [default: a pinned commit's]")
    ] = None,
    contact: Annotated[
        str | None, typer.Option(help="Your e-mail or URL, sent to public services; else $CFBUILD_CONTACT.")
    ] = None,
    timeout_s: Annotated[
        float | None, typer.Option("--timeout", help="Seconds to wait for an answer. [default: 75]")
    ] = None,
    attempts: Annotated[int | None, typer.Option(help="Tries before a request has failed. [default: 5]")] = None,
    *,
    run_options: RunOptions,
) -> None:
    """Get facts, labels, aliases and templates into the build folder.

    An interrupted fetch goes on where it stopped, and a finished one asks nothing again.
    """
    from cfbuild.pipeline.fetch import FetchOptions
    from cfbuild.pipeline.fetch import fetch as run

    options = FetchOptions(
        source=source,
        endpoint=endpoint,
        relations=split(relations),
        language=language,
        per_relation=per_relation,
        seed=run_options.seed,
        templates=split(templates) or (),
        contact=contact,
        statements=statements,
        references=references_per_object if references else None,
        wikipedia=wikipedia,
        restart=run_options.restart,
        **given(pararel=pararel, timeout_s=timeout_s, attempts=attempts),
    )
    with shown_progress(run_options.quiet) as progress:
        summary = run(open_folder(build), options, progress)
    _print(summary, run_options.json_, _fetch_lines)


@app.command(
    epilog=examples(
        "cfbuild generate --model gpt2-xl --limit 2000 --known-rank 3",
        "cfbuild generate --no-filter --per-relation 50",
    )
)
@with_options
def generate(
    build: Build = Path("build"),
    no_filter: Annotated[bool, typer.Option("--no-filter", help="Ask no model: keep the first o* drawn.")] = False,
    min_rank: Annotated[
        float, typer.Option(help="o*'s rank in its pool, as a share of the pool, must be at least this.")
    ] = 0.5,
    known_rank: Annotated[
        int | None, typer.Option(help="The true object must be among so many likeliest of its pool.")
    ] = None,
    min_neighbors_right: Annotated[
        float, typer.Option(help="Share of neighborhood prompts on which the model must prefer the true object.")
    ] = 0.0,
    max_draws: Annotated[int, typer.Option(help="How many o* a fact may try.")] = 10,
    relations: Annotated[str | None, typer.Option(help="Comma-separated property ids. [default: all]")] = None,
    language: Annotated[str, typer.Option(help="Language of the labels to use.")] = "en",
    limit: Annotated[
        int | None, typer.Option(help="Stop after so many records, taken from the relations in turn.")
    ] = None,
    per_relation: Annotated[int | None, typer.Option(help="At most so many records a relation.")] = None,
    min_neighbors: Annotated[int, typer.Option(help="Fewest neighborhood prompts a record may have.")] = 0,
    prompts_per_entity: Annotated[
        int, typer.Option(help="How often one entity may appear among the neighborhood or attribute prompts.")
    ] = 1,
    allow_several: Annotated[
        bool, typer.Option("--allow-several", help="Keep facts whose subject has other objects too.")
    ] = False,
    allow_symmetric: Annotated[
        bool, typer.Option("--allow-symmetric", help="Keep relations that hold both ways, such as P47.")
    ] = False,
    min_sitelinks: Annotated[int | None, typer.Option(help="Fewest wikis that have a page about the subject.")] = None,
    max_sitelinks: Annotated[int | None, typer.Option(help="Most wikis that have a page about the subject.")] = None,
    prefixes: Annotated[
        str,
        typer.Option(
            help="Sentences before paraphrases: builtin, references (of fetch --references), model, none, or a file."
        ),
    ] = "builtin",
    groups: Annotated[
        str | None,
        typer.Option(
            help="Prompt groups beyond CounterFact's, comma-separated, or none: subject_aliases, inverse, two_hop, "
            "specificity_plus. [default: all]"
        ),
    ] = None,
    *,
    lm_options: ModelOptions,
    run_options: RunOptions,
) -> None:
    """Make records of the fetched facts; keep those whose false object the model finds unlikely."""
    from cfbuild.build import BuildOptions
    from cfbuild.filter.model import FilterOptions, ModelFilter
    from cfbuild.pipeline.generate import GenerateOptions
    from cfbuild.pipeline.generate import generate as run

    thresholds = FilterOptions(min_rank, known_rank, min_neighbors_right)
    options = GenerateOptions(
        build=BuildOptions(seed=run_options.seed, max_draws=max_draws, prompts_per_entity=prompts_per_entity),
        relations=split(relations) or (),
        language=language,
        limit=limit,
        per_relation=per_relation,
        min_neighbors=min_neighbors,
        allow_several=allow_several,
        allow_symmetric=allow_symmetric,
        min_sitelinks=min_sitelinks,
        max_sitelinks=max_sitelinks,
        prefixes=prefixes,
        restart=run_options.restart,
        **given(groups=() if groups == "none" else split(groups)),
    )
    folder = open_folder(build)
    folder.require("facts.jsonl")
    lm = None if no_filter and prefixes != "model" else _load(lm_options, run_options.quiet)
    chosen = None if no_filter or lm is None else ModelFilter(lm, thresholds)
    sampler = _sampler(lm, run_options.seed) if lm and prefixes == "model" else None
    with shown_progress(run_options.quiet) as progress:
        summary = run(folder, options, chosen, progress, sampler)
    _print(summary, run_options.json_, _generate_lines)


@app.command(
    "validate-and-score",
    epilog=examples(
        "cfbuild validate-and-score --model gpt2-xl",
        "cfbuild validate-and-score --limit 100 --editor ft --set learning_rate=1e-4",
        "cfbuild validate-and-score --file counterfact.json --validate-only",
    ),
)
@with_options
def validate_and_score(
    build: Build = Path("build"),
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="Any CounterFact-format file. [default: the build's records]")
    ] = None,
    validate_only: Annotated[bool, typer.Option("--validate-only", help="Check the file; run no model.")] = False,
    skip_invalid: Annotated[bool, typer.Option("--skip-invalid", help="Score the valid rows all the same.")] = False,
    editor: Annotated[
        str,
        typer.Option(
            help=f"The editor to score: {', '.join(EDITORS)}; or module:function of your own.",
            rich_help_panel=ABOUT_EDITOR,
        ),
    ] = "rome",
    layer: Annotated[
        int | None, typer.Option(help="Layer to edit. [default: the preset's]", rich_help_panel=ABOUT_EDITOR)
    ] = None,
    key_mode: Annotated[
        str | None,
        typer.Option(
            help="rome: reference (as released) or consistent (R-ROME). [default: reference]",
            rich_help_panel=ABOUT_EDITOR,
        ),
    ] = None,
    covariance: Annotated[
        str,
        typer.Option(
            help="Corpus of C: build, a text file, hub:NAME; or an .npz file with C; or none.",
            rich_help_panel=ABOUT_EDITOR,
        ),
    ] = "build",
    covariance_tokens: Annotated[
        int, typer.Option(help="Tokens of the corpus to use.", rich_help_panel=ABOUT_EDITOR)
    ] = 100_000,
    steps: Annotated[
        int | None,
        typer.Option(help="Most optimisation steps of an edit. [default: the editor's]", rich_help_panel=ABOUT_EDITOR),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Any other setting of the editor; may be given several times.",
            rich_help_panel=ABOUT_EDITOR,
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Score only the first so many records.")] = None,
    skip_generation: Annotated[bool, typer.Option("--skip-generation", help="No texts, so no GE and RS.")] = False,
    *,
    lm_options: ModelOptions,
    run_options: RunOptions,
) -> None:
    """Check every record; edit the model by each one; print the paper's metrics before and after.

    Exits with 1, and every violation, if a row breaks the schema or a rule.
    """
    from cfbuild.pipeline.evaluate import EvaluateOptions, evaluate

    options = EvaluateOptions(
        file=file,
        editor=editor,
        limit=limit,
        skip_generation=skip_generation,
        skip_invalid=skip_invalid,
        seed=run_options.seed,
        layer=layer,
        key_mode=key_mode,
        steps=steps,
        settings=named_values(settings or ()),
        covariance=covariance,
        covariance_tokens=covariance_tokens,
        restart=run_options.restart,
    )
    folder = open_folder(build)
    _validate(file or folder.require("records.jsonl"), run_options.json_ and validate_only, stop=not skip_invalid)
    if validate_only:
        return
    lm = _load(lm_options, run_options.quiet)
    with shown_progress(run_options.quiet) as progress:
        report = evaluate(folder, options, lm, progress)
    _print_report(report, folder, run_options.json_)


app.add_typer(publishing.app)
app.add_typer(look.app)
app.add_typer(audit.app)


@app.command(epilog=examples("cfbuild demo", "cfbuild demo --records 60 --build build/larger"))
def demo(
    build: Build = Path("build/demo"),
    records: Annotated[int, typer.Option(help="How many records to make and score.")] = 32,
    seed: Seed = 0,
    device: Device = "auto",
    restart: Restart = False,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """The whole road on bundled facts with SmolLM2-135M, offline: fetch, generate, edit, score, publish (dry run)."""
    from cfbuild.pipeline import demo as road

    folder = open_folder(build)
    started = time.monotonic()
    with shown_progress(quiet) as progress:
        facts = road.fetch_snapshot(folder, seed, restart, progress)
    say(
        quiet,
        f"1/4 fetch: {sum(facts.facts.values())} facts of {len(facts.facts)} relations, {facts.entities} entities",
    )
    lm = _load(ModelOptions(road.MODEL, device), quiet)
    with shown_progress(quiet) as progress:
        made = road.generate_known(folder, lm, records, seed, restart, progress)
    say(quiet, f"2/4 generate: {made.kept} records kept of {made.facts} facts that were tried")
    _validate(folder.require("records.jsonl"), as_json=False)
    with shown_progress(quiet) as progress:
        report = road.score(folder, lm, seed, restart, progress)
    say(quiet, f"3/4 validate-and-score: {report['cases']} records in {time.monotonic() - started:.0f} s in all")
    _print_report(report, folder, json_)
    staged = road.publish_dry(folder, seed)
    size = sum(one.size for one in staged.files)
    say(quiet, f"4/4 publish --dry-run: {len(staged.files)} files, {size:,} bytes, in {folder.path('publish')}")
    say(quiet, "Next: cfbuild fetch --contact YOU@EXAMPLE.ORG && cfbuild generate")
    say(quiet, f"Look at {folder.path('report.html')} in a browser, or: cfbuild show --build {folder.root} --sample 3")


# ---------------------------------------------------------------------------------------------------- shared by verbs


def _load(options: ModelOptions, quiet: bool) -> LanguageModel:
    say(quiet, f"loading {options.model} ...")
    from cfbuild.lm.load import load

    lm = load(options.model, device=options.device, dtype=options.dtype, revision=options.revision, trust=options.trust)
    say(quiet, f"loaded {lm.name} ({lm.revision}) on {lm.device}, {str(lm.dtype).removeprefix('torch.')}")
    return lm


def _sampler(lm: LanguageModel, seed: int) -> Sampler:
    from cfbuild.lm.sample import sample_texts
    from cfbuild.pipeline.prefixes import Sampler

    size = {"count": 256, "tokens": 80}
    signature = {**lm.identity, "seed": seed, **size}
    return Sampler(signature, lambda: sample_texts(lm, seed, **size))


def _print(summary: Any, as_json: bool, lines: Callable[[Any], Iterator[str]]) -> None:
    if as_json:
        tell_json(asdict(summary) if is_dataclass(summary) and not isinstance(summary, type) else summary)
    else:
        for line in lines(summary):
            tell(line)


def _fetch_lines(summary: Any) -> Iterator[str]:
    state = "nothing to do: the build already holds" if summary.unchanged else "fetched"
    yield f"{state} {sum(summary.facts.values())} facts of {len(summary.facts)} relations"
    yield f"{summary.entities} entities, {sum(summary.templates.values())} templates"
    if summary.references is not None:
        yield f"{summary.references} reference texts"
    for reason, count in {**summary.left_out, **summary.templates_left_out}.items():
        yield f"left out, {reason}: {count}"
    if summary.sent:
        yield f"{summary.sent} requests"


def _generate_lines(summary: Any) -> Iterator[str]:
    how = "filtered by a model" if summary.filtered else "not filtered by any model"
    yield f"{summary.kept} records kept, {summary.rejected} of {summary.facts} facts rejected; {how}"
    for rule, count in sorted(summary.by_rule.items(), key=lambda item: -item[1]):
        yield f"  {rule}: {count}"


def _validate(path: Path, as_json: bool, stop: bool = True) -> None:
    """Print every violation of a file; exit with 1 if there is one and `stop` is set."""
    from cfbuild.schema import Tally, violations

    tally, count = Tally(), 0
    for violation in violations(path, tally):
        count += 1
        tell_json(asdict(violation), indent=None) if as_json else tell(violation)
    if count and stop:
        tell(f"cfbuild: {count} violations in {tally.faulty} of {tally.rows} rows of {path}", err=True)
        raise typer.Exit(1)
    tell(f"{path}: {tally.rows - tally.faulty} of {tally.rows} rows are valid", err=True)


def _print_report(report: Mapping[str, Any], folder: BuildFolder, as_json: bool) -> None:
    if as_json:
        tell_json(report)
        return
    from rich.console import Console

    console = Console()
    console.print(_report_table(report))
    for fault, ids in report["faulty"].items():
        named = ", ".join(map(str, ids[:NAMED])) + (", ..." if len(ids) > NAMED else "")
        console.print(f"{len(ids)} records without an edit: {fault} (cases {named})", style="yellow", markup=False)
    console.print(visible(f"signature: {report['signature']}"), style="dim", markup=False, soft_wrap=True)
    places = f"cases: {folder.path('cases.jsonl')}  report: {folder.path('report.json')}"
    console.print(visible(places), markup=False)


def _report_table(report: Mapping[str, Any]) -> Any:
    from rich.table import Table
    from rich.text import Text

    from cfbuild.report import BESIDE, BEYOND, HEADLINE, STAGES

    settings = report["settings"]
    table = Table(
        title=Text(
            visible(f"{settings['model']}, {settings['editor']}, {report['cases']} records (mean ± 95% interval)")
        )
    )
    table.add_column("metric")
    for name in ("before", "after"):
        table.add_column(name, justify="right")
    for name in (*HEADLINE, *BESIDE, *BEYOND):
        cells = [_cell(report["figures"][stage].get(name)) for stage in STAGES]
        if any(cells):
            table.add_row(name, *cells, end_section=name in ("RS", BESIDE[-1]), style="bold" if name == "S" else None)
    return table


def _cell(figure: Mapping[str, float] | None) -> str:
    return f"{figure['mean']:.1f} ± {figure['half_width_95']:.1f}" if figure else ""
