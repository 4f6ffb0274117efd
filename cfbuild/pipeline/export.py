"""`cfbuild export`: the build's records as a JSON array in another project's format."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cfbuild.errors import ConfigError
from cfbuild.option import option
from cfbuild.progress import Progress, silent
from cfbuild.publish.formats import export
from cfbuild.store.codec import decode_record
from cfbuild.store.files import write_atomic
from cfbuild.store.folder import BuildFolder
from cfbuild.store.jsonl import dump_row, read_values
from cfbuild.store.schema import conforming


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """Options of `cfbuild export`: the format's name, and the file (None: export/FORMAT.json in the build)."""

    format_: str = option(
        "counterfact",
        "counterfact (without meta), easyedit, knowedit, zsre (MEND's), or mquake.",
        flag="--format",
    )
    out: Path | None = option(None, "The file to write. [default: export/FORMAT.json in the build]", flag="--out -o")


def export_records(folder: BuildFolder, options: ExportOptions, progress: Progress = silent) -> tuple[Path, int]:
    """Write `export/FORMAT.json` in the build, or `out`; return the path and the number of its rows.

    Raises ConfigError for an unknown format or a folder to write to that does not exist, BuildStateError if the build
    has no records, DataError for a row that is not valid.
    """
    out = options.out
    rows = export(read_values(folder.require("records.jsonl"), conforming("record", decode_record)), options.format_)
    folder.refuse_links()
    path = out or folder.path("export") / f"{options.format_}.json"
    if out is None:
        path.parent.mkdir(exist_ok=True)
    elif not out.parent.is_dir():
        raise ConfigError(f"{out.parent} is not a folder; make it, or choose another --out")
    count = 0

    def lines() -> Iterator[str]:
        nonlocal count
        for row in rows:
            yield ("[\n" if not count else ",\n") + dump_row(row)
            count += 1
            progress("records", count, None)
        yield "\n]\n" if count else "[]\n"

    write_atomic(path, lines())
    return path, count
