"""The page's data from streams of records and cases: counts of all of them, and the details of those in the list."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from cfbuild.data import CaseScore, Record
from cfbuild.records.composition import Composition, Tally
from cfbuild.records.kinds import KINDS
from cfbuild.score.metrics import HARMONIC, CaseValues, case_values
from cfbuild.score.run_report import STAGES
from cfbuild.text.safe import visible
from cfbuild.views.page.blocks import RECORDS_A_BLOCK, case_details, most_texts, packed, record_details, to_json
from cfbuild.views.page.plots import CasePoints, rank_shares

MOST_LISTED = 20_000
"""The most records in the list: as many as `tests/test_page.py` opens and filters in a browser."""
CASES_AT_ONCE = 1_000
"""Cases that are in memory at a time."""


@dataclass(frozen=True, slots=True)
class ShownRecords:
    """Records as the page shows them: counts and `rank_shares` of all, and the columns and details of the list."""

    composition: Composition
    shares: Sequence[float]
    columns: dict[str, list[Any]]
    blocks: Sequence[str]

    @property
    def count(self) -> int:
        """Return the number of all records."""
        return self.composition.total["records"]

    @property
    def case_ids(self) -> list[int]:
        """Return the case ids of the records in the list."""
        return self.columns["case"]

    def index(self) -> dict[str, Any]:
        """Return the columns of the list that are the same for every run, and what the script needs with them."""
        return {
            **self.columns,
            "block": RECORDS_A_BLOCK,
            "groups": {name: name.replace("_", " ").capitalize() for name in KINDS},
            "all_texts": most_texts(len(self.case_ids)) is None,
        }


def show_records(records: Iterable[Record], count: int) -> ShownRecords:
    """Return a stream of `count` records as the page shows them: all in its list, or MOST_LISTED evenly spread ones."""
    tally, shares = Tally(), array("d")
    columns: dict[str, list[Any]] = {name: [] for name in ("case", "relation", "subject", "true", "new")}

    def counted() -> Iterator[Record]:
        for record in records:
            tally.add(record)
            shares.extend(rank_shares(record))
            yield record

    def details() -> Iterator[str]:
        for record in _listed(counted(), count):
            columns["case"].append(record.case_id)
            columns["relation"].append(record.relation)
            for name, target in (("subject", record.subject), ("true", record.target_true), ("new", record.target_new)):
                columns[name].append(visible(target.label))
            yield to_json(record_details(record))

    blocks = list(packed(details()))
    return ShownRecords(tally.composition(), shares, columns, blocks)


def _listed(records: Iterable[Record], count: int) -> Iterator[Record]:
    """Yield the records in the page's list; all are read."""
    length = min(count, MOST_LISTED)
    places = (place * count // length for place in range(length))
    listed = next(places, None)
    for place, record in enumerate(records):
        if place == listed:
            yield record
            listed = next(places, None)


class ShownCases:
    """A run's cases as the page shows them: numbers for plots of all, cells and details of `case_ids`, the list's."""

    def __init__(self, cases: Iterable[CaseScore], case_ids: Sequence[int]) -> None:
        self.values = CaseValues()
        self.points = CasePoints()
        self._case_ids = case_ids
        self._cells: dict[int, dict[str, Any]] = {case_id: {} for case_id in case_ids}
        self._details: dict[int, str] = {}
        cases = iter(cases)
        while chunk := list(islice(cases, CASES_AT_ONCE)):
            self._add(chunk)

    def _add(self, cases: Sequence[CaseScore]) -> None:
        for case, score in zip(cases, self.values.add(cases)["NS"], strict=True):
            self.points.add(case, score)
        listed = [case for case in cases if case.case_id in self._cells]
        texts = most_texts(len(self._case_ids))
        for case in listed:
            self._cells[case.case_id]["fault"] = visible(case.fault) if case.fault else None
            self._details[case.case_id] = to_json(case_details(case, texts))
        for stage in STAGES:
            values = case_values(listed, stage)
            for place, case in enumerate(listed):
                for name in HARMONIC:
                    figure = values[name][place]
                    self._cells[case.case_id][f"{name}_{stage}"] = None if figure is None else round(figure)

    def columns(self) -> dict[str, list[Any]]:
        """Return the list's columns with the run's scores."""
        names = ("fault", *(f"{name}_{stage}" for stage in STAGES for name in HARMONIC))
        return {name: [self._cells[case_id].get(name) for case_id in self._case_ids] for name in names}

    def blocks(self) -> Iterator[str]:
        """Return an iterator over the compressed details of the list, null for a record that was not scored."""
        return packed(self._details.get(case_id, "null") for case_id in self._case_ids)
