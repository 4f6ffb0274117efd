"""The command `export`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cfbuild.cli.shared import Build, OutputOptions, print_json, print_text
from cfbuild.lm.selection import ModelOptions
from cfbuild.pipeline.export import ExportOptions, export_records
from cfbuild.store.folder import BuildFolder

EXAMPLES = (
    "cfbuild export",
    "cfbuild export --format easyedit --out counterfact-edit.json",
    "cfbuild export --format lm-eval",
    "cfbuild export --format tracing --pairs-for gpt2-xl",
)


def run(build: Build = Path("build"), *, options: ExportOptions, output: OutputOptions) -> None:
    """Write the records in another project's format: one JSON array, or a folder of files that a tool runs."""
    length = None if options.pairs_for is None else _length(options.pairs_for, output)
    with output.progress() as progress:
        exported = export_records(BuildFolder(build), options, progress, length)
    if output.json_:
        counts = {"records": exported.records, "left_out": exported.left_out}
        print_json({"file": str(exported.path), **counts, "format": options.format_})
    else:
        written = exported.records - exported.left_out
        rest = f"; {exported.left_out} left out, which the format cannot have" if exported.left_out else ""
        print_text(f"{exported.path}: {written} records in the format {options.format_}{rest}")


def _length(model: str, output: OutputOptions) -> Callable[[str], int]:
    lm = output.load_model(ModelOptions(model=model))
    return lambda text: len(lm.encode(text))
