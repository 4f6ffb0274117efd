"""Edits: ROME, MEMIT's z, UltraEdit and KN's attribution; the share of the peak; the curve over records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch

from benchmarks import plain
from benchmarks.agreement import different, figures, value_distance
from benchmarks.bench import Bench, Row, mean
from benchmarks.measure import Timed, count_flops, peak_flops
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


def edit_exact(bench: Bench) -> Row:
    far = max(
        value_distance(edit, one.result)
        for edit, one in zip(bench.spread(bench.exact.result), bench.plain_edits, strict=True)
    )
    return Row(
        "ROME edit, exact, float32",
        mean(bench.plain_edits),
        bench.exact.seconds / bench.many,
        6,
        f"v* of {bench.few} records equal within {far:.1e} relative (limit 1e-3)",
        far < 1e-3,
        bench.many,
    )


def edit_mixed(bench: Bench) -> Row:
    cases = bench.cases(bench.mixed.result).result
    share = different(bench.exact_cases.result, cases)
    return Row(
        "ROME edit, same rows and steps, bfloat16 products",
        mean(bench.plain_edits),
        bench.mixed.seconds / bench.many,
        10,
        f"{100 * (1 - share):.2f}% of decisions equal (limit 99.5%)",
        share <= 0.005,
        bench.many,
    )


def edit_fast(bench: Bench) -> Row:
    exact, fast = (figures(cases) for cases in (bench.exact_cases.result, bench.cases(bench.fast.result).result))
    return Row(
        "ROME edit, fast",
        mean(bench.plain_edits),
        bench.fast.seconds / bench.many,
        20 if narrow_is_fast(bench.lm.device) else 15,
        ", ".join(f"{name} {exact[name]:.1f} -> {fast[name]:.1f}" for name in ("ES", "PS", "NS", "S")),
        abs(exact["S"] - fast["S"]) <= 1,
        bench.many,
    )


def memit_z(bench: Bench) -> Row:
    """z of MEMIT, by turns like ROME's edits: what its edits spend nearly all of their time on."""
    lm, records = bench.lm, bench.records
    supplies = ModelSupplies(lm, corpus=lambda: of_texts("none", []))
    options = replace(settled_options("memit", lm, {}), contexts=supplies.contexts("memit"))
    optimiser = ValueOptimiser(lm, options, of_layer=True)
    dict(optimiser.values(requests(records[:1])))  # caches and threads are warm
    theirs: list[Timed] = []
    ours: list[Timed] = []
    for i, record in enumerate(bench.spread(records)):
        part = records[i * len(records) // bench.few : (i + 1) * len(records) // bench.few]
        theirs.append(bench.timed(f"baseline z {i + 1}", partial(plain.layer_output, lm, record, options)))
        ours.append(bench.timed(f"z of {len(part)}", partial(_values, optimiser, part)))
    found = [turn.result[place].target_output for turn in ours for place in sorted(turn.result)]
    far = max(
        float((z - one.result).norm() / one.result.norm()) for z, one in zip(bench.spread(found), theirs, strict=True)
    )
    return Row(
        "MEMIT's z, float32",
        mean(theirs),
        sum(turn.seconds for turn in ours) / len(records),
        6,
        f"z of {bench.few} records equal within {far:.1e} relative (limit 1e-3)",
        far < 1e-3,
        len(records),
    )


def _values(optimiser: ValueOptimiser, records: Sequence[Record]) -> dict[int, TargetValue]:
    return dict(optimiser.values(requests(records)))


def ultraedit(bench: Bench) -> Row:
    """UltraEdit against an edit of rome-fast; its gradients against the plain way's."""
    lm, records = bench.lm, bench.records
    editor = open_editor("ultraedit", lm, {}, ModelSupplies(lm, lambda: build_corpus(records, ()))).editor
    assert isinstance(editor, UltraEdit)
    editor.edit(requests(records[:2]))  # caches and threads are warm
    fast_edits = bench.fast
    took = bench.timed(f"UltraEdit's edits of {len(records)}", lambda: editor.edit(requests(records)))
    some = bench.spread(records)
    rows, _ = editor.rows(requests(some))
    theirs = [plain.gradients(lm, one, editor.weights) for one in some]
    expected = [torch.cat(column) for column in zip(*theirs, strict=True)]
    far = max(
        float((row.gradients - other.cpu()).norm() / other.norm())
        for row, other in zip(rows.values(), expected, strict=True)
    )
    return Row(
        "UltraEdit, beside an edit of rome-fast",
        fast_edits.seconds / bench.many,
        took.seconds / bench.many,
        10,
        f"gradients of {bench.few} records equal within {far:.1e} relative to the plain way's (limit 1e-3)",
        far < 1e-3,
        bench.many,
    )


def kn(bench: Bench) -> Row:
    """Ours on all records, since those of a batch share the reading of the weights; the baseline on a few of them.

    A record's cost depends on the tokens of its prompt and of its object, so theirs is a mean over records spread over
    all.
    """
    editor = Kn(bench.lm, KnOptions())
    editor.attributions(requests(bench.records[:1]))  # caches and threads are warm
    ours = bench.timed(f"KN attribution of {bench.many}", partial(editor.attributions, requests(bench.records)))
    theirs = []
    for record in bench.spread(bench.records):
        prompt, target = bench.lm.encode(record.rewrite), bench.lm.continuation(record.target_true.label)
        work = partial(plain.attribute, bench.lm, prompt, target, editor.options.steps)
        theirs.append(bench.timed("baseline KN attribution", work))
    far = max(
        float((found[0] - one.result).abs().max() / one.result.abs().max())
        for found, one in zip(bench.spread(ours.result), theirs, strict=True)
    )
    return Row(
        "KN attribution, all layers, 20 steps",
        mean(theirs),
        ours.seconds / bench.many,
        20,
        f"attributions of {bench.few} records equal within {far:.1e} of the largest (limit 1e-3)",
        far < 1e-3,
        bench.many,
    )


def share_of_peak(bench: Bench) -> dict[str, float]:
    """Operations of some exact edits against what the machine's matrix products could have done in that time.

    Edits and the best products are timed by turns, since a machine's speed drifts.
    """
    some = requests(bench.spread(bench.records, min(12, bench.many)))
    flops = count_flops(lambda: bench.world.rome.edit(some))
    possible = seconds = 0.0
    for _ in range(TURNS):
        took = bench.timed(f"exact edits of {len(some)}", lambda: bench.world.rome.edit(some)).seconds
        possible += took * peak_flops(bench.lm.device, bench.lm.dtype)
        seconds += took
    return {
        "tflop_per_edit": flops / len(some) / 1e12,
        "share_of_peak": TURNS * flops / possible,
        "peak_gflops": possible / seconds / 1e9,
    }


def curve(bench: Bench, counts: Sequence[int], steps: int) -> dict[str, list[tuple[int, float]]]:
    """Seconds per record by how many records a call edits, of edits of some steps: always the same records.

    Calls of few records take these in turn, and one of more takes them again and again. The baseline edits one record
    at a time, whatever it is given.
    """
    chosen = bench.spread(bench.records, min(bench.many, counts[-1]))
    world, brief = bench.world, replace(bench.world.options, steps=steps)

    def seconds(name: str, editor: Rome, count: int) -> float:
        some = requests(chosen * -(-count // len(chosen)))
        calls = [some[start : start + count] for start in range(0, len(some), count)]
        took = bench.timed(f"{name}, calls of {count} records", lambda: [editor.edit(call) for call in calls]).seconds
        return took / len(some)

    editors = {
        "exact": world.editor(lambda _: brief),
        "fast": world.editor(lambda _: fast(brief, world.lm.device)),
    }
    lines = {name: [(count, seconds(name, editor, count)) for count in counts] for name, editor in editors.items()}
    theirs = mean(
        [
            bench.timed("baseline edit", partial(plain.edit, world.lm, record, brief, world.covariance))
            for record in bench.spread(chosen)
        ]
    )
    return {**lines, "baseline": [(1, theirs), (bench.few, theirs)]}
