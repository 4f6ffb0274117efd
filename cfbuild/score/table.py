"""The scores of all runs as the paper's Table 4. No model is needed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from cfbuild.records.kinds import KINDS
from cfbuild.score.cost import Cost
from cfbuild.score.marks import RULE, SIGNS, marks_of
from cfbuild.score.metrics import (
    METRICS,
    PERCENT,
    PERPLEXITY,
    TEXT_METRICS,
    Z_95,
    CaseValues,
    Figure,
    figures_as_dict,
    paired_differences,
    rounded,
)
from cfbuild.score.run_report import Report

HEADLINE = ("S", "ES", "EM", "PS", "PM", "NS", "NM", "GE", "RS")
"""Columns of the table, as in the paper's Table 4."""
GROUP_FIGURES = tuple(KINDS)
"""Scores of the groups that CounterFact does not have: share of prompts on which the right target wins."""
OTHER_FIGURES = tuple(
    name
    for name in (*(metric.name for metric in METRICS), *TEXT_METRICS, PERPLEXITY)
    if name not in (*HEADLINE, *GROUP_FIGURES)
)
"""Figures that are not the paper's, such as the exact matches that are easily confused with its metrics."""
UNEDITED = "unedited"
"""The name of the row of a model before any edit."""
TITLE = "scores times 100, mean ± 95% interval"
COSTS = ("s/edit", "MB")
"""Columns of the costs of editing: seconds for each record, and the highest rise of memory."""
COMPARED = {"records": "records (number@digest of the file)", "dtype": "number format"}
"""Settings that must be the same in runs whose figures are compared, with the words for them."""
STUDENTS_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)
"""Student's t of a 95% interval for 2 records, 3 and so on; for more than 16 it is at most an eighth more than 1.96."""
EMPTY: Mapping[str, Any] = MappingProxyType({})
REVISION_SHOWN = 8
"""Characters of a commit by which two revisions of a model are distinguished."""


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """A row of the table: a run after its edits, or an unedited model, whose `run`, `editor` and `signature` are None.

    `records` is the number of scored records; `without_edit` of them have no edit and count in no figure. `marks` are
    those of the figures (`marks.py`), `differences` the paired differences from the model's first run.
    """

    run: str | None
    editor: str | None
    model: str
    revision: str | None
    records: int
    without_edit: int
    figures: Mapping[str, Figure]
    signature: str | None
    marks: Mapping[str, str] = field(default_factory=dict)
    differences: Mapping[str, Figure] = field(default_factory=dict)
    cost: Cost | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the row for JSON, its figures under report.json's names."""
        return {
            "run": self.run,
            "editor": self.editor,
            "model": self.model,
            "revision": self.revision,
            "records": self.records,
            "without_edit": self.without_edit,
            "signature": self.signature,
            "figures": figures_as_dict(self.figures),
            "marks": dict(self.marks),
            "differences": figures_as_dict(self.differences),
            "cost": self.cost and self.cost.as_dict(),
        }

    def cell(self, name: str) -> Cell:
        """Return the cell of a column: a figure, or a cost."""
        if name in COSTS:
            return Cell(_cost_text(name, self.cost))
        return Cell(figure_text(self.figures.get(name)), self.marks.get(name, ""))


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table: its text, and the mark of its figure, empty for none."""

    text: str
    mark: str = ""

    @property
    def signed(self) -> str:
        """Return the text with the mark's sign behind it."""
        return self.text + SIGNS[self.mark]


@dataclass(frozen=True, slots=True)
class RowLine:
    """A line of a block: its row, the texts of the cells in front of its figures, and the cells of its figures."""

    row: ScoreRow
    labels: tuple[str, ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """A part of the table with heads of its own. The title is empty unless the part holds other values than scores."""

    title: str
    heads: tuple[str, ...]
    columns: tuple[str, ...]
    lines: tuple[RowLine, ...]

    def texts(self) -> list[tuple[str, ...]]:
        """Return each line's figures with the signs of their marks, padded so that the figures of a column align."""
        marked = [any(line.cells[place].mark for line in self.lines) for place in range(len(self.columns))]
        return [
            tuple(
                cell.signed if cell.mark or not has_marks else f"{cell.text} "
                for cell, has_marks in zip(line.cells, marked, strict=True)
            )
            for line in self.lines
        ]

    def part(self, start: int, stop: int) -> Block:
        """Return the block with the columns from number `start` up to `stop`, as a slice has them."""
        lines = (replace(line, cells=line.cells[start:stop]) for line in self.lines)
        return replace(self, columns=self.columns[start:stop], lines=tuple(lines))


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """The paper's Table 4 over any number of runs: of each model the unedited row, then a row for each run; remarks."""

    rows: tuple[ScoreRow, ...]
    remarks: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        reports: Mapping[str, Report],
        costs: Mapping[str, Cost | None] = EMPTY,
        values: Mapping[str, CaseValues] = EMPTY,
    ) -> ScoreTable:
        """Return the table of `reports`, given by run name; a model's runs follow each other in the order given.

        costs: of the runs, by name, as far as known. values: of the runs' cases, by name; differences need them.
        """
        models: dict[tuple[str, str | None], dict[str, Report]] = {}
        for name, report in reports.items():
            models.setdefault((report.model, report.revision), {})[name] = report
        rows = []
        for runs in models.values():
            unedited = _unedited_row(runs)
            marks = marks_of([report.figures["post"] for report in runs.values()], unedited.figures)
            first = next(iter(runs))
            rows.append(unedited)
            rows += [
                replace(
                    _run_row(name, report),
                    marks=marked,
                    differences=_differences(values, first, name),
                    cost=costs.get(name),
                )
                for (name, report), marked in zip(runs.items(), marks, strict=True)
            ]
        return cls(tuple(rows), (*_remarks(reports), *_neighbors(rows), *_about_rows(rows)))

    @property
    def sections(self) -> tuple[tuple[str, ...], ...]:
        """Return the names of the figures that any row has, in sections: the paper's, the others, the groups'."""
        known = {name for row in self.rows for name in row.figures}
        sections = (
            tuple(name for name in names if name in known) for names in (HEADLINE, OTHER_FIGURES, GROUP_FIGURES)
        )
        return tuple(section for section in sections if section)

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the names of the figures that any row has, in the table's order."""
        return tuple(name for section in self.sections for name in section)

    @property
    def models(self) -> tuple[str, ...]:
        """Return the models' names, with their revision where two have the same name."""
        return tuple(dict.fromkeys(self._model(row) for row in self.rows))

    @property
    def heads(self) -> tuple[str, ...]:
        """Return the heads of the columns in front of the figures, without those that would say nothing new."""
        heads = (
            ("run", True),
            ("editor", any(row.run != row.editor for row in self.rows)),
            ("model", len(self.models) > 1),
            ("records", True),
            ("no edit", any(row.without_edit for row in self.rows)),
        )
        return tuple(name for name, needed in heads if needed)

    def labels(self, row: ScoreRow) -> tuple[str, ...]:
        """Return the cells in front of a row's figures, in the order of `heads`."""
        cells = {
            "run": row.run or UNEDITED,
            "editor": row.editor or "",
            "model": self._model(row),
            "records": f"{row.records:,}",
            "no edit": f"{row.without_edit:,}" if row.without_edit else "",
        }
        return tuple(cells[name] for name in self.heads)

    def blocks(self) -> Iterator[Block]:
        """Yield a block for each section, the first with the costs at its end, then the blocks of differences."""
        for place, section in enumerate(self.sections):
            costs = COSTS if place == 0 and any(row.cost for row in self.rows) else ()
            columns = (*section, *(name for name in costs if any(row.cell(name).text for row in self.rows)))
            lines = (RowLine(row, self.labels(row), tuple(map(row.cell, columns))) for row in self.rows)
            yield Block("", self.heads, columns, tuple(lines))
        different = [row for row in self.rows if row.differences]
        for section in self.sections:
            columns = tuple(name for name in section if any(name in row.differences for row in different))
            if columns:
                yield self._difference_block(columns, different)

    def _difference_block(self, columns: Sequence[str], rows: Iterable[ScoreRow]) -> Block:
        lines = [
            RowLine(row, (str(row.run),), tuple(Cell(difference_text(row.differences.get(name))) for name in columns))
            for row in rows
        ]
        return Block(f"difference from {self.first}, paired by record", ("run",), tuple(columns), tuple(lines))

    @property
    def first(self) -> str:
        """Return the name of the run with which others of its model are compared; of several models, `A or B`."""
        firsts = [
            row.run for before, row in zip(self.rows, self.rows[1:], strict=False) if before.run is None and row.run
        ]
        return " or ".join(firsts)

    def as_text(self) -> str:
        """Return the table as aligned lines: its blocks, then the remarks."""
        texts = []
        for block in self.blocks():
            lines = [(*block.heads, *block.columns)]
            lines += [(*line.labels, *texts) for line, texts in zip(block.lines, block.texts(), strict=True)]
            texts.append("\n".join(filter(None, (block.title, _aligned(lines, len(block.heads))))))
        return "\n\n".join([*texts, *self.remarks])

    def as_dict(self) -> dict[str, Any]:
        """Return the table for JSON: `columns`, `rows`, `remarks`."""
        return {
            "columns": list(self.columns),
            "rows": [row.as_dict() for row in self.rows],
            "remarks": list(self.remarks),
        }

    def _model(self, row: ScoreRow) -> str:
        revisions = {same.revision for same in self.rows if same.model == row.model}
        return f"{row.model} ({str(row.revision)[:REVISION_SHOWN]})" if len(revisions) > 1 else row.model


def figure_text(figure: Figure | None) -> str:
    """Return a figure as `75.0 ± 3.2`; an empty text for None."""
    return f"{figure.mean:.1f} ± {figure.half_width:.1f}" if figure else ""


def difference_text(figure: Figure | None) -> str:
    """Return a difference as `+1.5 ± 0.8`; an empty text for None."""
    return f"{figure.mean:+.1f} ± {figure.half_width:.1f}" if figure else ""


def _cost_text(name: str, cost: Cost | None) -> str:
    if cost is None:
        return ""
    if name == COSTS[0]:
        return f"{cost.seconds_an_edit:.3g}"
    return "" if cost.memory_bytes is None else f"{cost.memory_bytes / 1e6:,.0f}"


def _differences(values: Mapping[str, CaseValues], first: str, name: str) -> dict[str, Figure]:
    """Return run `name`'s paired differences from the model's first run; none if it is the first, or without cases."""
    if name == first or first not in values or name not in values:
        return {}
    return rounded(paired_differences(values[first], values[name]))


def _about_rows(rows: Sequence[ScoreRow]) -> Iterator[str]:
    """Yield sentences that explain the marks of rows, their costs and their figures that are not times 100, if any."""
    if any(row.marks for row in rows):
        yield RULE
    yield from _few_records(rows)
    if any(PERPLEXITY in row.figures for row in rows):
        yield f"{PERPLEXITY} is a fixed text's under the changed weights and not times 100; the lowest is the best."
    for metric in METRICS:
        if metric.scale != PERCENT and any(metric.name in row.figures for row in rows):
            yield f"{metric.name} is not times 100: {metric.meaning}."
    costs = {row.run: row.cost for row in rows if row.cost is not None}
    if costs:
        together = ", ".join(f"{run} {cost.together}" for run, cost in costs.items())
        devices = " and ".join(dict.fromkeys(cost.device for cost in costs.values()))
        yield (
            f"{COSTS[0]} is seconds of editing for each record on {devices}, {COSTS[1]} the most memory (10^6 bytes) "
            "that a call of the editor took beyond what was in use before; both without scoring, contexts, covariances "
            f"and training. Records in a call: {together}."
        )


def _few_records(rows: Sequence[ScoreRow]) -> Iterator[str]:
    """Yield a sentence on the intervals of the row with the fewest records, if it has too few of them."""
    fewest = min((row.records - row.without_edit for row in rows), default=0)
    if 2 <= fewest < len(STUDENTS_T) + 2:
        wider = STUDENTS_T[fewest - 2] * math.sqrt(fewest / (fewest - 1)) / Z_95
        yield (
            f"{fewest} records are few for intervals of {Z_95} standard errors: by Student's t a mean's interval, or a "
            f"paired difference's, is {wider:.1f} times as wide."
        )


def _run_row(name: str, report: Report) -> ScoreRow:
    return ScoreRow(
        run=name,
        editor=report.editor,
        model=report.model,
        revision=report.revision,
        records=report.cases,
        without_edit=sum(report.faults.values()),
        figures=report.figures["post"],
        signature=report.signature,
    )


def _unedited_row(runs: Mapping[str, Report]) -> ScoreRow:
    """Return the row of the model before any edit, from the run with most records and, of these, most figures."""
    report = max(runs.values(), key=lambda report: (report.cases, len(report.figures["pre"])))
    return ScoreRow(None, None, report.model, report.revision, report.cases, 0, report.figures["pre"], None)


def _remarks(reports: Mapping[str, Report]) -> list[str]:
    """Return a sentence for each setting of COMPARED in which the runs differ, then the remarks on each run."""
    found = []
    for key, words in COMPARED.items():
        values = {name: report.settings.get(key) for name, report in reports.items()}
        if len(set(map(str, values.values()))) > 1:
            by_run = ", ".join(f"{name} {value}" for name, value in values.items())
            found.append(f"The runs do not have the same {words}: {by_run}.")
    return [*found, *(remark for name, report in reports.items() for remark in report.remarks(name))]


def _neighbors(rows: Iterable[ScoreRow]) -> Iterator[str]:
    """Yield a sentence on the number of prompts of NS; several, naming the runs, where it differs."""
    runs_by_count: dict[str, list[str]] = {}
    for row in rows:
        figure = row.figures.get("NS")
        if figure is not None and figure.prompts:
            count = f"{figure.prompts:,} neighborhood prompts of {figure.cases:,} records"
            runs_by_count.setdefault(count, []).append(row.run or UNEDITED)
    for count, runs in runs_by_count.items():
        names = f" ({', '.join(runs)})" if len(runs_by_count) > 1 else ""
        yield f"NS is over {count}{names}."


def _aligned(lines: Sequence[Sequence[str]], left: int) -> str:
    """Return lines of cells as text in columns: the first `left` columns aligned to the left, the others right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
