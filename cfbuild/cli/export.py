"""The command `export`."""

from __future__ import annotations

from pathlib import Path

from cfbuild.cli.shared import Build, OutputOptions, open_folder, shown_progress, tell, tell_json
from cfbuild.pipeline.export import ExportOptions, export_records

EXAMPLES = ("cfbuild export", "cfbuild export --format easyedit --out counterfact-edit.json")


def run(build: Build = Path("build"), *, options: ExportOptions, output: OutputOptions) -> None:
    """Write the records as one JSON array in another project's format."""
    with shown_progress(output.quiet) as progress:
        path, count = export_records(open_folder(build), options, progress)
    if output.json_:
        tell_json({"file": str(path), "records": count, "format": options.format_})
    else:
        tell(f"{path}: {count} records in the format {options.format_}")
