"""report.html: a self-contained page with the figures of all runs, plots and a browsable table of records.

It uses no network, and its content security policy forbids it to. The list of records is a JSON block, with another
for each run. Prompts, and each run's probabilities and texts, are in compressed blocks. A block is unpacked when a
record in it is opened, so a page of 20,000 records opens as fast as one of twenty. Plots and list show a single run at
a time. Records and cases are read from streams (`shown.py`), so few are in memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from cfbuild import __version__
from cfbuild.records.composition import ITEMS
from cfbuild.score.marks import SIGNS
from cfbuild.score.matrix import SHOWN
from cfbuild.score.metrics import METRICS, Figure
from cfbuild.score.run_report import STAGES, Report
from cfbuild.score.swept import SweepReport
from cfbuild.score.table import COSTS, GROUP_FIGURES, HEADLINE, OTHER_FIGURES, ScoreTable, figure_text
from cfbuild.views.html import environment, page_part, script_digest
from cfbuild.views.page.blocks import to_json
from cfbuild.views.page.drawing import Plot
from cfbuild.views.page.plots import ORDER, record_plots, run_plots
from cfbuild.views.page.shown import ShownCases, ShownRecords

MEANING = {
    "S": "score: harmonic mean of ES, PS and NS",
    "GE": "fluency: n-gram entropy of the generated texts",
    "RS": "consistency: TF-IDF similarity with reference texts about o*",
    "generation_mentions": "generated texts that name o*",
    "distinct_1": "distinct words of the generated texts for each of their words",
    "distinct_2": "distinct pairs of words for each word",
    "perplexity": "of a fixed text under the changed weights, not times 100; lower is better",
    "in_use_rewrite": "answers by themselves to the rewrite prompt that name o*, and not the true object before",
    "in_use_paraphrase": "the same after paraphrases",
    "s/edit": "seconds of editing for each record",
    "MB": "memory that editing took at its most, in 10^6 bytes",
    **{metric.name: metric.meaning for metric in METRICS},
}
"""The meaning of each figure of report.json, in a line of text."""


@dataclass(frozen=True, slots=True)
class RunView:
    """A run as the page shows it: rows of its figures, plots by key, the list's columns, and compressed details.

    A row of `figures` is (name, meaning, [cell before, cell after], True if it is not in the paper's table).
    """

    name: str
    report: Report
    figures: Sequence[tuple[str, str, list[str], bool]]
    plots: Mapping[str, Plot]
    columns: Markup
    blocks: Sequence[str]


@dataclass(frozen=True, slots=True)
class SweepView:
    """A sweep as the page shows it: its report, and the plots over the layers."""

    name: str
    report: SweepReport
    plots: Sequence[Plot]


def make_page(
    records: ShownRecords, runs: Sequence[RunView], table: ScoreTable, dropped: Mapping[str, int], **shown: Any
) -> Iterator[str]:
    """Return an iterator over the page's text in pieces, for a writer. The same input gives the same bytes.

    dropped: the number of facts that each rule rejected. shown: what the template shows as it is: `origin`, what the
    build is made of, as texts by name; `left_out`, the runs that scored another file than these records; `traces`,
    `sweeps`; `matrices`, those across languages, by name.
    """
    script, style = page_part("page", "page.js"), page_part("page", "page.css")
    template = _environment().get_template("page.html")
    return template.generate(
        title=_title(records.count, table),
        version=__version__,
        script=Markup(script),
        style=Markup(style),
        script_hash=script_digest(script),
        table=table,
        sections=frozenset(section[0] for section in table.sections[1:]),  # those after the paper's own
        costs=[name for name in COSTS if any(row.cell(name).text for row in table.rows)],
        differences=[block for block in table.blocks() if block.title],
        meaning=MEANING,
        signs=SIGNS,
        across=SHOWN,
        runs=runs,
        composition=records.composition,
        items=ITEMS,
        plots=_in_order(record_plots(records.shares, dropped), runs),
        index=Markup(to_json(records.index())),
        blocks=records.blocks,
        records=records.count,
        listed=len(records.case_ids),
        **shown,
    )


def run_view(name: str, report: Report, cases: ShownCases) -> RunView:
    """Return a run as the page shows it. cases: of the run, as far as the page needs them."""
    return RunView(
        name=name,
        report=report,
        figures=_figure_rows(report),
        plots=run_plots(cases.points, report),
        columns=Markup(to_json(cases.columns())),
        blocks=list(cases.blocks()),
    )


def _title(records: int, table: ScoreTable) -> str:
    runs = [row for row in table.rows if row.run is not None]
    if not runs:
        return f"{records:,} records"
    models = ", ".join(table.models)
    if len(runs) > 1:
        return f"{models}, {len(runs)} runs, {records:,} records"
    return f"{models}, {runs[0].editor}, {runs[0].records:,} records"


def _figure_rows(report: Report) -> list[tuple[str, str, list[str], bool]]:
    rows = []
    for name in (*HEADLINE, *OTHER_FIGURES, *GROUP_FIGURES):
        cells = [_cell(report.figures[stage].get(name)) for stage in STAGES]
        if any(cells):
            rows.append((name, MEANING[name], cells, name not in HEADLINE))
    return rows


def _in_order(shared: Mapping[str, Plot], runs: Sequence[RunView]) -> list[tuple[int | None, Plot]]:
    """Return (place of the run in `runs`, plot) in the page's order; the place is None for the plots of no run."""
    found: list[tuple[int | None, Plot]] = []
    for key in ORDER:
        found += [(place, run.plots[key]) for place, run in enumerate(runs) if key in run.plots]
        found += [(None, shared[key])] if key in shared else []
    return found


def _cell(figure: Figure | None) -> str:
    return figure_text(figure).replace("-", "−")


def _environment() -> Environment:
    made = environment("page")
    made.filters["figure"] = _cell
    made.filters["minus"] = lambda number: f"{number:.1f}".replace("-", "−")
    made.filters["thousands"] = lambda number: f"{number:,}" if isinstance(number, int) else f"{number:,.1f}"
    return made
