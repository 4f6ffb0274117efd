"""The command `demo`."""

from __future__ import annotations

import time
from pathlib import Path

from cfbuild.cli.shared import Build, OutputOptions, load_model, open_folder, say, shown_progress
from cfbuild.cli.validate_and_score import print_report, validate
from cfbuild.lm.selection import ModelOptions
from cfbuild.pipeline import demo as road
from cfbuild.pipeline.demo import DemoOptions
from cfbuild.store.runs import new_run

EXAMPLES = ("cfbuild demo", "cfbuild demo --records 60 --build build/larger")


def run(
    build: Build = Path("build/demo"), *, options: DemoOptions, lm_options: ModelOptions, output: OutputOptions
) -> None:
    """The whole road on bundled facts, offline: fetch, generate, edit, score, publish (dry run).

    The model is SmolLM2-135M, unless --model names another.
    """
    folder, quiet = open_folder(build), output.quiet
    started = time.monotonic()
    with shown_progress(quiet) as progress:
        facts = road.fetch_snapshot(folder, options, progress)
    say(
        quiet,
        f"1/4 fetch: {sum(facts.facts.values())} facts of {len(facts.facts)} relations, {facts.entities} entities",
    )
    lm = load_model(lm_options, quiet)
    with shown_progress(quiet) as progress:
        made = road.generate_known(folder, lm, options, progress)
    say(quiet, f"2/4 generate: {made.kept} records kept of {made.facts} facts that were tried")
    validate(folder.require("records.jsonl"), OutputOptions(quiet=quiet))
    with shown_progress(quiet) as progress:
        report = road.score(folder, lm, options, progress)
    say(quiet, f"3/4 validate-and-score: {report.cases} records in {time.monotonic() - started:.0f} s in all")
    print_report(report, new_run(folder, report.editor), output.json_)
    with shown_progress(quiet) as progress:
        staged = road.publish_dry(folder, options.seed, progress)
    size = sum(one.size for one in staged.files)
    say(quiet, f"4/4 publish --dry-run: {len(staged.files)} files, {size:,} bytes, in {folder.path('publish')}")
    say(quiet, "Next: cfbuild fetch --contact YOU@EXAMPLE.ORG && cfbuild generate")
    say(quiet, f"Look at {folder.path('report.html')} in a browser, or: cfbuild show --build {folder.root} --sample 3")
