"""The parts of the benchmark: each measures baseline and package in one run, and first whether they agree."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from benchmarks.families import SHAPES
from benchmarks.parts.editing import edit_exact, edit_fast, edit_mixed, kn, memit_z, ultraedit
from benchmarks.parts.likelihoods import ranking, scoring, scoring_narrow
from benchmarks.parts.texts import texts, texts_wide
from benchmarks.parts.traces import trace, trace_attribution
from benchmarks.parts.training import mend
from benchmarks.parts.whole import end_to_end, end_to_end_fast, end_to_end_texts, end_to_end_texts_fast
from benchmarks.shared import Row, SharedMeasurements

Part = Callable[[SharedMeasurements], Row]


def _of_family(shared: SharedMeasurements, family: str, part: Part) -> Row:
    """Return a part on a random model of another family, under that one's name, with its own least ratio."""
    row = part(shared.of_family(family))
    return replace(row, name=f"{family}, random: {row.name}", at_least=LEAST_OF_A_FAMILY)


LEAST_OF_A_FAMILY = 6
"""Families are to be as fast as the Llama kind, by ratio."""
FAMILIES: Mapping[str, Part] = {
    f"{family.replace('_', '-')}-{name}": partial(_of_family, family=family, part=part)
    for family in SHAPES
    for name, part in (("edit", edit_exact), ("scoring", scoring))
}
PARTS: Mapping[str, Part] = {
    "edit-exact": edit_exact,
    "edit-mixed": edit_mixed,
    "edit-fast": edit_fast,
    "memit-z": memit_z,
    "ultraedit": ultraedit,
    "scoring": scoring,
    "scoring-narrow": scoring_narrow,
    "ranking": ranking,
    "texts": texts,
    "texts-wide": texts_wide,
    "kn": kn,
    "mend": mend,
    "trace": trace,
    "trace-attribution": trace_attribution,
    **FAMILIES,
    "end-to-end": end_to_end,
    "end-to-end-fast": end_to_end_fast,
    "end-to-end-texts": end_to_end_texts,
    "end-to-end-texts-fast": end_to_end_texts_fast,
}
"""Comparisons by name, in the order in which they run."""
NARROW = ("edit-mixed", "scoring-narrow")
"""Parts whose point is bfloat16: without instructions for it they would take hours, and say nothing."""
