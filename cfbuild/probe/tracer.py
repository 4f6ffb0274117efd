"""Causal traces of facts (Meng et al. 2022, section 2), by clean, corrupted and restored runs."""

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
"""The memory of a corrupted row's token, in tokens of a batch: all layers' states, keys and values are kept."""
TOKENS_WITH_GRADIENT = 16
"""The same for a backward pass, for which everything that layers compute is kept."""
OTHER_ANSWER, NO_PAIR, NOT_FINITE = "other-answer", "no-pair", "not-finite"
"""The reasons why a fact is not traced: the model answers otherwise; no other subject has as many tokens and a known
object; a number is infinite or NaN."""


@dataclass(frozen=True, slots=True)
class TracedFact:
    """A fact to trace; `prompt` has a slot for the subject.

    expected: the object that the model must answer. others: subjects that may replace this one, with their objects. An
    object of None stands for any answer.
    """

    case_id: int
    relation: str
    prompt: str
    subject: str
    expected: str | None = None
    others: tuple[tuple[str, str | None], ...] = ()


def fact_to_trace(record: Record, pairs: Callable[[Record], Sequence[tuple[str, str]]]) -> TracedFact:
    """Return a record's fact; pairs: returns a record's other subjects of its relation, with their objects."""
    return TracedFact(
        record.case_id,
        record.relation,
        record.prompt.text,
        record.subject.label,
        record.target_true.label,
        tuple(pairs(record)),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _KnownFact:
    """A fact that the model knows: its prompt as tokens, its row in the clean run, and its corrupted rows."""

    fact: TracedFact
    prompt: TracedPrompt
    place: int
    corrupted: Corrupted


class Tracer:
    """A maker of causal traces; `level` is the noise's standard deviation.

    subjects: on their embeddings the noise is measured, unless it is set. Raises as `noise_level` does.
    """

    def __init__(self, lm: LanguageModel, settings: TraceSettings, subjects: Iterable[str]) -> None:
        missing = [kind for kind in settings.maps if kind != STATE and PARTS[kind] not in lm.family.parts]
        if missing:
            raise ConfigError(
                f"cfbuild knows no part of {lm.name} that writes the outputs of its {', '.join(missing)}; trace others "
                "(--kinds)"
            )
        self.lm, self.settings, self.level = lm, settings, settings.noise or 0.0
        if settings.corrupt != SWAP and settings.noise is None:
            self.level = noise_level(lm, subjects)

    def trace(
        self, facts: Sequence[TracedFact], done: Callable[[int], None] = no_progress
    ) -> list[CausalTrace | Untraced]:
        """Return the trace of each fact, or why it has none; done: gets the number of finished restorations."""
        finished_before = finished = 0

        def count(restored: int) -> None:
            nonlocal finished
            finished = finished_before + restored
            done(finished)

        def work(batch: Sequence[TracedFact]) -> list[CausalTrace | Untraced]:
            nonlocal finished_before, finished
            finished = finished_before  # without what a pass had done when memory ran out
            traces = self._trace_together(batch, count)
            finished_before = finished
            give_back_freed_memory()
            return traces

        with torch.no_grad(), fused_layers(self.lm):
            return in_batches(self.lm, facts, work, self._width)

    def _width(self, fact: TracedFact) -> int:
        """Return the memory that a fact takes, in tokens of a batch."""
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
        traces: dict[int, CausalTrace | Untraced] = {
            place: self._untraced(fact, prompt, OTHER_ANSWER)
            for place, (fact, prompt) in enumerate(zip(facts, prompts, strict=True))
            if fact.expected is not None and not answers_with(self.lm, prompt.answer, fact.expected)
        }
        answered = [place for place in range(len(facts)) if place not in traces]
        all_corrupted = self._corrupted([facts[place] for place in answered], [prompts[place] for place in answered])
        known = []
        for place, corrupted in zip(answered, all_corrupted, strict=True):
            if corrupted is None:
                traces[place] = self._untraced(facts[place], prompts[place], NO_PAIR)
            else:
                known.append(_KnownFact(facts[place], prompts[place], place, corrupted))
        if known:
            traces |= zip([case.place for case in known], self._traces(known, clean, done), strict=True)
        return [traces[place] for place in range(len(facts))]

    def _untraced(self, fact: TracedFact, prompt: TracedPrompt, rule: str) -> Untraced:
        return Untraced(fact.case_id, fact.relation, rule, self._text(prompt.answer))

    def _corrupted(self, facts: Sequence[TracedFact], prompts: Sequence[TracedPrompt]) -> Sequence[Corrupted | None]:
        if self.settings.corrupt == SWAP:
            texts, others = [fact.prompt for fact in facts], [fact.others for fact in facts]
            return swapped(self.lm, texts, prompts, others)
        return [noisy(self.lm, prompt, self.settings, self.level) for prompt in prompts]

    def _traces(
        self, known: Sequence[_KnownFact], clean: CapturedRun, done: Callable[[int], None]
    ) -> list[CausalTrace | Untraced]:
        runs = self._both_runs(known, clean, with_gradient=not self.settings.is_exact)
        none: list[dict[str, np.ndarray]] = [{} for _ in known]
        exact = restored_scores(runs, self.settings, done) if self.settings.is_exact else none
        attributed = none
        if self.settings.method != EXACT:
            if self.settings.is_exact:
                runs = replace(runs, corrupted=self._corrupted_run(known, with_gradient=True))
            attributed = attributed_effects(runs, self.settings)
        traces = [self._trace(case, runs, place, exact[place], attributed[place]) for place, case in enumerate(known)]
        return [
            trace if trace.is_finite else self._untraced(case.fact, case.prompt, NOT_FINITE)
            for trace, case in zip(traces, known, strict=True)
        ]

    def _both_runs(self, known: Sequence[_KnownFact], clean: CapturedRun, with_gradient: bool) -> BothRuns:
        prompts, places = [case.prompt for case in known], [case.place for case in known]
        past = Past(len(self.lm.layers), max(len(prompt.ids) for prompt in prompts))
        corrupted = self._corrupted_run(known, with_gradient, None if with_gradient else past)
        rows, facts, ends = len(known[0].corrupted.rows), range(len(known)), corrupted.ends.detach()
        others = self._others(known, ends.view(len(known), rows, -1))
        metric = AnswerMetric([prompt.answer for prompt in prompts], others)
        high = metric.of(self.lm, clean.ends[places], facts)
        low = metric.of(self.lm, ends, [fact for fact in facts for _ in range(rows)]).reshape(-1, rows).mean(axis=1)
        return BothRuns(self.lm, prompts, clean, places, corrupted, past, rows, metric, high, low)

    def _corrupted_run(self, known: Sequence[_KnownFact], with_gradient: bool, past: Past | None = None) -> CapturedRun:
        """Return the run of all corrupted rows, with the outputs of parts that severed paths or gradients need."""
        kinds = self.settings.maps if with_gradient else (*PARTS,) if self.settings.severs else ()
        change = noise_change([case.corrupted for case in known], [case.prompt for case in known], with_gradient)
        rows = [ids for case in known for ids in case.corrupted.rows]
        with torch.set_grad_enabled(with_gradient):
            return capture(self.lm, rows, change, [PARTS[kind] for kind in kinds if kind != STATE], past)

    def _others(self, known: Sequence[_KnownFact], ends: Tensor) -> list[int] | None:
        """Return the token that each fact's answer is compared with, or None if the metric is no logit difference.

        Without another subject it is the likeliest other token over the corrupted rows. ends: the last states of the
        corrupted run, [facts, rows, d_model].
        """
        if self.settings.metric != DIFFERENCE:
            return None
        others = []
        for case, of_fact in zip(known, ends, strict=True):
            mean = self.lm.logits(of_fact).softmax(dim=-1).mean(dim=0)
            mean[case.prompt.answer] = -1.0
            others.append(int(mean.argmax()) if case.corrupted.answer is None else case.corrupted.answer)
        return others

    def _trace(
        self,
        case: _KnownFact,
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
