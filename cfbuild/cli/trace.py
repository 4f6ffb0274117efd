"""The command `trace`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cfbuild.cli.shared import Build, OutputOptions, load_model, open_folder, shown_progress, tell, tell_summary
from cfbuild.lm.selection import ModelOptions
from cfbuild.pipeline.trace import TraceOptions, TraceSummary, trace

if TYPE_CHECKING:
    import numpy as np

EXAMPLES = (
    "cfbuild trace --limit 100",
    'cfbuild trace --prompt "The Space Needle is in the city of" --subject "Space Needle"',
    "cfbuild trace --corrupt swap --metric logit-difference --method both --records counterfact.json --model gpt2-xl",
)
SHADES = " .:-=+*#%@"
"""From nothing to the most: what a cell shows where there are no colours."""


def run(
    build: Build = Path("build"), *, options: TraceOptions, lm_options: ModelOptions, output: OutputOptions
) -> None:
    """Find the states that decide what the model says: causal traces of records, or of one prompt.

    The subject is corrupted, then one state after the other is restored, or the outputs of a window of MLPs or of
    attention. Facts whose object is not what the model says are skipped and counted. Writes traces/NAME/ of the build:
    rows, averages, heat maps, and npz files that the released code's notebooks read; and shows them in report.html.
    """
    folder = open_folder(build)
    read = None
    if options.prompt is None:
        from cfbuild.audit.validate import read_records

        # Before the model is loaded, so that a file with faults costs no wait.
        read = read_records(options.records or folder.require("records.jsonl")).all_valid()
    lm = load_model(lm_options, output.quiet)
    with shown_progress(output.quiet) as progress:
        summary = trace(folder, options, lm, progress, read)
    if not output.json_ and summary.traced:
        _print_maps(summary, options)
    tell_summary(summary, output.json_, _lines)


def _lines(made: TraceSummary) -> Iterator[str]:
    noise = f", noise {made.noise:.4g}" if made.noise is not None else ""
    yield f"{made.traced} facts traced{noise}"
    for rule, count in made.skipped.items():
        yield f"{count} skipped: {REASONS.get(rule, rule)}"
    if made.averages:
        total = made.averages["total_effect"]
        yield f"total effect {total['mean']:.4f} ± {total['half_width_95']:.4f}"
        for kind, places in made.averages["indirect_effects"].items():
            place, best = max(places.items(), key=lambda item: max(item[1]["mean"]))
            layer = best["mean"].index(max(best["mean"]))
            shown = f"{best['mean'][layer]:.4f} ± {best['half_width_95'][layer]:.4f}"
            yield f"{kind.replace('_', ' ')}: highest {shown} at layer {layer}, {place} token"
        for kind, value in made.averages["correlations"].items():
            yield f"correlation of attributed with exact effects, {kind}: {value:.3f}"
    yield made.folder
    if made.page:
        yield made.page


REASONS = {
    "other-answer": "the model does not answer with the object",
    "not-finite": "a number is infinite or NaN; try --dtype float32",
    "no-pair": "no other subject has as many tokens and an object that the model knows",
}


def _print_maps(made: TraceSummary, options: TraceOptions) -> None:
    """Print small heat maps: of a single fact its tokens, of several the places of tokens."""
    from cfbuild.probe.effects import AverageEffects, read_traces
    from cfbuild.store.runs import new_trace
    from cfbuild.views.page.heat import mean_rows

    traces = read_traces(new_trace(open_folder(Path(made.folder).parents[1]), made.name))
    average = AverageEffects.of(traces)
    for kind in options.maps:
        if len(traces) > 1:
            rows = mean_rows(average, kind)
        else:
            begin, end = traces[0].subject
            shown = enumerate(zip(traces[0].tokens, traces[0].maps[kind], strict=True))
            rows = {f"{i} {token.strip()}{'*' if begin <= i < end else ''}": values for i, (token, values) in shown}
        _print_map(kind, rows)


def _print_map(kind: str, rows: Mapping[str, np.ndarray]) -> None:
    from rich.console import Console
    from rich.text import Text

    from cfbuild.views.page.heat import terminal_rows

    high = max(0.0, *(float(values.max()) for values in rows.values()))
    layers = len(next(iter(rows.values())))
    tell(f"restored {kind}, indirect effect 0 to {high:.3f}, layers 0 to {layers - 1}")
    console = Console(width=None if sys.stdout.isatty() else 200)
    for label, cells in terminal_rows(rows, (0.0, high), kind):
        line = Text(f"{label:>16} ")
        for (red, green, blue), tenth in cells:
            ink = "white" if tenth >= 5 else "black"
            line.append(SHADES[tenth], style=f"{ink} on rgb({red},{green},{blue})")
        console.print(line, soft_wrap=True)
