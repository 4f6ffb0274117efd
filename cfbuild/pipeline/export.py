"""`cfbuild export`: the build's records as a JSON array in another project's format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from heapq import merge
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from cfbuild.data import Record
from cfbuild.errors import BuildStateError, ConfigError
from cfbuild.option import option
from cfbuild.progress import Progress, silent
from cfbuild.publish.formats import ALIGNED_EXPORTERS, export
from cfbuild.records.aligned import record_files
from cfbuild.store.codec import decode_record
from cfbuild.store.files import write_atomic
from cfbuild.store.folder import BuildFolder
from cfbuild.store.jsonl import Row, dump_row, read_values
from cfbuild.store.schema import conforming


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """Options of `cfbuild export`: the format's name, and the file (None: export/FORMAT.json in the build)."""

    format_: str = option(
        "counterfact",
        "counterfact (without meta), easyedit, knowedit, zsre (MEND's), mquake, or bmike (several languages).",
        flag="--format",
    )
    out: Path | None = option(None, "The file to write. [default: export/FORMAT.json in the build]", flag="--out -o")


def export_records(folder: BuildFolder, options: ExportOptions, progress: Progress = silent) -> tuple[Path, int]:
    """Write `export/FORMAT.json` in the build, or `out`; return the path and the number of its rows.

    Raises ConfigError for an unknown format or a folder to write to that does not exist, BuildStateError if the build
    has no records, or none in several languages where the format is of such, DataError for a row that is not valid.
    """
    out = options.out
    rows = _rows(folder, options.format_)
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


def _rows(folder: BuildFolder, name: str) -> Iterator[Row]:
    """Return an iterator over the rows of a format."""
    if name not in ALIGNED_EXPORTERS:
        return export(_records(folder, "records.jsonl"), name)
    files = record_files(folder.manifest())
    if len(files) < 2:
        raise BuildStateError(
            f"{folder.root} has records in {', '.join(files)} alone; make some with `cfbuild generate --languages` to "
            f"export them as {name}"
        )
    records = {code: _records(folder, file) for code, file in files.items()}
    return map(ALIGNED_EXPORTERS[name], _in_all(records))


def _records(folder: BuildFolder, file: str) -> Iterator[Record]:
    return read_values(folder.require(file), conforming("record", decode_record))


def _with_case(code: str, records: Iterator[Record]) -> Iterator[tuple[int, str, Record]]:
    return ((record.case_id, code, record) for record in records)


def _in_all(records: Mapping[str, Iterator[Record]]) -> Iterator[dict[str, Record]]:
    """Yield the cases that are there in all languages, each by language; every file is in the order of case ids."""
    told = (_with_case(code, some) for code, some in records.items())
    by_case = groupby(merge(*told, key=itemgetter(0)), key=itemgetter(0))
    for _, some in by_case:
        found = {code: record for _, code, record in some}
        if len(found) == len(records):
            yield {code: found[code] for code in records}
