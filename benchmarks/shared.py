"""The common parts of all comparisons: a row of the table, and measurements that several rows need, each made once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from typing import Any

from benchmarks import plain, plain_trace
from benchmarks.families import random_world
from benchmarks.measure import Timed, timed
from benchmarks.world import World, fast, requests
from cfbuild.data import Record
from cfbuild.edit.editor import Edit
from cfbuild.edit.rome import Rome
from cfbuild.lm.model import LanguageModel
from cfbuild.probe.settings import ATTRIBUTION, KINDS, TraceSettings
from cfbuild.probe.tracer import Tracer, fact_to_trace
from cfbuild.records.prompts import prompts_of
from cfbuild.score.cases import score_cases


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
class SharedMeasurements:
    """Measurements that several rows share are made once. `few` records are enough for the baseline, whose cost per
    record is flat: it takes them one at a time.

    Records come relation by relation, and some relations' prompts are longer, so the few are spread evenly over all.
    """

    world: World
    few: int
    many: int
    note: Callable[[str], None] = lambda text: None
    others: dict[str, SharedMeasurements] = field(default_factory=dict)

    def of_family(self, family: str) -> SharedMeasurements:
        """Return the same measurements on a random model of another family; made once."""
        if family not in self.others:
            self.note(f"a random {family}")
            self.others[family] = replace(self, world=random_world(self.world, family), others={})
        return self.others[family]

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
        """Return the baseline and exact edits by turns: a machine's speed drifts, and both should meet all of it."""
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
        """Return the tracer; its noise is measured on all records' subjects."""
        return Tracer(self.lm, TraceSettings(kinds=KINDS), [record.subject.label for record in self.records])

    @cached_property
    def plain_traces(self) -> list[Timed]:
        """Return the baseline's traces of the few records."""
        return [
            self.timed("baseline trace", partial(plain_trace.trace, self.lm, record, self.tracer.level))
            for record in self.spread(self.records)
        ]

    def traced(self, method: str) -> Timed:
        """Return the package's traces of the same records: a trace's cost depends on its prompt's length."""
        tracer = Tracer(self.lm, replace(self.tracer.settings, method=method, noise=self.tracer.level), ())
        facts = [replace(fact_to_trace(one, lambda _: ()), expected=None) for one in self.spread(self.records)]
        warm = Tracer(self.lm, replace(tracer.settings, method=ATTRIBUTION), ())
        warm.trace(facts[:1])  # caches and threads are warm
        return self.timed(f"traces of {len(facts)}, {method}", lambda: tracer.trace(facts))

    @cached_property
    def exact_cases(self) -> Timed:
        return self.cases(self.exact.result)


def mean(times: Sequence[Timed]) -> float:
    return sum(one.seconds for one in times) / len(times)


def as_json(row: Row) -> dict[str, Any]:
    """Return a row with its ratio."""
    return {**asdict(row), "ratio": row.ratio}
