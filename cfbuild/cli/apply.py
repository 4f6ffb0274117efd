"""The command `apply`."""

from __future__ import annotations

from collections.abc import Iterator

from cfbuild.cli.shared import OutputOptions, load_model, shown_progress, tell_summary
from cfbuild.lm.selection import ModelOptions
from cfbuild.pipeline.apply import Applied, ApplyOptions, apply_edits

EXAMPLES = (
    "cfbuild apply build/runs/memit/edits.safetensors --model gpt2-xl --out gpt2-xl-memit",
    "cfbuild apply build/runs/rome/edits.safetensors --case 17 --out one-fact",
)


def run(options: ApplyOptions, lm_options: ModelOptions, output: OutputOptions) -> None:
    """Write a model folder whose weights hold edits, with a card that says what was changed.

    The edits are those of validate-and-score --keep-edits, all of a file or some cases.
    """
    lm = load_model(lm_options, output.quiet)
    with shown_progress(output.quiet) as progress:
        made = apply_edits(options, lm, progress)
    tell_summary(made, output.json_, _lines)


def _lines(made: Applied) -> Iterator[str]:
    yield f"{made.folder}: the model with the edits of {len(made.cases)} records, norm of the change {made.norm:.4g}"
    for name, norm in made.weights.items():
        yield f"  {name}: {norm:.4g}"
    if made.faulty:
        yield f"left out, for their edits failed: cases {', '.join(map(str, made.faulty))}"
