"""The command `report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cfbuild.cli.shared import Build, open_folder, tell

EXAMPLES = ("cfbuild report --build build/demo",)


def run(
    build: Build = Path("build"),
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="The file that was scored, if it was not the build's records.")
    ] = None,
) -> None:
    """Write report.html: figures, plots and a browsable table of the build's records, in one file."""
    from cfbuild.pipeline.report import write_page

    folder = open_folder(build)
    with folder.lock("report"):
        tell(write_page(folder, file))
