"""The command `fetch`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from cfbuild.cli.shared import Build, RunOptions, given, open_folder, shown_progress, split, tell_summary

EXAMPLES = (
    "cfbuild fetch --contact you@example.org",
    "cfbuild fetch --relations P36,P103 --per-relation 2000 --contact you@example.org",
    "cfbuild fetch --source snapshot --build build/small",
)


@dataclass(frozen=True)
class FactOptions:
    """Which facts, and from where."""

    source: Annotated[str, typer.Option(help="wikidata, pararel, or snapshot (bundled facts, offline).")] = "wikidata"
    endpoint: Annotated[
        str | None, typer.Option(help="SPARQL endpoint: a URL, wikidata, or qlever. [default: wikidata]")
    ] = None
    relations: Annotated[
        str | None, typer.Option(help="Comma-separated property ids. [default: all that have templates]")
    ] = None
    language: Annotated[str, typer.Option(help="Language of labels and aliases.")] = "en"
    per_relation: Annotated[int | None, typer.Option(help="A seeded sample of so many facts a relation.")] = None
    statements: Annotated[
        bool, typer.Option("--statements", help="Ask for ranks, dates, redirects and revisions too (Wikidata).")
    ] = False


@dataclass(frozen=True)
class ReferenceOptions:
    """Texts of Wikipedia."""

    references: Annotated[
        bool, typer.Option("--references", help="Get lead texts of Wikipedia articles too, for RS and prefixes.")
    ] = False
    references_per_object: Annotated[int, typer.Option(help="How many such texts for each relation and object.")] = 5
    wikipedia: Annotated[
        str | None, typer.Option(help="Address of the MediaWiki API to ask. [default: the language's Wikipedia]")
    ] = None


@dataclass(frozen=True)
class TemplateOptions:
    """Prompt templates."""

    templates: Annotated[
        str, typer.Option(help="Template sets, comma-separated: builtin, pararel, folders with files of your own.")
    ] = "builtin"
    pararel: Annotated[
        str | None, typer.Option(help="A ParaRel checkout, or the URL of its raw files. [default: a pinned commit's]")
    ] = None


@dataclass(frozen=True)
class NetworkOptions:
    """How services are asked."""

    contact: Annotated[
        str | None, typer.Option(help="Your e-mail or URL, sent to public services; else $CFBUILD_CONTACT.")
    ] = None
    timeout_s: Annotated[
        float | None, typer.Option("--timeout", help="Seconds to wait for an answer. [default: 75]")
    ] = None
    attempts: Annotated[int | None, typer.Option(help="Tries before a request has failed. [default: 5]")] = None


def run(
    build: Build = Path("build"),
    *,
    fact_options: FactOptions,
    reference_options: ReferenceOptions,
    template_options: TemplateOptions,
    network_options: NetworkOptions,
    run_options: RunOptions,
) -> None:
    """Get facts, labels, aliases and templates into the build folder.

    An interrupted fetch goes on where it stopped, and a finished one asks nothing again.
    """
    from cfbuild.pipeline.fetch import FetchOptions, fetch

    options = FetchOptions(
        source=fact_options.source,
        endpoint=fact_options.endpoint,
        relations=split(fact_options.relations),
        language=fact_options.language,
        per_relation=fact_options.per_relation,
        seed=run_options.seed,
        templates=split(template_options.templates) or (),
        contact=network_options.contact,
        statements=fact_options.statements,
        references=reference_options.references_per_object if reference_options.references else None,
        wikipedia=reference_options.wikipedia,
        restart=run_options.restart,
        **given(
            pararel=template_options.pararel,
            timeout_s=network_options.timeout_s,
            attempts=network_options.attempts,
        ),
    )
    with shown_progress(run_options.quiet) as progress:
        summary = fetch(open_folder(build), options, progress)
    tell_summary(summary, run_options.json_, _lines)


def _lines(summary: Any) -> Iterator[str]:
    state = "nothing to do: the build already holds" if summary.unchanged else "fetched"
    yield f"{state} {sum(summary.facts.values())} facts of {len(summary.facts)} relations"
    yield f"{summary.entities} entities, {sum(summary.templates.values())} templates"
    if summary.references is not None:
        yield f"{summary.references} reference texts"
    for reason, count in {**summary.left_out, **summary.templates_left_out}.items():
        yield f"left out, {reason}: {count}"
    if summary.sent:
        yield f"{summary.sent} requests"
