"""`cfbuild export`: the build's records as another project's file, or as a folder of files that a tool runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from heapq import merge
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from cfbuild.data import Record
from cfbuild.errors import BuildStateError, ConfigError
from cfbuild.option import WORD, option
from cfbuild.progress import Progress, silent
from cfbuild.publish.bundles import BUNDLES, ToolFile
from cfbuild.publish.export_input import ExportInput, OtherNames
from cfbuild.publish.formats import ALIGNED_EXPORTERS, EXPORTERS
from cfbuild.records.aligned import record_files
from cfbuild.store.codec import decode_entity, decode_record, decode_reference, decode_template
from cfbuild.store.files import write_atomic
from cfbuild.store.folder import BuildFolder
from cfbuild.store.jsonl import Row, dump_row, read_values
from cfbuild.store.schema import conforming

FORMATS = (*EXPORTERS, *ALIGNED_EXPORTERS, *BUNDLES)
"""The names of all formats: those of a file, those of a file in several languages, those of a folder."""


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """Options of `cfbuild export`. Raises ConfigError for an unknown format, or pairs of a format that has none."""

    format_: str = option(
        "counterfact",
        "The format. As a file: counterfact (without meta), easyedit, knowedit, zsre (as MEND has it), mquake, "
        "wikibigedit, rippleedits, or bmike (several languages). As a folder: lm-eval, inspect, memit (for ROME's code "
        "too), uniedit, tracing, chat.",
        flag="--format",
        form=WORD.naming(*FORMATS),
    )
    out: Path | None = option(
        None, "The file or folder to write. [default: export/FORMAT in the build]", flag="--out -o"
    )
    pairs_for: str | None = option(
        None,
        "For --format tracing: also write pairs of prompts that have the same number of this model's tokens.",
        metavar="MODEL",
    )

    def __post_init__(self) -> None:
        if self.format_ not in FORMATS:
            raise ConfigError(f"format {self.format_!r} does not exist; expected one of {', '.join(FORMATS)}")
        if self.pairs_for is not None and self.format_ != "tracing":
            raise ConfigError(f"--pairs-for: the format {self.format_} has no pairs; expected --format tracing")


@dataclass(frozen=True, slots=True)
class Exported:
    """An export: its file or folder, the number of records in the build, and of those that the format cannot have."""

    path: Path
    records: int
    left_out: int = 0


def export_records(
    folder: BuildFolder,
    options: ExportOptions,
    progress: Progress = silent,
    length: Callable[[str], int] | None = None,
) -> Exported:
    """Write the records in a format, to `out` or to `export/` in the build; return what was written.

    length: returns the number of tokens of a text, for the pairs of the format tracing.
    Raises ConfigError if the file's folder is missing or the folder to write exists, BuildStateError if the build has
    no records, or records in one language for a format of several, DataError for a row that is not valid.
    """
    folder.require("records.jsonl")
    folder.refuse_links()
    is_folder = options.format_ in BUNDLES
    path = options.out or folder.path("export") / (options.format_ if is_folder else f"{options.format_}.json")
    if options.out is None:
        path.parent.mkdir(exist_ok=True)
    elif not path.parent.is_dir():
        raise ConfigError(f"{path.parent} is not a folder; make it, or choose another --out")
    elif is_folder and path.exists():
        raise ConfigError(f"{path} is there already; give --out the name of a new folder")
    records = _Records(folder, progress)
    if options.format_ in ALIGNED_EXPORTERS:
        return _write_file(path, map(ALIGNED_EXPORTERS[options.format_], _shared_records(folder, progress)))
    names = _other_names(folder)
    if not is_folder:
        as_row = EXPORTERS[options.format_]
        return _write_file(path, (as_row(record, names) for record in records))
    texts = folder.path("references.jsonl")
    references = list(read_values(texts, decode_reference)) if texts.is_file() else []
    _write_folder(path, BUNDLES[options.format_](ExportInput(records, names, references, length)))
    return Exported(path, records.count)


@dataclass(slots=True)
class _Records:
    """The build's records, read from the file whenever they are iterated; `count` is the last iteration's number."""

    folder: BuildFolder
    progress: Progress
    count: int = 0

    def __iter__(self) -> Iterator[Record]:
        read = read_values(self.folder.require("records.jsonl"), conforming("record", decode_record))
        for self.count, record in enumerate(read, 1):
            yield record
            self.progress("records", self.count, None)


def _write_file(path: Path, rows: Iterable[Row | None]) -> Exported:
    """Write rows as one JSON array. None stands for a record that the format cannot have."""
    written = left_out = 0

    def lines() -> Iterator[str]:
        nonlocal written, left_out
        for row in rows:
            if row is None:
                left_out += 1
            else:
                yield (",\n" if written else "[\n") + dump_row(row)
                written += 1
        yield "\n]\n" if written else "[]\n"

    write_atomic(path, lines())
    return Exported(path, written + left_out, left_out)


def _shared_records(folder: BuildFolder, progress: Progress) -> Iterator[dict[str, Record]]:
    """Yield the records of each case that all languages have, by language. Each file is in the order of case ids.

    Raises BuildStateError for a build of one language.
    """
    files = record_files(folder.manifest())
    if len(files) < 2:
        raise BuildStateError(
            f"{folder.root} has records in {', '.join(files)} alone; make some with `cfbuild generate --languages` to "
            "export them side by side"
        )
    by_language = (_with_case_ids(code, folder, file) for code, file in files.items())
    for count, (_, same_case) in enumerate(groupby(merge(*by_language, key=itemgetter(0)), key=itemgetter(0)), 1):
        records = {code: record for _, code, record in same_case}
        progress("records", count, None)
        if len(records) == len(files):
            yield {code: records[code] for code in files}


def _with_case_ids(code: str, folder: BuildFolder, file: str) -> Iterator[tuple[int, str, Record]]:
    records = read_values(folder.require(file), conforming("record", decode_record))
    return ((record.case_id, code, record) for record in records)


def _write_folder(path: Path, files: Iterable[ToolFile]) -> None:
    """Write a folder of files in one step; an earlier export in the build is replaced."""
    part = path.with_name(f".{path.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    for file in files:
        target = part / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.content)
    shutil.rmtree(path, ignore_errors=True)
    part.replace(path)


def _other_names(folder: BuildFolder) -> OtherNames:
    """Return the aliases and templates that the build has, in the language of its records."""
    first = next(iter(read_values(folder.path("records.jsonl"), conforming("record", decode_record))), None)
    entities, templates = folder.path("entities.jsonl"), folder.path("templates.jsonl")
    return OtherNames.of(
        first.language if first else "en",
        read_values(entities, decode_entity) if entities.is_file() else (),
        read_values(templates, decode_template) if templates.is_file() else (),
    )
