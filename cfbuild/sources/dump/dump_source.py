"""The source of facts over the findings in a dump."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cfbuild.data import UNKNOWN, Entity, Fact, id_number
from cfbuild.errors import SourceError
from cfbuild.facts.relations import ATTRIBUTES
from cfbuild.progress import Progress
from cfbuild.sources.dump import DumpOptions, check_form, json_items, triples
from cfbuild.sources.dump.extract import Extract
from cfbuild.sources.dump.packing import open_dump
from cfbuild.sources.dump.query import NO_ITEM, DumpQuery
from cfbuild.sources.dump.scan import read_dump
from cfbuild.sources.source import SourceTally
from cfbuild.sources.subset import Sample, SampleOrder
from cfbuild.sources.wikidata import EntityCollector
from cfbuild.text.codes import chain

FOLDER = "dump"
"""The folder for finished units, in the folder of the fetch's unfinished work."""
RANKS = {b"p": "preferred", b"n": "normal", b"d": "deprecated"}
TEXTS = {"truthy": triples.read_text, "json": json_items.read_text}
"""The functions that read a text as the forms of dumps write it."""
NAMES = {b"L": "label", b"A": "alias"}
NUMBERS = {b"S": "sitelinks", b"R": "revision"}
"""The kinds of values by the letter that begins a line about an item (`UnitFindings`)."""


class DumpSource:
    """A `FactSource` over a dump, which `read` reads before the first fact."""

    def __init__(self, options: DumpOptions) -> None:
        self.tally = SourceTally()
        self.today: str | None = None
        self._options = options
        self._extract: Extract | None = None
        self._form = ""

    def read(self, relations: tuple[str, ...], folder: Path, progress: Progress) -> None:
        """Read the dump for the facts of `relations`; finished units are kept in `folder`, and used by a second call.

        Raises ConfigError if there is no such file, DataError if it is no dump, damaged, or breaks off.
        """
        options = self._options
        dump = open_dump(str(options.dump), options.count)
        check_form(dump, options)
        query = DumpQuery(relations, ATTRIBUTES, chain(options.language), options.statements)
        with dump:
            extract, summary = read_dump(dump, query, folder / FOLDER, options, progress)
        self._extract, self._form, self.today = extract, dump.form, summary.day or None
        self.tally.add("broken line of the dump", summary.counts["broken"])
        self.tally.add("entity of the dump that is no item", summary.counts["no item"])

    def _read(self) -> Extract:
        if self._extract is None:
            raise SourceError("the dump was not read")
        return self._extract

    def facts(self, relation: str) -> Iterator[Fact]:
        """Yield the truthy facts of `relation` between items, or their seeded sample, by subject then object number.

        With `statements`, the subjects' other statements of any rank are included.
        """
        rows = self._read().facts(id_number(relation))
        truthy = rows if "rank" not in rows.dtype.names else rows[_best(rows)]
        self.tally.add("object is no item", int((truthy["object"] == NO_ITEM).sum()))
        pairs = np.unique(truthy[truthy["object"] >= 0][["subject", "object"]])
        named = np.unique(pairs["subject"][pairs["object"] != 0])
        self.tally.add("subject with an unknown object alone", len(np.setdiff1d(pairs["subject"], named)))
        pairs = self._sample(relation, pairs[np.isin(pairs["subject"], named)])
        if self._options.statements:
            rows = rows[np.isin(rows["subject"], pairs["subject"]) & (rows["object"] >= 0)]
            for row in np.unique(rows):
                yield _stated(relation, row)
        else:
            for subject, value in pairs.tolist():
                yield Fact(relation, f"Q{subject}", f"Q{value}" if value else UNKNOWN, source="wikidata")

    def _sample(self, relation: str, pairs: Any) -> Any:
        """Return the seeded sample of `pairs`, an array sorted by subject; all of them without --per-relation."""
        limit = self._options.per_relation
        if limit is None or limit >= len(pairs):
            return pairs
        order = SampleOrder(self._options.seed, relation)
        sample = Sample(order, limit)
        subjects, starts = np.unique(pairs["subject"], return_index=True)
        ends = np.append(starts[1:], len(pairs))
        places = np.fromiter((order.place(one)[0] for one in subjects.tolist()), np.int64, len(subjects))
        ordered = np.argsort(places, kind="stable")
        begin = 0
        while begin < len(ordered) and not sample.full:
            stop = begin + limit
            while stop < len(ordered) and places[ordered[stop]] == places[ordered[stop - 1]]:
                stop += 1
            sample.add(pair for index in ordered[begin:stop] for pair in pairs[starts[index] : ends[index]].tolist())
            begin = stop
        return np.array(sorted(sample.pairs), pairs.dtype)

    def entities(self, ids: Sequence[str]) -> Iterator[Entity]:
        """Yield an entity with label, aliases, attributes and sitelinks for each of `ids`, in their order."""
        extract, read_text = self._read(), TEXTS[self._form]
        missing = 0
        for number, lines in extract.lines(np.array([id_number(item) for item in ids], np.int64)):
            entity_id = f"Q{number}"
            described = EntityCollector(self._options.language, self.tally)
            missing += not lines
            for line in lines:
                kind, _, value = line.partition(b" ")
                if kind in NAMES:
                    code, _, raw = value.partition(b" ")
                    described.put(entity_id, NAMES[kind], read_text(raw), code.decode())
                elif kind in NUMBERS:
                    described.put(entity_id, NUMBERS[kind], value.decode())
                else:
                    (target,) = extract.final(np.array([int(value[1:])])).tolist()
                    described.put(entity_id, kind.decode(), f"Q{target}")
            yield described.entity(entity_id)
        self.tally.add("item that the dump does not describe", missing)


def _best(rows: Any) -> Any:
    """Return a mask of the statements of the best rank that their subject has: preferred, else normal."""
    preferred = np.unique(rows["subject"][rows["rank"] == b"p"])
    return np.where(np.isin(rows["subject"], preferred), rows["rank"] == b"p", rows["rank"] == b"n")


def _stated(relation: str, row: Any) -> Fact:
    rank, start, end = row["rank"].item(), row["start"].item().decode(), row["end"].item().decode()
    value = f"Q{row['object']}" if row["object"] else UNKNOWN
    return Fact(relation, f"Q{row['subject']}", value, RANKS[rank], start or None, end or None, "wikidata")
