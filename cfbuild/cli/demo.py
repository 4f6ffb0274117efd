"""The command `demo`."""

from __future__ import annotations

import time
from pathlib import Path

from cfbuild.cli.shared import Build, OutputOptions, load_model, open_folder, say, shown_progress
from cfbuild.cli.validate_and_score import print_report, validate
from cfbuild.pipeline import demo as road
from cfbuild.pipeline.demo import DemoOptions
from cfbuild.store.runs import new_run

EXAMPLES = ("cfbuild demo", "cfbuild demo --records 60 --build build/larger")


def run(build: Build = Path("build/demo"), *, options: DemoOptions, output: OutputOptions) -> None:
    """The whole road on bundled facts with SmolLM2-135M, offline: fetch, generate, edit, score, publish (dry run)."""
    folder, quiet = open_folder(build), output.quiet
    started = time.monotonic()
    with shown_progress(quiet) as progress:
        facts = road.fetch_snapshot(folder, options, progress)
    say(
        quiet,
        f"1/4 fetch: {sum(facts.facts.values())} facts of {len(facts.facts)} relations, {facts.entities} entities",
    )
    lm = load_model(options.model, quiet)
    with shown_progress(quiet) as progress:
        made = road.generate_known(folder, lm, options, progress)
    say(quiet, f"2/4 generate: {made.kept} records kept of {made.facts} facts that were tried")
    validate(folder.require("records.jsonl"), as_json=False)
    with shown_progress(quiet) as progress:
        report = road.score(folder, lm, options, progress)
    say(quiet, f"3/4 validate-and-score: {report.cases} records in {time.monotonic() - started:.0f} s in all")
    print_report(report, new_run(folder, report.editor), output.json_)
    staged = road.publish_dry(folder, options.seed)
    size = sum(one.size for one in staged.files)
    say(quiet, f"4/4 publish --dry-run: {len(staged.files)} files, {size:,} bytes, in {folder.path('publish')}")
    say(quiet, "Next: cfbuild fetch --contact YOU@EXAMPLE.ORG && cfbuild generate")
    say(quiet, f"Look at {folder.path('report.html')} in a browser, or: cfbuild show --build {folder.root} --sample 3")
