"""The command `fetch`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cfbuild.cli.shared import Build, OutputOptions
from cfbuild.pipeline.fetch import FetchOptions, FetchSummary, fetch
from cfbuild.store.folder import BuildFolder

EXAMPLES = (
    "cfbuild fetch --contact you@example.org",
    "cfbuild fetch --relations P36,P103 --per-relation 2000 --contact you@example.org",
    "cfbuild fetch --source dump --dump latest-truthy.nt.bz2 --workers 8",
    "cfbuild fetch --source snapshot --build build/small",
)


def run(build: Build = Path("build"), *, options: FetchOptions, output: OutputOptions) -> None:
    """Get facts, labels, aliases and templates into the build folder.

    An interrupted fetch goes on where it stopped, and a finished one sends no request again.
    """
    with output.progress() as progress:
        summary = fetch(BuildFolder(build), options, progress)
    output.print_summary(summary, _lines)


def _lines(summary: FetchSummary) -> Iterator[str]:
    state = "nothing to do: the build already holds" if summary.unchanged else "fetched"
    yield f"{state} {sum(summary.facts.values())} facts of {len(summary.facts)} relations"
    yield f"{summary.entities} entities, {sum(summary.templates.values())} templates"
    if summary.references is not None:
        yield f"{summary.references} reference texts"
    for relation, choice in summary.chosen.items():
        yield f"{relation}, too large to scan: {choice}"
    for reason, count in {**summary.left_out, **summary.templates_left_out}.items():
        yield f"left out, {reason}: {count}"
    for language, count in summary.borrowed.items():
        yield f"labels in {language}, where there is none in the language of --language: {count}"
    if summary.sent:
        yield f"{summary.sent} requests"
