"""Facts, names and attributes from a dump of Wikidata: truthy N-Triples or JSON, packed by bz2 or gz or plain.

The dump is read once (`scan.py`), before the first fact; docs/internals.md ("A dump is read once") tells why. This file
has the source's options, and loads no numpy.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cfbuild.errors import ConfigError
from cfbuild.option import option
from cfbuild.sources.dump.packing import PIPE, Dump, dump_file, open_dump
from cfbuild.sources.journal import JournaledClient
from cfbuild.sources.source import FactSource, SourceSpec, StatementOptions
from cfbuild.work import WorkerOptions

SAMPLES, SAMPLE_BYTES = 64, 1 << 14
"""The number and size of the samples in a dump's digest; to digest a whole dump would take minutes."""


@dataclass(frozen=True)
class DumpOptions(StatementOptions, WorkerOptions):
    """Options of a dump, which the workers read; `dump` is its file, or `-` for standard input."""

    dump: str | None = option(
        None,
        "The dump of --source dump: truthy N-Triples or JSON; bz2, gz or plain; - for a pipe.",
        metavar="FILE",
    )


def fingerprint(name: str) -> str:
    """Return the dump `name` for the manifest, with a digest of its size and of samples: latest-all.json.bz2@0123abcd.

    Raises ConfigError if there is no such file.
    """
    if name == PIPE:
        return PIPE
    path = dump_file(name)
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as stream:
        for place in range(SAMPLES):
            stream.seek(place * max(0, size - SAMPLE_BYTES) // (SAMPLES - 1))
            digest.update(stream.read(SAMPLE_BYTES))
    return f"{path.name}@{digest.hexdigest()[:16]}"


def check(options: DumpOptions) -> None:
    """Raise ConfigError for options that do not fit together or the dump, DataError for a file that is no dump.

    A dump that comes by a pipe is not read.
    """
    if options.dump is None:
        raise ConfigError("--source dump needs --dump FILE, or --dump - for a dump that comes by a pipe")
    options.check_workers()
    if options.dump != PIPE:
        dump = open_dump(options.dump)
        with dump:
            check_form(dump, options)


def check_form(dump: Dump, options: DumpOptions) -> None:
    """Raise ConfigError if the options ask for data that the dump does not have."""
    if options.statements and dump.form != "json":
        raise ConfigError("a truthy dump has no statements; leave --statements out, or give the JSON dump")


def make(options: DumpOptions, client: JournaledClient | None = None) -> FactSource:
    """Return the dump as a source; it needs no `client`."""
    from cfbuild.sources.dump.dump_source import DumpSource

    return DumpSource(options)


SPEC = SourceSpec(DumpOptions, make, frozenset({"facts", "statements", "names"}))
