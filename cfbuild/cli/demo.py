"""The command `demo`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from cfbuild.cli.shared import (
    Build,
    Device,
    Json,
    ModelOptions,
    Quiet,
    Restart,
    Seed,
    load_model,
    open_folder,
    say,
    shown_progress,
)
from cfbuild.cli.validate_and_score import print_report, validate

EXAMPLES = ("cfbuild demo", "cfbuild demo --records 60 --build build/larger")


def run(
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
    from cfbuild.store.runs import new_run

    folder = open_folder(build)
    started = time.monotonic()
    with shown_progress(quiet) as progress:
        facts = road.fetch_snapshot(folder, seed, restart, progress)
    say(
        quiet,
        f"1/4 fetch: {sum(facts.facts.values())} facts of {len(facts.facts)} relations, {facts.entities} entities",
    )
    lm = load_model(ModelOptions(road.MODEL, device), quiet)
    with shown_progress(quiet) as progress:
        made = road.generate_known(folder, lm, records, seed, restart, progress)
    say(quiet, f"2/4 generate: {made.kept} records kept of {made.facts} facts that were tried")
    validate(folder.require("records.jsonl"), as_json=False)
    with shown_progress(quiet) as progress:
        report = road.score(folder, lm, seed, restart, progress)
    say(quiet, f"3/4 validate-and-score: {report.cases} records in {time.monotonic() - started:.0f} s in all")
    print_report(report, new_run(folder, report.editor), json_)
    staged = road.publish_dry(folder, seed)
    size = sum(one.size for one in staged.files)
    say(quiet, f"4/4 publish --dry-run: {len(staged.files)} files, {size:,} bytes, in {folder.path('publish')}")
    say(quiet, "Next: cfbuild fetch --contact YOU@EXAMPLE.ORG && cfbuild generate")
    say(quiet, f"Look at {folder.path('report.html')} in a browser, or: cfbuild show --build {folder.root} --sample 3")
