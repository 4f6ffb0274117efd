"""The command `apply`."""

from __future__ import annotations

from collections.abc import Iterator

from cfbuild.cli.shared import OutputOptions
from cfbuild.lm.selection import ModelOptions
from cfbuild.pipeline.apply import Applied, ApplyOptions, apply_edits

EXAMPLES = (
    "cfbuild apply build/runs/memit/edits.safetensors --model gpt2-xl --out gpt2-xl-memit",
    "cfbuild apply build/runs/rome/edits.safetensors --case 17 --out one-fact",
)


def run(options: ApplyOptions, lm_options: ModelOptions, output: OutputOptions) -> None:
    """Write a model folder whose weights hold edits, with a card that lists what was changed.

    EDITS is a file that validate-and-score --keep-edits wrote. All its edits are applied, or those of --case.
    """
    lm = output.load_model(lm_options)
    with output.progress() as progress:
        applied = apply_edits(options, lm, progress)
    output.print_summary(applied, _lines)


def _lines(applied: Applied) -> Iterator[str]:
    count = len(applied.cases)
    yield f"{applied.folder}: the model with the edits of {count} records, norm of the change {applied.norm:.4g}"
    for name, norm in applied.weights.items():
        yield f"  {name}: {norm:.4g}"
    if applied.faulty:
        yield f"left out, for their edits failed: cases {', '.join(map(str, applied.faulty))}"
