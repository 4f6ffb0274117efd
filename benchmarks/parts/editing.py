"""Edits: ROME, MEMIT's z, UltraEdit and KN's attribution; the share of the peak; the curve over records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch

from benchmarks import plain
from benchmarks.agreement import different, figures, value_distance
from benchmarks.measure import Timed, count_flops, peak_flops
from benchmarks.shared import Row, SharedMeasurements, mean
from benchmarks.world import fast, requests
from cfbuild.data import Record
from cfbuild.edit.corpus import of_texts
from cfbuild.edit.editor import open_editor, settled_options
from cfbuild.edit.kn import Kn, KnOptions
from cfbuild.edit.rome import Rome
from cfbuild.edit.rome.optimise import TargetValue, ValueOptimiser
from cfbuild.edit.supplies import ModelSupplies, build_corpus
from cfbuild.edit.ultraedit import UltraEdit
from cfbuild.lm.products import narrow_is_fast

TURNS = 3
"""Of edits and best products, for the share of the peak."""


def edit_exact(shared: SharedMeasurements) -> Row:
    far = max(
        value_distance(edit, plain_edit.result)
        for edit, plain_edit in zip(shared.spread(shared.exact.result), shared.plain_edits, strict=True)
    )
    return Row(
        "ROME edit, exact, float32",
        mean(shared.plain_edits),
        shared.exact.seconds / shared.many,
        6,
        f"v* of {shared.few} records equal within {far:.1e} relative (limit 1e-3)",
        far < 1e-3,
        shared.many,
    )


def edit_mixed(shared: SharedMeasurements) -> Row:
    cases = shared.cases(shared.mixed.result).result
    share = different(shared.exact_cases.result, cases)
    return Row(
        "ROME edit, same rows and steps, bfloat16 products",
        mean(shared.plain_edits),
        shared.mixed.seconds / shared.many,
        10,
        f"{100 * (1 - share):.2f}% of decisions equal (limit 99.5%)",
        share <= 0.005,
        shared.many,
    )


def edit_fast(shared: SharedMeasurements) -> Row:
    exact, fast = (figures(cases) for cases in (shared.exact_cases.result, shared.cases(shared.fast.result).result))
    return Row(
        "ROME edit, fast",
        mean(shared.plain_edits),
        shared.fast.seconds / shared.many,
        20 if narrow_is_fast(shared.lm.device) else 15,
        ", ".join(f"{name} {exact[name]:.1f} -> {fast[name]:.1f}" for name in ("ES", "PS", "NS", "S")),
        abs(exact["S"] - fast["S"]) <= 1,
        shared.many,
    )


def memit_z(shared: SharedMeasurements) -> Row:
    """z of MEMIT, by turns like ROME's edits: what its edits spend nearly all of their time on."""
    lm, records = shared.lm, shared.records
    supplies = ModelSupplies(lm, corpus=lambda: of_texts("none", []))
    options = replace(settled_options("memit", lm, {}), contexts=supplies.contexts("memit"))
    optimiser = ValueOptimiser(lm, options, of_layer=True)
    dict(optimiser.values(requests(records[:1])))  # caches and threads are warm
    theirs: list[Timed] = []
    ours: list[Timed] = []
    for i, record in enumerate(shared.spread(records)):
        part = records[i * len(records) // shared.few : (i + 1) * len(records) // shared.few]
        theirs.append(shared.timed(f"baseline z {i + 1}", partial(plain.layer_output, lm, record, options)))
        ours.append(shared.timed(f"z of {len(part)}", partial(_values, optimiser, part)))
    found = [turn.result[place].target_output for turn in ours for place in sorted(turn.result)]
    far = max(
        float((z - plain_z.result).norm() / plain_z.result.norm())
        for z, plain_z in zip(shared.spread(found), theirs, strict=True)
    )
    return Row(
        "MEMIT's z, float32",
        mean(theirs),
        sum(turn.seconds for turn in ours) / len(records),
        6,
        f"z of {shared.few} records equal within {far:.1e} relative (limit 1e-3)",
        far < 1e-3,
        len(records),
    )


def _values(optimiser: ValueOptimiser, records: Sequence[Record]) -> dict[int, TargetValue]:
    return dict(optimiser.values(requests(records)))


def ultraedit(shared: SharedMeasurements) -> Row:
    """UltraEdit against an edit of rome-fast; its gradients against the plain way's."""
    lm, records = shared.lm, shared.records
    editor = open_editor("ultraedit", lm, {}, ModelSupplies(lm, lambda: build_corpus(records, ()))).editor
    assert isinstance(editor, UltraEdit)
    editor.edit(requests(records[:2]))  # caches and threads are warm
    fast_edits = shared.fast
    took = shared.timed(f"UltraEdit's edits of {len(records)}", lambda: editor.edit(requests(records)))
    few = shared.spread(records)
    rows, _ = editor.rows(requests(few))
    theirs = [plain.gradients(lm, one, editor.weights) for one in few]
    expected = [torch.cat(column) for column in zip(*theirs, strict=True)]
    far = max(
        float((row.gradients - expected_row.cpu()).norm() / expected_row.norm())
        for row, expected_row in zip(rows.values(), expected, strict=True)
    )
    return Row(
        "UltraEdit, beside an edit of rome-fast",
        fast_edits.seconds / shared.many,
        took.seconds / shared.many,
        10,
        f"gradients of {shared.few} records equal within {far:.1e} relative to the plain way's (limit 1e-3)",
        far < 1e-3,
        shared.many,
    )


def kn(shared: SharedMeasurements) -> Row:
    """Ours on all records, since those of a batch share the reading of the weights; the baseline on a few of them.

    A record's cost depends on the tokens of its prompt and of its object, so theirs is a mean over records spread over
    all.
    """
    editor = Kn(shared.lm, KnOptions())
    editor.attributions(requests(shared.records[:1]))  # caches and threads are warm
    ours = shared.timed(f"KN attribution of {shared.many}", partial(editor.attributions, requests(shared.records)))
    theirs = []
    for record in shared.spread(shared.records):
        prompt, target = shared.lm.encode(record.rewrite), shared.lm.continuation(record.target_true.label)
        work = partial(plain.attribute, shared.lm, prompt, target, editor.options.steps)
        theirs.append(shared.timed("baseline KN attribution", work))
    far = max(
        float((found[0] - plain_result.result).abs().max() / plain_result.result.abs().max())
        for found, plain_result in zip(shared.spread(ours.result), theirs, strict=True)
    )
    return Row(
        "KN attribution, all layers, 20 steps",
        mean(theirs),
        ours.seconds / shared.many,
        20,
        f"attributions of {shared.few} records equal within {far:.1e} of the largest (limit 1e-3)",
        far < 1e-3,
        shared.many,
    )


def share_of_peak(shared: SharedMeasurements) -> dict[str, float]:
    """Operations of some exact edits against what the machine's matrix products could have done in that time.

    Edits and the best products are timed by turns, since a machine's speed drifts.
    """
    batch = requests(shared.spread(shared.records, min(12, shared.many)))
    flops = count_flops(lambda: shared.world.rome.edit(batch))
    possible = seconds = 0.0
    for _ in range(TURNS):
        took = shared.timed(f"exact edits of {len(batch)}", lambda: shared.world.rome.edit(batch)).seconds
        possible += took * peak_flops(shared.lm.device, shared.lm.dtype)
        seconds += took
    return {
        "tflop_per_edit": flops / len(batch) / 1e12,
        "share_of_peak": TURNS * flops / possible,
        "peak_gflops": possible / seconds / 1e9,
    }


def curve(shared: SharedMeasurements, counts: Sequence[int], steps: int) -> dict[str, list[tuple[int, float]]]:
    """Seconds per record by how many records a call edits, of edits of some steps: always the same records.

    Calls of few records take these in turn, and one of more takes them again and again. The baseline edits one record
    at a time, whatever it is given.
    """
    chosen = shared.spread(shared.records, min(shared.many, counts[-1]))
    world, brief = shared.world, replace(shared.world.options, steps=steps)

    def seconds(name: str, editor: Rome, count: int) -> float:
        batch = requests(chosen * -(-count // len(chosen)))
        calls = [batch[start : start + count] for start in range(0, len(batch), count)]
        took = shared.timed(f"{name}, calls of {count} records", lambda: [editor.edit(call) for call in calls]).seconds
        return took / len(batch)

    editors = {
        "exact": world.editor(lambda _: brief),
        "fast": world.editor(lambda _: fast(brief, world.lm.device)),
    }
    lines = {name: [(count, seconds(name, editor, count)) for count in counts] for name, editor in editors.items()}
    theirs = mean(
        [
            shared.timed("baseline edit", partial(plain.edit, world.lm, record, brief, world.covariance))
            for record in shared.spread(chosen)
        ]
    )
    return {**lines, "baseline": [(1, theirs), (shared.few, theirs)]}
