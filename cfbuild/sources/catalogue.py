"""The table of fact sources. A source is a file in this folder and a line in this table."""

from __future__ import annotations

from collections.abc import Mapping

from cfbuild.sources import dump, pararel, snapshot, wikidata
from cfbuild.sources.source import SourceSpec

SOURCES: Mapping[str, SourceSpec] = {
    "wikidata": wikidata.SPEC,
    "pararel": pararel.SPEC,
    "dump": dump.SPEC,
    "snapshot": snapshot.SPEC,
}
