"""`cfbuild show`: the chosen rows of a build, with their scores where it has any."""

from __future__ import annotations

from collections.abc import Iterator

from cfbuild.data import CaseScore, Record, Rejection
from cfbuild.store.codec import (
    decode_case,
    decode_record,
    decode_rejection,
    encode_case,
    encode_record,
    encode_rejection,
)
from cfbuild.store.folder import BuildFolder
from cfbuild.store.jsonl import Row, read_values
from cfbuild.store.runs import CASES, chosen_run
from cfbuild.store.schema import conforming
from cfbuild.views.terminal import Choice, choose


def chosen_records(folder: BuildFolder, choice: Choice) -> list[tuple[Record, CaseScore | None]]:
    """The chosen records and what was scored of each. Raises BuildStateError if the build has no records, ConfigError
    if it has none of the chosen ones."""
    records = choose(read_values(folder.require("records.jsonl"), conforming("record", decode_record)), choice)
    wanted = {record.case_id for record in records}
    run = chosen_run(folder, None)
    scored = read_values(run.path(CASES), conforming("cases", decode_case)) if run else iter(())
    cases = {case.case_id: case for case in scored if case.case_id in wanted}
    return [(record, cases.get(record.case_id)) for record in records]


def chosen_rejections(folder: BuildFolder, choice: Choice) -> list[Rejection]:
    """The chosen rejects; raises as `chosen_records` does."""
    return choose(read_values(folder.require("rejected.jsonl"), conforming("rejected", decode_rejection)), choice)


def rows(folder: BuildFolder, choice: Choice, rejected: bool) -> Iterator[Row]:
    """The chosen rows as JSON: records with what was scored of them under `case`, or rejects."""
    if rejected:
        yield from map(encode_rejection, chosen_rejections(folder, choice))
        return
    for record, case in chosen_records(folder, choice):
        yield {**encode_record(record), "case": encode_case(case) if case else None}
