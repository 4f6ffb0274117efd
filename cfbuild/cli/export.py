"""The command `export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cfbuild.cli.shared import Build, open_folder, tell

EXAMPLES = ("cfbuild export", "cfbuild export --format easyedit --out counterfact-edit.json")


def run(
    build: Build = Path("build"),
    format_: Annotated[
        str, typer.Option("--format", help="counterfact (without meta), easyedit, knowedit, zsre (MEND's), or mquake.")
    ] = "counterfact",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The file to write. [default: export/FORMAT.json in the build]")
    ] = None,
) -> None:
    """Write the records as one JSON array in another project's format."""
    from cfbuild.pipeline.export import export_records

    path, count = export_records(open_folder(build), format_, out)
    tell(f"{path}: {count} records in the format {format_}")
