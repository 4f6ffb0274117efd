"""The finished runs of a build as values: each with its report, and its cases on request."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cfbuild.data import CaseScore
from cfbuild.errors import DataError
from cfbuild.score.cost import Cost, read_cost
from cfbuild.score.run_report import Report
from cfbuild.store.codec import decode_case
from cfbuild.store.folder import BuildFolder
from cfbuild.store.jsonl import read_json, read_values
from cfbuild.store.runs import CASES, REPORT, TIMING, Run, finished_runs
from cfbuild.store.schema import conforming


@dataclass(frozen=True, slots=True)
class ScoredRun:
    """A finished run and its report."""

    run: Run
    report: Report

    @property
    def name(self) -> str:
        """Return the run's name."""
        return self.run.name

    def scores_file(self, digest: str) -> bool:
        """Return True if the run scored the file with the sha256 `digest`, or does not know which file it scored."""
        return self.run.record.config.get("records") in (None, digest)

    @property
    def cost(self) -> Cost | None:
        """Return the cost of the run's edits, or None where it was not measured."""
        return read_cost(self.run.path(TIMING))

    def cases(self) -> Iterator[CaseScore]:
        """Yield the run's cases in their order. Raises DataError for a row that is not a case."""
        return read_cases(self.run)


def read_cases(run: Run) -> Iterator[CaseScore]:
    """Yield a run's cases in their order. Raises DataError for a row that is not a case."""
    yield from read_values(run.path(CASES), conforming("cases", decode_case))


def scored_runs(folder: BuildFolder) -> list[ScoredRun]:
    """Return the build's finished runs in the order of their names. Raises DataError for a file that is no report."""
    return [ScoredRun(run, _report(run)) for run in finished_runs(folder)]


def _report(run: Run) -> Report:
    try:
        return Report.of_dict(read_json(run.path(REPORT)))
    except DataError as error:
        raise DataError(f"{run.path(REPORT)}: {error}") from None
