"""report.html: one self-contained page with the figures, plots and a browsable table of records.

Nothing in it asks the network for anything, and its own content security policy forbids it to. The list of records is
one JSON block; prompts, probabilities and texts lie in compressed blocks of which one is unpacked when a record of it
is opened, so a page of 20,000 records opens as fast as one of twenty.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from cfbuild import __version__
from cfbuild.data import CaseScore, Record
from cfbuild.records.composition import ITEMS, composition
from cfbuild.records.groups import GROUPS
from cfbuild.score.table import BESIDE, BEYOND, HEADLINE
from cfbuild.text.safe import visible
from cfbuild.views.page.blocks import blocks, columns, to_json
from cfbuild.views.page.plots import plots

MEANING = {
    "S": "score: harmonic mean of ES, PS and NS",
    "ES": "efficacy: o* likelier than the true object after the rewrite prompt",
    "EM": "efficacy margin: P(o*) − P(true)",
    "PS": "paraphrase score: the same after paraphrases",
    "PM": "paraphrase margin",
    "NS": "neighborhood score: true object likelier after prompts about neighbours",
    "NM": "neighborhood margin: P(true) − P(o*)",
    "GE": "fluency: n-gram entropy of the generated texts",
    "RS": "consistency: TF-IDF similarity with reference texts about o*",
    "rewrite_exact": "o* is what greedy decoding says after the rewrite prompt",
    "paraphrase_exact": "the same after paraphrases",
    "neighborhood_exact": "greedy decoding says the true object about neighbours",
    "generation_mentions": "generated texts that name o*",
    **{name: group.meaning for name, group in GROUPS.items()},
}
"""What each figure of report.json is, in a line."""


@dataclass(frozen=True, slots=True)
class PageInput:
    """What a page is made of; `report` is report.json's content or None where nothing was scored.

    `dropped` is how many facts each rule rejected, `origin` what the page says about where the build comes from.
    """

    records: Sequence[Record]
    cases: Sequence[CaseScore] = ()
    report: Mapping[str, Any] | None = None
    dropped: Mapping[str, int] = field(default_factory=dict)
    origin: Mapping[str, str] = field(default_factory=dict)


def make_page(given: PageInput) -> Iterator[str]:
    """The page in pieces, for a writer. The same input gives the same bytes."""
    cases = {case.case_id: case for case in given.cases}
    script, style = _own("page.js"), _own("page.css")
    counted = composition(given.records)
    template = _environment().get_template("page.html")
    return template.generate(
        title=_title(given),
        version=__version__,
        script=Markup(script),
        style=Markup(style),
        script_hash=_digest(script),
        report=given.report,
        headline=_headline(given.report),
        composition=counted,
        items=ITEMS,
        plots=plots(given.records, cases, given.report, given.dropped),
        origin=given.origin,
        dropped=given.dropped,
        index=Markup(to_json(columns(given.records, cases))),
        blocks=blocks(given.records, cases),
        records=len(given.records),
    )


def _title(given: PageInput) -> str:
    if given.report is None:
        return f"{len(given.records):,} records"
    settings = given.report["settings"]
    return f"{settings['model']}, {settings['editor']}, {given.report['cases']:,} records"


def _headline(report: Mapping[str, Any] | None) -> list[tuple[str, str, list[str], bool]]:
    """Rows of the headline table: name, meaning, cells before and after, whether it stands beside the paper's."""
    if report is None:
        return []
    rows = []
    for name in (*HEADLINE, *BESIDE, *BEYOND):
        cells = [_cell(report["figures"][stage].get(name)) for stage in ("pre", "post")]
        if any(cells):
            rows.append((name, MEANING[name], cells, name not in HEADLINE))
    return rows


def _cell(figure: Mapping[str, float] | None) -> str:
    return f"{figure['mean']:.1f} ± {figure['half_width_95']:.1f}".replace("-", "−") if figure else ""


def _digest(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _own(name: str) -> str:
    return resources.files("cfbuild.views.page").joinpath(name).read_text(encoding="utf-8")


def _environment() -> Environment:
    environment = Environment(
        loader=FunctionLoader(lambda name: _own(f"{name}.j2")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["visible"] = visible
    environment.filters["thousands"] = lambda number: f"{number:,}" if isinstance(number, int) else f"{number:,.1f}"
    return environment
