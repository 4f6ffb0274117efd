"""The command `diff`."""

from __future__ import annotations

from dataclasses import asdict

from cfbuild.cli.shared import OutputOptions, new_table, print_json, print_text
from cfbuild.pipeline.diff import DiffOptions, DiffSummary, diff

EXAMPLES = (
    "cfbuild diff build-2025 build-2026",
    "cfbuild diff build-2025 build-2026 --out updates.jsonl --json",
)


def run(options: DiffOptions, output: OutputOptions) -> None:
    """List what changed between the facts of two builds: new, ended, replaced and corrected facts.

    Of each build the facts that hold on the day of its fetch count, under the relations that both builds have.
    """
    with output.progress() as progress:
        summary = diff(options, progress)
    if output.json_:
        print_json(asdict(summary))
    else:
        _print(summary, options)


def _print(summary: DiffSummary, options: DiffOptions) -> None:
    """Print a table of kinds by relation, the relations that were not compared, and the path of the changes."""
    from rich.console import Console

    kinds = [kind for kind, count in summary.kinds.items() if count]
    table = new_table(("relation", *kinds), f"facts on {summary.old_day} and on {summary.new_day}")
    for relation, counts in summary.relations.items():
        table.add_row(relation, *(str(counts[kind]) for kind in kinds))
    table.add_section()
    table.add_row("all", *(str(summary.kinds[kind]) for kind in kinds))
    Console().print(table)
    for name, folder, relations in (("old", options.old, summary.only_old), ("new", options.new, summary.only_new)):
        if relations:
            print_text(
                f"not compared, for only the {name} build {folder.root} has facts of them: {', '.join(relations)}"
            )
    print_text(f"{summary.written} changes written to {options.file}")
