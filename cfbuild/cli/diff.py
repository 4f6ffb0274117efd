"""The command `diff`."""

from __future__ import annotations

from dataclasses import asdict

from cfbuild.cli.shared import OutputOptions, shown_progress, tell_json
from cfbuild.pipeline.diff import DiffOptions, DiffSummary, diff, ordered
from cfbuild.text.safe import visible

EXAMPLES = (
    "cfbuild diff build-2025 build-2026",
    "cfbuild diff build-2025 build-2026 --out updates.jsonl --json",
)


def run(options: DiffOptions, output: OutputOptions) -> None:
    """Find what changed between the facts of two builds: what is new, ended, replaced, corrected.

    Compared is what holds on each fetch's day, under the relations that both builds have.
    """
    with shown_progress(output.quiet) as progress:
        summary = diff(options, progress)
    if output.json_:
        relations = {name: ordered(counts) for name, counts in summary.relations.items()}
        tell_json({**asdict(summary), "kinds": ordered(summary.kinds), "relations": relations})
    else:
        _print(summary, options)


def _print(summary: DiffSummary, options: DiffOptions) -> None:
    """Print a table of kinds by relation, then what was not compared and where the changes are."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    kinds = [kind for kind, count in ordered(summary.kinds).items() if count]
    table = Table(title=Text(visible(f"facts on {summary.old_day} and on {summary.new_day}")))
    for name in ("relation", *kinds):
        table.add_column(name, justify="left" if name == "relation" else "right")
    for relation, counts in summary.relations.items():
        table.add_row(relation, *(str(counts[kind]) for kind in kinds))
    table.add_section()
    table.add_row("all", *(str(summary.kinds[kind]) for kind in kinds))
    console.print(table)
    for name, folder, relations in (("old", options.old, summary.only_old), ("new", options.new, summary.only_new)):
        if relations:
            shown = ", ".join(relations)
            console.print(
                visible(f"not compared, for the {name} build {folder.root} alone has facts of them: {shown}"),
                markup=False,
                soft_wrap=True,
            )
    console.print(visible(f"{summary.written} changes written to {options.file}"), markup=False, soft_wrap=True)
