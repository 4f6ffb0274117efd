"""The command `trace`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cfbuild.cli.shared import Build, OutputOptions, new_console, print_text
from cfbuild.lm.selection import ModelOptions
from cfbuild.pipeline.trace import TraceOptions, TraceSummary, trace
from cfbuild.store.folder import BuildFolder

if TYPE_CHECKING:
    import numpy as np


EXAMPLES = (
    "cfbuild trace --limit 100",
    'cfbuild trace --prompt "The Space Needle is in the city of" --subject "Space Needle"',
    "cfbuild trace --corrupt swap --metric logit-difference --method both --records counterfact.json --model gpt2-xl",
)
SHADES = " .:-=+*#%@"
"""The character of a cell by tenths of the highest effect, for output without colours."""


def run(
    build: Build = Path("build"), *, options: TraceOptions, lm_options: ModelOptions, output: OutputOptions
) -> None:
    """Find the states that decide what the model says: causal traces of records, or of one prompt.

    A run with a corrupted subject is repeated with one hidden state restored, or the outputs of a window of MLPs or
    attention layers. The effect is how much of the answer comes back. Facts whose object is not the model's answer are
    skipped and counted. Writes traces/NAME/ in the build: rows, averages, heat maps, and npz files that the notebooks
    of ROME's released code read. report.html shows them.
    """
    folder = BuildFolder(build)
    read = None
    if options.prompt is None:
        from cfbuild.audit.validate import read_records

        # Records are read before the model is loaded, so that a file with faults is refused at once.
        read = read_records(options.records or folder.require("records.jsonl")).all_valid()
    lm = output.load_model(lm_options)
    with output.progress() as progress:
        summary = trace(folder, options, lm, progress, read)
    if not output.json_ and summary.traced:
        _print_maps(folder, summary.name, options)
    output.print_summary(summary, _lines)


REASONS = {
    "other-answer": "the model does not answer with the object",
    "not-finite": "a number is infinite or NaN; try --dtype float32",
    "no-pair": "no other subject has as many tokens and an object that the model knows",
}
"""The meanings of the rules by which facts are skipped."""


def _lines(summary: TraceSummary) -> Iterator[str]:
    noise = f", noise {summary.noise:.4g}" if summary.noise is not None else ""
    yield f"{summary.traced} facts traced{noise}"
    for rule, count in summary.skipped.items():
        yield f"{count} skipped: {REASONS.get(rule, rule)}"
    if summary.averages:
        total = summary.averages["total_effect"]
        yield f"total effect {total['mean']:.4f} ± {total['half_width_95']:.4f}"
        for kind, places in summary.averages["indirect_effects"].items():
            place, effects = max(places.items(), key=lambda item: max(item[1]["mean"]))
            layer = effects["mean"].index(max(effects["mean"]))
            highest = f"{effects['mean'][layer]:.4f} ± {effects['half_width_95'][layer]:.4f}"
            yield f"{kind.replace('_', ' ')}: highest {highest} at layer {layer}, {place} token"
        for kind, value in summary.averages["correlations"].items():
            yield f"correlation of attributed with exact effects, {kind}: {value:.3f}"
    yield summary.folder
    if summary.page:
        yield summary.page


def _print_maps(folder: BuildFolder, name: str, options: TraceOptions) -> None:
    """Print small heat maps: a row for each token of a single fact, or for each place of tokens of several facts."""
    from cfbuild.probe.effects import AverageEffects, read_traces
    from cfbuild.store.runs import TRACE, new_run

    traces = read_traces(new_run(folder, name, TRACE))
    average = AverageEffects.of(traces)
    for kind in options.maps:
        if len(traces) > 1:
            rows = {place: curve.mean for place, curve in average.curves[kind].items()}
        else:
            begin, end = traces[0].subject
            tokens = enumerate(zip(traces[0].tokens, traces[0].maps[kind], strict=True))
            rows = {f"{i} {token.strip()}{'*' if begin <= i < end else ''}": values for i, (token, values) in tokens}
        _print_map(kind, rows)


def _print_map(kind: str, rows: Mapping[str, np.ndarray]) -> None:
    from rich.text import Text

    from cfbuild.views.page.heat import terminal_rows

    high = max(0.0, *(float(values.max()) for values in rows.values()))
    layers = len(next(iter(rows.values())))
    print_text(f"restored {kind}, indirect effect 0 to {high:.3f}, layers 0 to {layers - 1}")
    console = new_console()
    for label, cells in terminal_rows(rows, (0.0, high), kind):
        line = Text(f"{label:>16} ")
        for (red, green, blue), tenth in cells:
            ink = "white" if tenth >= 5 else "black"
            line.append(SHADES[tenth], style=f"{ink} on rgb({red},{green},{blue})")
        console.print(line, soft_wrap=True)
