"""The command `export`."""

from __future__ import annotations

from pathlib import Path

from cfbuild.cli.shared import Build, open_folder, tell
from cfbuild.pipeline.export import ExportOptions, export_records

EXAMPLES = ("cfbuild export", "cfbuild export --format easyedit --out counterfact-edit.json")


def run(build: Build = Path("build"), *, options: ExportOptions) -> None:
    """Write the records as one JSON array in another project's format."""
    path, count = export_records(open_folder(build), options)
    tell(f"{path}: {count} records in the format {options.format_}")
