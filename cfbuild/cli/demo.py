"""The command `demo`."""

from __future__ import annotations

import time
from pathlib import Path

from cfbuild.cli.shared import Build, OutputOptions
from cfbuild.cli.validate_and_score import print_report, validate
from cfbuild.lm.selection import ModelOptions
from cfbuild.pipeline import demo
from cfbuild.pipeline.demo import DemoOptions
from cfbuild.store.folder import BuildFolder
from cfbuild.store.runs import new_run

EXAMPLES = ("cfbuild demo", "cfbuild demo --records 60 --build build/larger")


def run(
    build: Build = Path("build/demo"), *, options: DemoOptions, lm_options: ModelOptions, output: OutputOptions
) -> None:
    """Run the main verbs on bundled facts, offline: fetch, generate, edit, score, publish (dry run).

    The model is SmolLM2-135M, unless --model names another. At the end a build with scored records is in build/demo.
    """
    folder = BuildFolder(build)
    started = time.monotonic()
    with output.progress() as progress:
        fetched = demo.fetch_snapshot(folder, options, progress)
    facts = sum(fetched.facts.values())
    output.note(f"1/4 fetch: {facts} facts of {len(fetched.facts)} relations, {fetched.entities} entities")
    lm = output.load_model(lm_options)
    with output.progress() as progress:
        generated = demo.generate_known(folder, lm, options, progress)
    output.note(f"2/4 generate: {generated.kept} records kept of {generated.facts} facts that were tried")
    validate(folder.require("records.jsonl"), OutputOptions(quiet=output.quiet))
    with output.progress() as progress:
        report = demo.score(folder, lm, options, progress)
    output.note(f"3/4 validate-and-score: {report.cases} records in {time.monotonic() - started:.0f} s in all")
    print_report(report, new_run(folder, report.editor), output.json_)
    with output.progress() as progress:
        staged = demo.stage_demo(folder, options, progress)
    size = sum(file.size for file in staged.files)
    output.note(f"4/4 publish --dry-run: {len(staged.files)} files, {size:,} bytes, in {folder.path('publish')}")
    page = folder.path("report.html")
    output.note(f"Look at {page} in a browser, or run: cfbuild show --build {folder.root} --sample 3")
    output.note("Then make your own: cfbuild fetch --contact YOU@EXAMPLE.ORG && cfbuild generate")
