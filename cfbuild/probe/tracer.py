"""Causal traces of facts (Meng et al. 2022, section 2): clean run, corrupted runs, restored runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from cfbuild.data import SLOT, Record
from cfbuild.errors import ConfigError
from cfbuild.lm.batch import Past
from cfbuild.lm.batching import in_batches
from cfbuild.lm.fused import fused_layers
from cfbuild.lm.memory import give_back_freed_memory
from cfbuild.lm.model import LanguageModel
from cfbuild.probe.attribution import attributed_effects
from cfbuild.probe.captured import CapturedRun, capture
from cfbuild.probe.corruption import (
    Corrupted,
    TracedPrompt,
    answers_with,
    noise_change,
    noise_level,
    noisy,
    swapped,
)
from cfbuild.probe.effects import CausalTrace, Untraced
from cfbuild.probe.restored import PARTS, AnswerMetric, BothRuns, restored_scores
from cfbuild.probe.settings import DIFFERENCE, EXACT, STATE, SWAP, TraceSettings
from cfbuild.progress import no_progress

TOKENS_KEPT = 4
"""Tokens of a batch's budget that one of a corrupted row takes: all layers' states, keys and values are kept."""
TOKENS_WITH_GRADIENT = 16
"""The same while a backward pass is to come: everything that the layers compute is kept."""
OTHER_ANSWER, NO_PAIR, NOT_FINITE = "other-answer", "no-pair", "not-finite"
"""Why a fact is not traced: the model answers otherwise; no other subject has as many tokens and a known object; a
number is infinite or NaN."""


@dataclass(frozen=True, slots=True)
class TracedFact:
    """A fact to trace. `prompt` has a slot for the subject; `expected` is the object, None for whatever the model says.

    others: other subjects that may be put in its place, each with its object (None: whatever the model says).
    """

    case_id: int
    relation: str
    prompt: str
    subject: str
    expected: str | None = None
    others: tuple[tuple[str, str | None], ...] = ()


def fact_to_trace(record: Record, pairs: Callable[[Record], Sequence[tuple[str, str]]]) -> TracedFact:
    """Return a record's fact; `pairs` returns other subjects of its relation with their objects."""
    return TracedFact(
        record.case_id,
        record.relation,
        record.prompt.text,
        record.subject.label,
        record.target_true.label,
        tuple(pairs(record)),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Known:
    """A fact whose answer is the expected one: its tokens, its row in the clean run, and its corrupted rows."""

    fact: TracedFact
    prompt: TracedPrompt
    place: int
    corrupted: Corrupted


class Tracer:
    """A maker of causal traces with one model and settings; `level` is the noise's standard deviation."""

    def __init__(self, lm: LanguageModel, settings: TraceSettings, level: float) -> None:
        missing = [kind for kind in settings.maps if kind != STATE and PARTS[kind] not in lm.family.parts]
        if missing:
            raise ConfigError(f"{lm.name} has no part that writes the outputs of its {', '.join(missing)}")
        self.lm, self.settings, self.level = lm, settings, level

    @staticmethod
    def of(lm: LanguageModel, settings: TraceSettings, subjects: Iterable[str]) -> Tracer:
        """Return a tracer whose noise, unless it is set, is measured on subjects. Raises as `noise_level` does."""
        if settings.corrupt == SWAP:
            return Tracer(lm, settings, 0.0)
        return Tracer(lm, settings, noise_level(lm, subjects) if settings.noise is None else settings.noise)

    def trace(
        self, facts: Sequence[TracedFact], done: Callable[[int], None] = no_progress
    ) -> list[CausalTrace | Untraced]:
        """Return the trace of each fact, or why it has none; `done` gets the number of finished restorations."""
        finished = 0

        def work(part: Sequence[TracedFact]) -> list[CausalTrace | Untraced]:
            nonlocal finished
            latest = 0

            def count(restored: int) -> None:
                nonlocal latest
                latest = restored
                done(finished + restored)

            traced = self._trace_together(part, count)
            finished += latest
            give_back_freed_memory()
            return traced

        with torch.no_grad(), fused_layers(self.lm):
            return in_batches(self.lm, facts, work, self._width)

    def _width(self, fact: TracedFact) -> int:
        """Return a fact's share of a batch's budget in tokens."""
        tokens = len(self.lm.subject_span(fact.prompt, fact.subject)[0])
        rows = 1 + (1 if self.settings.corrupt == SWAP else self.settings.rows)
        return tokens * rows * (TOKENS_KEPT if self.settings.method == EXACT else TOKENS_WITH_GRADIENT)

    def _trace_together(self, facts: Sequence[TracedFact], done: Callable[[int], None]) -> list[CausalTrace | Untraced]:
        spans = [self.lm.subject_span(fact.prompt, fact.subject) for fact in facts]
        clean = capture(
            self.lm, [ids for ids, _, _ in spans], parts=[PARTS[kind] for kind in self.settings.maps if kind != STATE]
        )
        answers = [int(token) for token in self.lm.logits(clean.ends).argmax(dim=-1)]
        prompts = [TracedPrompt(*span, answer) for span, answer in zip(spans, answers, strict=True)]
        found: dict[int, CausalTrace | Untraced] = {
            place: self._untraced(fact, prompt, OTHER_ANSWER)
            for place, (fact, prompt) in enumerate(zip(facts, prompts, strict=True))
            if fact.expected is not None and not answers_with(self.lm, prompt.answer, fact.expected)
        }
        left = [place for place in range(len(facts)) if place not in found]
        made = self._corrupted([facts[place] for place in left], [prompts[place] for place in left])
        known = []
        for place, corrupted in zip(left, made, strict=True):
            if corrupted is None:
                found[place] = self._untraced(facts[place], prompts[place], NO_PAIR)
            else:
                known.append(_Known(facts[place], prompts[place], place, corrupted))
        if known:
            found |= zip([one.place for one in known], self._traces(known, clean, done), strict=True)
        return [found[place] for place in range(len(facts))]

    def _untraced(self, fact: TracedFact, prompt: TracedPrompt, rule: str) -> Untraced:
        return Untraced(fact.case_id, fact.relation, rule, self._text(prompt.answer))

    def _corrupted(self, facts: Sequence[TracedFact], prompts: Sequence[TracedPrompt]) -> Sequence[Corrupted | None]:
        if self.settings.corrupt == SWAP:
            texts, others = [fact.prompt for fact in facts], [fact.others for fact in facts]
            return swapped(self.lm, texts, prompts, others)
        return [noisy(self.lm, prompt, self.settings, self.level) for prompt in prompts]

    def _traces(
        self, known: Sequence[_Known], clean: CapturedRun, done: Callable[[int], None]
    ) -> list[CausalTrace | Untraced]:
        runs = self._both_runs(known, clean, with_gradient=not self.settings.is_exact)
        none: list[dict[str, np.ndarray]] = [{} for _ in known]
        exact = restored_scores(runs, self.settings, done) if self.settings.is_exact else none
        attributed = none
        if self.settings.method != EXACT:
            if self.settings.is_exact:
                runs = replace(runs, corrupted=self._corrupted_run(known, with_gradient=True))
            attributed = attributed_effects(runs, self.settings)
        made = [self._traced(case, runs, place, exact[place], attributed[place]) for place, case in enumerate(known)]
        return [
            traced if traced.is_finite else self._untraced(case.fact, case.prompt, NOT_FINITE)
            for traced, case in zip(made, known, strict=True)
        ]

    def _both_runs(self, known: Sequence[_Known], clean: CapturedRun, with_gradient: bool) -> BothRuns:
        past = Past(len(self.lm.layers), max(len(one.prompt.ids) for one in known))
        corrupted = self._corrupted_run(known, with_gradient, None if with_gradient else past)
        rows, facts, places = len(known[0].corrupted.rows), range(len(known)), [one.place for one in known]
        ends = corrupted.ends.detach()
        metric = AnswerMetric(
            [one.prompt.answer for one in known], self._others(known, ends.view(len(known), rows, -1))
        )
        high = metric.of(self.lm, clean.ends[places], facts)
        low = metric.of(self.lm, ends, [fact for fact in facts for _ in range(rows)]).reshape(-1, rows).mean(axis=1)
        return BothRuns(self.lm, [one.prompt for one in known], clean, places, corrupted, past, rows, metric, high, low)

    def _corrupted_run(self, known: Sequence[_Known], with_gradient: bool, past: Past | None = None) -> CapturedRun:
        """Return the run of all corrupted rows; severed paths need what parts write in it, and so do gradients."""
        heard = self.settings.maps if with_gradient else (*PARTS,) if self.settings.severs else ()
        change = noise_change([one.corrupted for one in known], [one.prompt for one in known], with_gradient)
        with torch.set_grad_enabled(with_gradient):
            return capture(
                self.lm,
                [ids for one in known for ids in one.corrupted.rows],
                change,
                [PARTS[kind] for kind in heard if kind != STATE],
                past,
            )

    def _others(self, known: Sequence[_Known], ends: Tensor) -> list[int] | None:
        """Return the token that each fact's answer is measured against, or None where the metric is no difference.

        Without another subject it is the token that the corrupted rows find likeliest, the answer itself aside.
        ends: the last states of the corrupted run, [facts, rows, d_model].
        """
        if self.settings.metric != DIFFERENCE:
            return None
        others = []
        for case, own in zip(known, ends, strict=True):
            mean = self.lm.logits(own).softmax(dim=-1).mean(dim=0)
            mean[case.prompt.answer] = -1.0
            others.append(int(mean.argmax()) if case.corrupted.answer is None else case.corrupted.answer)
        return others

    def _traced(
        self,
        case: _Known,
        runs: BothRuns,
        place: int,
        exact: dict[str, np.ndarray],
        attributed: dict[str, np.ndarray],
    ) -> CausalTrace:
        against = case.corrupted.answer if runs.metric.others is None else runs.metric.others[place]
        return CausalTrace(
            case_id=case.fact.case_id,
            relation=case.fact.relation,
            prompt=case.fact.prompt.replace(SLOT, case.fact.subject, 1),
            subject_label=case.fact.subject,
            ids=case.prompt.ids,
            tokens=tuple(map(self._text, case.prompt.ids)),
            subject=(case.prompt.first, case.prompt.last + 1),
            answer=self._text(case.prompt.answer),
            high=float(runs.high[place]),
            low=float(runs.low[place]),
            scores=exact,
            attributed=attributed,
            other=None if against is None else self._text(against),
            swapped=case.corrupted.subject,
        )

    def _text(self, token: int) -> str:
        text: str = self.lm.tokenizer.decode([token])
        return text
