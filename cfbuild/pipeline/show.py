"""`cfbuild show`: the chosen rows of a build, with their scores in a run if it has any."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cfbuild.data import CaseScore, Record, Rejection
from cfbuild.errors import BuildStateError
from cfbuild.store.codec import decode_record, decode_rejection, encode_case, encode_record, encode_rejection
from cfbuild.store.folder import BuildFolder
from cfbuild.store.jsonl import Row, read_values
from cfbuild.store.runs import finished_runs
from cfbuild.store.schema import conforming
from cfbuild.views.terminal import Choice, choose


@dataclass(frozen=True, slots=True)
class Shown:
    """The chosen records, each with its case in the run called `run`; None if the build has no run.

    others: the names of the build's other runs.
    """

    records: tuple[tuple[Record, CaseScore | None], ...]
    run: str | None
    others: tuple[str, ...]


def chosen_records(folder: BuildFolder, choice: Choice, run: str | None = None) -> Shown:
    """Return the chosen records and their cases in the run called `run` (None: the first by name).

    Raises BuildStateError if the build has no records or no such run, ConfigError if `choice` fits no record.
    """
    from cfbuild.score.scored import read_cases  # loads numpy, which help does not need

    records = choose(read_values(folder.require("records.jsonl"), conforming("record", decode_record)), choice)
    case_ids = {record.case_id for record in records}
    runs = {found.name: found for found in finished_runs(folder)}
    name = next(iter(runs), None) if run is None else run
    chosen = runs.pop(name, None) if name is not None else None
    if run is not None and chosen is None:
        raise BuildStateError(f"{folder.root} has no run {run!r}; it has {', '.join(runs) or 'none'}")
    cases = {case.case_id: case for case in read_cases(chosen) if case.case_id in case_ids} if chosen else {}
    return Shown(
        records=tuple((record, cases.get(record.case_id)) for record in records),
        run=name,
        others=tuple(runs),
    )


def chosen_rejections(folder: BuildFolder, choice: Choice) -> list[Rejection]:
    """Return the chosen rejects. Raises BuildStateError if the build has none, ConfigError if `choice` fits none."""
    return choose(read_values(folder.require("rejected.jsonl"), conforming("rejected", decode_rejection)), choice)


def rows(folder: BuildFolder, choice: Choice, rejected: bool, run: str | None = None) -> Iterator[Row]:
    """Yield the chosen rows as JSON objects: rejects if `rejected`, else records with their run and case.

    Raises as `chosen_records` and `chosen_rejections`.
    """
    if rejected:
        yield from map(encode_rejection, chosen_rejections(folder, choice))
        return
    shown = chosen_records(folder, choice, run)
    for record, case in shown.records:
        yield {**encode_record(record), "run": shown.run, "case": encode_case(case) if case else None}
