"""The command `train-editor`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cfbuild.cli.shared import Build, OutputOptions
from cfbuild.lm.selection import ModelOptions
from cfbuild.pipeline.train_editor import TEST, TrainOptions, TrainSummary, train_editor
from cfbuild.store.folder import BuildFolder

if TYPE_CHECKING:
    from cfbuild.edit.trained.training import Validation

EXAMPLES = (
    "cfbuild train-editor mend",
    "cfbuild train-editor ke --records counterfact.json --model gpt2-xl --device cuda",
    "cfbuild train-editor mend --texts wikitext.txt --rank 512",
)


def run(
    build: Build = Path("build"), *, options: TrainOptions, lm_options: ModelOptions, output: OutputOptions
) -> None:
    """Train the network of the editors mend-cf or ke-cf on records, or of mend or ke on texts.

    EDITOR is mend or ke. Records are divided by subject into three parts: to train on, to validate on, and to test on;
    the last part is written beside the network. An interrupted training goes on from its last validation.
    """
    folder = BuildFolder(build)
    if not options.is_of_texts and options.records is None:
        folder.require("records.jsonl")
    lm = output.load_model(lm_options)
    with output.progress() as progress:
        summary = train_editor(folder, options, lm, progress, lambda found: output.note(_line(found)))
    output.print_summary(summary, lambda summary: _lines(summary, build))


def _line(validation: Validation) -> str:
    skipped = f", {validation.skipped} steps skipped" if validation.skipped else ""
    parts = f"edit {validation.edit:.3f}, locality {validation.locality:.4f} nats"
    shares = f"ES {validation.es:.1f}, PS {validation.ps:.1f}, drawdown {validation.drawdown:.1f}"
    return f"step {validation.step}: loss {validation.loss:.4f} ({parts}), {shares}{skipped}"


def _lines(summary: TrainSummary, build: Path) -> Iterator[str]:
    best = summary.best
    yield (
        f"{summary.editor}: {summary.steps} steps on {summary.train} lessons; best at step {best['step']} on "
        f"{summary.valid} others: loss {best['loss']:.4f}, ES {best['es']:.1f}, PS {best['ps']:.1f}, "
        f"drawdown {best['drawdown']:.1f}"
    )
    yield f"network: {summary.folder}"
    if summary.test:
        file = Path(summary.folder) / TEST
        yield f"{len(summary.test)} records kept for tests: {file}"
        yield f"score them: cfbuild validate-and-score --build {build} --file {file} --editor {summary.editor}"
