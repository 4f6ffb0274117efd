"""What is compared: each part measures the baseline and the package in one run, and first whether they agree."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from itertools import islice
from typing import Any

import numpy as np
import torch

from benchmarks import plain, plain_mend, plain_texts, plain_trace
from benchmarks.measure import Timed, count_flops, peak_flops, timed
from benchmarks.world import World, requests
from cfbuild.data import CaseScore, Record
from cfbuild.edit.corpus import of_texts
from cfbuild.edit.editor import Edit, open_editor, settled_options
from cfbuild.edit.kn import Kn, KnOptions
from cfbuild.edit.rome import Rome
from cfbuild.edit.rome.optimise import TargetValue, ValueOptimiser
from cfbuild.edit.rome.options import fast
from cfbuild.edit.supplies import ModelSupplies, build_corpus
from cfbuild.edit.trained.artefact import new_network
from cfbuild.edit.trained.lessons import record_lessons, split
from cfbuild.edit.trained.training import Training, TrainingSettings
from cfbuild.edit.ultraedit import UltraEdit
from cfbuild.lm.fused import fused_layers
from cfbuild.lm.likelihood import Question, score
from cfbuild.lm.load import load
from cfbuild.lm.model import LanguageModel
from cfbuild.lm.sample import generate
from cfbuild.pipeline.validate_and_score import EvaluateOptions, evaluate
from cfbuild.probe.settings import ATTRIBUTION, EXACT, KINDS, TraceSettings
from cfbuild.probe.tracer import Tracer, fact_to_trace
from cfbuild.records.prompts import prompts_of
from cfbuild.score.cases import GENERATION_TOKENS, score_cases
from cfbuild.score.metrics import aggregate
from cfbuild.store.codec import decode_entity, decode_fact, encode_record
from cfbuild.store.folder import BuildFolder
from cfbuild.store.jsonl import read_values, write_json

POOL = 128
"""Objects of the ranking."""
END_TO_END = 30
"""Records of the whole command."""
MEND_EDITS, MEND_RANK, MEND_TEXT_TOKENS = 10, 256, 24
"""Edits of a training step, rank and tokens of a general text: the defaults of `train-editor`."""
TEXT_RECORDS, RELEASED_TEXTS = 16, 10
"""Records whose texts are written together, and the texts of a call of the released code: one record's."""
DRAWS = 2000
"""Draws after one prompt, by which the law of sampling is checked."""
TURNS = 3
"""Of edits and best products, for the share of the peak."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. Seconds are per record; `agrees` says what was compared and what came out."""

    name: str
    baseline_s: float
    ours_s: float
    at_least: float
    agrees: str
    equal: bool
    records: int

    @property
    def ratio(self) -> float:
        return self.baseline_s / self.ours_s


@dataclass(frozen=True, slots=True)
class Turn:
    """One edit of the baseline, and some exact ones."""

    baseline: Timed
    exact: Timed


@dataclass
class Bench:
    """Measurements that several rows share are made once. `few` records are enough for the baseline, whose cost per
    record is flat: it takes them one at a time.

    Records come relation by relation, and some relations' prompts are longer, so the few are spread evenly over all.
    """

    world: World
    few: int
    many: int
    note: Callable[[str], None] = lambda text: None

    @property
    def lm(self) -> LanguageModel:
        return self.world.lm

    @property
    def records(self) -> Sequence[Record]:
        return self.world.records[: self.many]

    def spread(self, items: Sequence[Any], count: int | None = None) -> list[Any]:
        """`count` (or `few`) of one item a record, evenly from all."""
        count = count or self.few
        return [items[i * len(items) // count] for i in range(count)]

    def timed(self, what: str, work: Callable[[], Any]) -> Timed:
        self.note(what)
        return timed(work, self.lm.device)

    # ---------------------------------------------------------------------------------------------- the baseline

    @cached_property
    def turns(self) -> list[Turn]:
        """The baseline and exact edits by turns: a machine's speed drifts, and both should meet all of it."""
        world = self.world
        world.rome.edit(requests(self.records[:1]))  # caches and threads are warm
        turns = []
        ends = [i * len(self.records) // self.few for i in range(self.few + 1)]
        for i, record in enumerate(self.spread(self.records)):
            part = self.records[ends[i] : ends[i + 1]]
            theirs = self.timed(
                f"baseline edit {i + 1}/{self.few}",
                partial(plain.edit, self.lm, record, world.options, world.covariance),
            )
            ours = self.timed(f"exact edits of {len(part)}", partial(world.rome.edit, requests(part)))
            turns.append(Turn(theirs, ours))
        return turns

    @property
    def plain_edits(self) -> list[Timed]:
        return [turn.baseline for turn in self.turns]

    @cached_property
    def plain_scores(self) -> list[Timed]:
        """NLLs [prompts, targets] before and after the exact edits, so that only scoring is compared."""
        return [
            self.timed("baseline scoring", partial(self._score_plain, record, edit))
            for record, edit in zip(self.spread(self.records), self.spread(self.exact.result), strict=True)
        ]

    def _score_plain(self, record: Record, edit: Edit) -> tuple[list[list[float]], list[list[float]]]:
        prompts = [text for _, text, _, _ in prompts_of(record)]
        targets = (record.target_new.label, record.target_true.label)
        before = plain.score(self.lm, prompts, targets)
        assert edit.delta is not None
        with plain.edited(self.lm, self.world.options.layer, edit.delta.only.matrix()):
            return before, plain.score(self.lm, prompts, targets)

    # ---------------------------------------------------------------------------------------------------- our own

    def edits(self, what: str, editor: Rome) -> Timed:
        editor.edit(requests(self.records[:1]))  # caches and threads are warm, as the baseline's are
        return self.timed(f"{what} edits of {len(self.records)}", lambda: editor.edit(requests(self.records)))

    @property
    def exact(self) -> Timed:
        edits = [edit for turn in self.turns for edit in turn.exact.result]
        return Timed(edits, sum(turn.exact.seconds for turn in self.turns))

    @cached_property
    def mixed(self) -> Timed:
        return self.edits("mixed", self.world.editor(partial(replace, products="bfloat16")))

    @cached_property
    def fast(self) -> Timed:
        return self.edits("fast", self.world.editor(partial(fast, device=self.lm.device)))

    def cases(self, edits: Sequence[Edit], lm: LanguageModel | None = None) -> Timed:
        return self.timed("scoring", lambda: score_cases(lm or self.lm, self.records, edits, "rome"))

    @cached_property
    def tracer(self) -> Tracer:
        """What traces: its noise is measured on all records' subjects."""
        return Tracer.of(self.lm, TraceSettings(kinds=KINDS), [record.subject.label for record in self.records])

    @cached_property
    def plain_traces(self) -> list[Timed]:
        """The baseline's traces of the few records."""
        return [
            self.timed("baseline trace", partial(plain_trace.trace, self.lm, record, self.tracer.level))
            for record in self.spread(self.records)
        ]

    def traced(self, method: str) -> Timed:
        """The package's traces of the same records: a trace's cost depends on its prompt's length."""
        tracer = Tracer(self.lm, replace(self.tracer.settings, method=method), self.tracer.level)
        facts = [replace(fact_to_trace(one, lambda _: ()), expected=None) for one in self.spread(self.records)]
        warm = Tracer(self.lm, replace(tracer.settings, method=ATTRIBUTION), tracer.level)
        warm.trace(facts[:1])  # caches and threads are warm
        return self.timed(f"traces of {len(facts)}, {method}", lambda: tracer.trace(facts))

    @cached_property
    def exact_cases(self) -> Timed:
        return self.cases(self.exact.result)


def edit_exact(bench: Bench) -> Row:
    far = max(
        _value_distance(edit, one.result)
        for edit, one in zip(bench.spread(bench.exact.result), bench.plain_edits, strict=True)
    )
    return Row(
        "ROME edit, exact, float32",
        _mean(bench.plain_edits),
        bench.exact.seconds / bench.many,
        6,
        f"v* of {bench.few} records equal within {far:.1e} relative (limit 1e-3)",
        far < 1e-3,
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
    found = [turn.result[place].wanted for turn in ours for place in sorted(turn.result)]
    far = max(
        float((z - one.result).norm() / one.result.norm()) for z, one in zip(bench.spread(found), theirs, strict=True)
    )
    return Row(
        "MEMIT's z, float32",
        _mean(theirs),
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


def edit_mixed(bench: Bench) -> Row:
    cases = bench.cases(bench.mixed.result).result
    share = _different(bench.exact_cases.result, cases)
    return Row(
        "ROME edit, same rows and steps, bfloat16 products",
        _mean(bench.plain_edits),
        bench.mixed.seconds / bench.many,
        10,
        f"{100 * (1 - share):.2f}% of decisions equal (limit 99.5%)",
        share <= 0.005,
        bench.many,
    )


def edit_fast(bench: Bench) -> Row:
    exact, fast = (_figures(cases) for cases in (bench.exact_cases.result, bench.cases(bench.fast.result).result))
    return Row(
        "ROME edit, fast",
        _mean(bench.plain_edits),
        bench.fast.seconds / bench.many,
        20,
        ", ".join(f"{name} {exact[name]:.1f} -> {fast[name]:.1f}" for name in ("ES", "PS", "NS", "S")),
        abs(exact["S"] - fast["S"]) <= 1,
        bench.many,
    )


def scoring(bench: Bench) -> Row:
    far = max(
        abs(theirs - ours)
        for case, both in zip(bench.spread(bench.exact_cases.result), bench.plain_scores, strict=True)
        for stage, table in zip((case.pre, case.post), both.result, strict=True)
        for theirs, ours in zip((nll for pair in table for nll in pair), _nlls(stage), strict=True)
    )
    return Row(
        "scoring before and after, float32",
        _mean(bench.plain_scores),
        bench.exact_cases.seconds / bench.many,
        4,
        f"NLLs of {bench.few} records equal within {far:.1e} nats (limit 1e-3)",
        far < 1e-3,
        bench.many,
    )


def scoring_narrow(bench: Bench) -> Row:
    lm = load(bench.lm.name, device=str(bench.lm.device), dtype="bfloat16")
    narrow = bench.cases(bench.exact.result, lm)
    share = _different(bench.exact_cases.result, narrow.result)
    return Row(
        "scoring before and after, bfloat16",
        _mean(bench.plain_scores),
        narrow.seconds / bench.many,
        10,
        f"{100 * share:.2f}% of decisions different (limit 0.5%)",
        share <= 0.005,
        bench.many,
    )


def ranking(bench: Bench) -> Row:
    objects = {fact.object for fact in read_values(bench.world.folder.path("facts.jsonl"), decode_fact)}
    entities = read_values(bench.world.folder.path("entities.jsonl"), decode_entity)
    pool = sorted({entity.labels["en"] for entity in entities if entity.id in objects and "en" in entity.labels})[:POOL]
    prompts = [record.rewrite for record in bench.records]
    theirs = [
        bench.timed("baseline ranking", partial(plain.rank, bench.lm, text, pool)) for text in bench.spread(prompts)
    ]
    continuations = tuple(map(bench.lm.continuation, pool))
    ours = bench.timed(
        "ranking", lambda: score(bench.lm, [Question(bench.lm.encode(text), continuations) for text in prompts])
    )
    far = max(
        abs(nll - likelihood.nll_nats)
        for one, answers in zip(theirs, bench.spread(ours.result), strict=True)
        for nll, likelihood in zip(one.result, answers, strict=True)
    )
    return Row(
        f"rank of o* among {len(pool)} objects",
        _mean(theirs),
        ours.seconds / len(prompts),
        20,
        f"NLLs equal within {far:.1e} nats (limit 1e-3)",
        far < 1e-3,
        len(prompts),
    )


def kn(bench: Bench) -> Row:
    """Both on the same few records: a record's cost depends on its prompt's length and its object's tokens."""
    some, editor = bench.spread(bench.records), Kn(bench.lm, KnOptions())
    editor.attributions(requests(some[:1]))  # caches and threads are warm
    ours = bench.timed(f"KN attribution of {len(some)}", partial(editor.attributions, requests(some)))
    theirs = []
    for record in some:
        prompt, target = bench.lm.encode(record.rewrite), bench.lm.continuation(record.target_true.label)
        work = partial(plain.attribute, bench.lm, prompt, target, editor.options.steps)
        theirs.append(bench.timed("baseline KN attribution", work))
    far = max(
        float((found[0] - one.result).abs().max() / one.result.abs().max())
        for found, one in zip(ours.result, theirs, strict=True)
    )
    return Row(
        "KN attribution, all layers, 20 steps",
        _mean(theirs),
        ours.seconds / len(some),
        20,
        f"attributions of {len(some)} records equal within {far:.1e} of the largest (limit 1e-3)",
        far < 1e-3,
        len(some),
    )


def trace(bench: Bench) -> Row:
    """Full traces of the few records: all tokens, all layers, 10 noise rows, states and windows of both parts."""
    ours = bench.traced(EXACT)
    far = max(
        float(np.abs(found.scores[kind] - values).max())
        for found, one in zip(ours.result, bench.plain_traces, strict=True)
        for kind, values in one.result.scores.items()
    )
    return Row(
        "causal traces, exact, three kinds",
        _mean(bench.plain_traces),
        ours.seconds / len(ours.result),
        6,
        f"probabilities of {len(ours.result)} records equal within {far:.1e} (limit 1e-4)",
        far < 1e-4,
        len(ours.result),
    )


def trace_attribution(bench: Bench) -> Row:
    """All effects of the same records from a backward pass; the baseline is the exact way's."""
    ours = bench.traced(ATTRIBUTION)
    pairs = list(zip(ours.result, bench.plain_traces, strict=True))
    far = max(abs(found.low - one.result.low) + abs(found.high - one.result.high) for found, one in pairs)
    told = []
    for kind in KINDS:
        exact, attributed = (
            np.concatenate([values.ravel() for values in some])
            for some in (
                [one.result.scores[kind] - one.result.low for _, one in pairs],
                [found.attributed[kind] for found, _ in pairs],
            )
        )
        told.append(f"{kind} {np.corrcoef(exact, attributed)[0, 1]:.2f}")
    return Row(
        "causal traces by attribution, beside exact ones",
        _mean(bench.plain_traces),
        ours.seconds / len(ours.result),
        100,
        f"clean and corrupted runs equal within {far:.1e} (limit 1e-4); correlation with exact: {', '.join(told)}",
        far < 1e-4,
        len(ours.result),
    )


def mend(bench: Bench) -> Row:
    """A step of MEND's training, its lessons met before: a training meets each again and again."""
    lm, records = bench.lm, bench.records[: 4 * MEND_EDITS]
    lessons = record_lessons(lm, split(records, 0), [record.rewrite for record in records], 0, MEND_TEXT_TOKENS)
    network: Any = new_network("mend", lm, 0, MEND_RANK)
    settings = TrainingSettings(MEND_EDITS, MEND_EDITS, 1e-5, 2e-5, 0.1, MEND_EDITS, MEND_EDITS, 0)
    training = Training(lm, network, network.weights, lessons, settings)
    drawn = training.draw(0)

    def step() -> tuple[float, list[Any]]:
        losses = training.losses(drawn)
        loss = settings.edit_weight * losses.edit + losses.locality
        return float(loss.detach()), list(torch.autograd.grad(loss, [*network.parameters()]))

    with fused_layers(lm):
        network.train()
        step()  # the running statistics and the states below the edited layers
        network.eval()
        turns = [bench.timed("MEND steps", step) for _ in range(TURNS)]
    theirs = bench.timed("baseline MEND step", lambda: plain_mend.gradients(lm, network, drawn, settings.edit_weight))
    ours = turns[0].result
    far = max(
        float((one - other).norm() / other.norm().clamp_min(1e-12))
        for one, other in zip(ours[1], theirs.result[1], strict=True)
        if float(other.norm()) > 0
    )
    return Row(
        f"step of MEND's training, an edit, rank {MEND_RANK}",
        theirs.seconds / len(drawn),
        _mean(turns) / len(drawn),
        5,
        f"loss {theirs.result[0]:.4f} and {ours[0]:.4f}, gradients equal within {far:.1e} relative (limit 1e-2)",
        far < 1e-2,
        len(drawn),
    )


def end_to_end(bench: Bench) -> Row:
    return _whole(bench, "rome", 5)


def end_to_end_fast(bench: Bench) -> Row:
    return _whole(bench, "rome-fast", 12)


def _whole(bench: Bench, editor: str, at_least: float) -> Row:
    count = min(END_TO_END, len(bench.world.records))
    root = bench.world.folder.root.with_name("end-to-end")
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(bench.world.folder.root, root)
    folder, file = BuildFolder(root), root / "some-records.json"
    write_json(file, list(map(encode_record, bench.spread(bench.world.records, count))))
    options = EvaluateOptions(file=file, editor=editor, skip_generation=True)
    took = bench.timed(f"validate-and-score, {editor}", lambda: evaluate(folder, options, bench.lm))
    figures = took.result["figures"]["post"]
    return Row(
        f"validate-and-score over {count} records, no texts, {editor}",
        _mean(bench.plain_edits) + _mean(bench.plain_scores),
        took.seconds / count,
        at_least,
        f"S {figures['S']['mean']:.1f}",
        True,
        count,
    )


def texts(bench: Bench) -> Row:
    """Texts of 100 tokens against transformers' sampling of one record's at a time."""
    return _texts(bench, "Texts of 100 tokens, against transformers at 10 a call", RELEASED_TEXTS, 6)


def texts_wide(bench: Bench) -> Row:
    """The same against transformers' sampling of all of them in one call."""
    return _texts(bench, "Texts of 100 tokens, against transformers at one call for all", None, 2)


def _texts(bench: Bench, name: str, together: int | None, at_least: float) -> Row:
    lm = bench.lm
    records = bench.spread(bench.records, min(TEXT_RECORDS, len(bench.records)))
    prompts = [lm.encode(text) for record in records for text in record.generation]
    keys = [f"bench:{place}" for place in range(len(prompts))]
    some = prompts[: together or len(prompts)]
    theirs = bench.timed(
        f"transformers' {len(some)} texts", lambda: plain_texts.texts(lm, some, GENERATION_TOKENS, seed=0)
    )
    # There, short prompts get no more tokens than the longest one, so seconds are compared by token.
    written = len(some) * (GENERATION_TOKENS - max(map(len, some)))
    ours = bench.timed(f"{len(prompts)} texts", lambda: generate(lm, prompts, keys, GENERATION_TOKENS))
    drawn = generate(lm, [prompts[0]] * DRAWS, [str(draw) for draw in range(DRAWS)], len(prompts[0]) + 1)
    tokens = [lm.encode(text)[len(prompts[0]) :] for text in drawn]
    distance = plain_texts.chi_square(lm, prompts[0], [one[0] if len(one) == 1 else -1 for one in tokens])
    wanted = sum(GENERATION_TOKENS - len(prompt) for prompt in prompts)
    return Row(
        name,
        theirs.seconds / written * wanted / len(records),
        ours.seconds / len(records),
        at_least,
        f"chi-square of {DRAWS} next tokens {distance:.1f} (limit {plain_texts.CRITICAL_CHI_SQUARE}); "
        f"{written / theirs.seconds:.0f} and {wanted / ours.seconds:.0f} tokens a second",
        distance < plain_texts.CRITICAL_CHI_SQUARE,
        len(records),
    )


PARTS: dict[str, Callable[[Bench], Row]] = {
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
    "end-to-end": end_to_end,
    "end-to-end-fast": end_to_end_fast,
}


NARROW = ("edit-mixed", "scoring-narrow")
"""Parts whose point is bfloat16: without instructions for it they would take hours, and say nothing."""


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
    theirs = _mean(
        [
            bench.timed("baseline edit", partial(plain.edit, world.lm, record, brief, world.covariance))
            for record in bench.spread(chosen)
        ]
    )
    return {**lines, "baseline": [(1, theirs), (bench.few, theirs)]}


# --------------------------------------------------------------------------------------------------------- agreement


def _value_distance(edit: Edit, other: plain.PlainEdit) -> float:
    """|v* - v*'| / |v*'|: what the two edits add to W k0 is in proportion to v* - W k0."""
    assert edit.delta is not None
    change = edit.delta.only.matrix() - other.change
    scale = float(edit.statistics["u_dot_key"] or 0)
    return float(change.norm()) * abs(scale) / float(other.value.norm())


def _different(one: Sequence[CaseScore], other: Sequence[CaseScore]) -> float:
    """Share of the decisions (o* or the true object likelier, before and after) that differ."""
    pairs = [
        (nlls[0] < nlls[1], others[0] < others[1])
        for a, b in zip(one, other, strict=True)
        for stage, same in ((a.pre, b.pre), (a.post, b.post))
        for nlls, others in zip(_pairs(_nlls(stage)), _pairs(_nlls(same)), strict=True)
    ]
    return sum(a != b for a, b in pairs) / len(pairs)


def _nlls(stage: Any) -> list[float]:
    """o*'s and the true object's NLL of every prompt, in the record's order."""
    groups = ("rewrite", "paraphrase", "neighborhood", "attribute")
    return [
        nll
        for group in groups
        for one in stage.prompts.get(group, ())
        for nll in (one.target_new_nll, one.target_true_nll)
    ]


def _pairs(flat: Sequence[float]) -> list[tuple[float, float]]:
    return list(zip(islice(flat, 0, None, 2), islice(flat, 1, None, 2), strict=True))


def _figures(cases: Sequence[CaseScore]) -> dict[str, float]:
    return {name: figure.mean for name, figure in aggregate(cases, "post").items()}


def _mean(times: Sequence[Timed]) -> float:
    return sum(one.seconds for one in times) / len(times)


def as_json(row: Row) -> dict[str, Any]:
    """A row with its ratio."""
    return {**asdict(row), "ratio": row.ratio}
