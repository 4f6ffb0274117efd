"""The schemas of a build's files, and the faults that they find in rows."""

from __future__ import annotations

from cfbuild.store.schema.conform import conforming, schema_faults, writing_faults
from cfbuild.store.schema.faults import Fault, Located, Violation
from cfbuild.store.schema.located import read_located
from cfbuild.store.schema.published import NAMES, load_schema

__all__ = [
    "NAMES",
    "Fault",
    "Located",
    "Violation",
    "conforming",
    "load_schema",
    "read_located",
    "schema_faults",
    "writing_faults",
]
