"""Export a build's records to every format that an audit reads and audit each file: python scripts/round_trip.py BUILD

A build in which an audit finds nothing has exports in which it finds nothing. Exits with 1 where that is not so.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from cfbuild.pipeline.audit import AuditOptions, audit
from cfbuild.pipeline.export import ExportOptions, export_records
from cfbuild.store.folder import BuildFolder

FORMATS = ("counterfact", "easyedit", "knowedit")
"""The formats that an audit reads; the others it names."""


def main() -> int:
    """Print a line for each file; return 1 if any has a fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("build", type=Path)
    build = BuildFolder(parser.parse_args().build)
    faulty = _count_told("records.jsonl", build.require("records.jsonl"))
    with tempfile.TemporaryDirectory() as folder:
        for name in FORMATS:
            made = export_records(build, ExportOptions(name, Path(folder) / f"{name}.json"))
            faulty += _count_told(name, made.path)
    return min(faulty, 1)


def _count_told(name: str, path: Path) -> int:
    """Print what an audit of a file finds; return the number of rows with a fault."""
    start = time.monotonic()
    summary = audit(AuditOptions(path))
    seconds = time.monotonic() - start
    print(f"{name}: {summary.faulty} of {summary.rows} rows have a fault ({seconds:.0f} s)")
    for rule, entry in summary.rules.items():
        print(f"  {rule}: {entry.faults}, such as {entry.examples[0]}")
    return summary.faulty


if __name__ == "__main__":
    sys.exit(main())
