"""Exact traces: corrupted runs in which a state, or the outputs of a part in a window of layers, are the clean run's.

Restoring a state of token t in layer l changes neither earlier tokens nor lower layers. So a restored run is one of the
layers above l on the tokens from t on, which see the corrupted rows' keys and values of the earlier tokens. Many facts,
tokens and corrupted rows are rows of a batch, laid out once for all layers and kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from cfbuild.lm.batch import Batch, FixedOutputs, Packing, Past, SharedPast, additive_mask
from cfbuild.lm.batching import in_batches
from cfbuild.lm.families import VALUE_PROJECTION
from cfbuild.lm.forward import Trace, replay_packed, run_layers, trace_below
from cfbuild.lm.likelihood import token_nll
from cfbuild.lm.model import LanguageModel
from cfbuild.probe.captured import CapturedRun
from cfbuild.probe.corruption import TracedPrompt
from cfbuild.probe.settings import ATTENTION, MLP, SEVERED_KINDS, STATE, TraceSettings
from cfbuild.progress import no_progress

PARTS = {MLP: VALUE_PROJECTION, ATTENTION: "attention_out"}
"""The matrices that write the outputs of MLP and attention, by kind."""


@dataclass(frozen=True, slots=True)
class AnswerMetric:
    """The metric of facts: the probability of the token in `answers`, or with `others` its logit minus the other's."""

    answers: Sequence[int]
    others: Sequence[int] | None = None

    def of(self, lm: LanguageModel, ends: Tensor, facts: Sequence[int]) -> np.ndarray:
        """Return the metric [n] of finished last states `ends` [n, d_model]; facts: the index of each state's fact."""
        nll = token_nll(lm, ends, [self.answers[fact] for fact in facts])
        if self.others is None:
            return np.asarray(np.exp(-nll))
        return np.asarray(token_nll(lm, ends, [self.others[fact] for fact in facts]) - nll)

    def differentiable(self, lm: LanguageModel, ends: Tensor, facts: Sequence[int]) -> Tensor:
        """Return the sum of what `of` returns for `ends`, with a gradient."""
        logits, rows = lm.logits(ends), torch.arange(len(facts), device=ends.device)
        answers = torch.tensor([self.answers[fact] for fact in facts], device=ends.device)
        if self.others is None:
            return logits.softmax(dim=-1)[rows, answers].sum()
        others = torch.tensor([self.others[fact] for fact in facts], device=ends.device)
        return (logits[rows, answers] - logits[rows, others]).sum()


@dataclass(frozen=True, slots=True, eq=False)
class BothRuns:
    """The clean and the corrupted run of facts; `corrupted` has `rows` rows of each fact, fact after fact.

    places: the indices of the facts' rows in the clean run. past: the corrupted rows' keys and values. high, low: the
    metric of each fact, clean and corrupted.
    """

    lm: LanguageModel
    prompts: Sequence[TracedPrompt]
    clean: CapturedRun
    places: Sequence[int]
    corrupted: CapturedRun
    past: Past
    rows: int
    metric: AnswerMetric
    high: np.ndarray
    low: np.ndarray


@dataclass(frozen=True, slots=True)
class RestoredPoint:
    """A token at which states are restored: the indices of its fact and of itself, and the tokens from it on."""

    fact: int
    token: int
    tokens_left: int


def restored_scores(
    runs: BothRuns, settings: TraceSettings, done: Callable[[int], None] = no_progress
) -> list[dict[str, np.ndarray]]:
    """Return the scores of each fact by kind, [tokens, layers], or for severed kinds [layers].

    done: gets the number of finished restorations.
    """
    lm, depth = runs.lm, len(runs.lm.layers)
    points = [
        RestoredPoint(fact, token, len(prompt.ids) - token)
        for fact, prompt in enumerate(runs.prompts)
        for token in range(prompt.first, len(prompt.ids))  # nothing is corrupted before the subject
    ]
    # Where restoring changes nothing, the metric is `low`.
    by_fact = [
        {kind: np.full((len(prompt.ids), depth), low) for kind in settings.maps}
        for prompt, low in zip(runs.prompts, runs.low, strict=True)
    ]
    finished = 0

    def count(restored: int) -> None:
        nonlocal finished
        finished += restored
        done(finished)

    def width(point: RestoredPoint) -> int:
        return point.tokens_left * runs.rows

    def restore(batch: Sequence[RestoredPoint]) -> list[dict[str, np.ndarray]]:
        return RestoredRows(runs, batch, count).scores(settings)

    def sever(batch: Sequence[RestoredPoint]) -> list[dict[str, np.ndarray]]:
        rows = RestoredRows(runs, batch, count)
        by_kind = {name: rows.states(hold=kind) for name, kind in SEVERED_KINDS.items()}
        return [{name: values[place] for name, values in by_kind.items()} for place in range(len(batch))]

    for point, scores in zip(points, in_batches(lm, points, restore, width), strict=True):
        for kind, values in scores.items():
            by_fact[point.fact][kind][point.token] = values
    if settings.severs:
        ends = [point for point in points if point.token == runs.prompts[point.fact].last]
        for point, scores in zip(ends, in_batches(lm, ends, sever, width), strict=True):
            by_fact[point.fact] |= scores
    return by_fact


class RestoredRows:
    """The rows of restored points: for each point every corrupted row of its fact, from the point's token on.

    Rows end in the last column, as those of the corrupted run do. Where a row has fillers in front of its own tokens,
    the keys and values of the corrupted run stay. `count` gets the number of finished restorations of each pass.
    """

    def __init__(self, runs: BothRuns, points: Sequence[RestoredPoint], count: Callable[[int], None]) -> None:
        self._runs, self._points, self._count = runs, points, count
        device, rows, all_columns = runs.lm.device, runs.rows, runs.corrupted.real.shape[1]
        self._facts = [point.fact for point in points for _ in range(rows)]
        width = max(point.tokens_left for point in points)
        columns = torch.arange(all_columns, device=device)
        lengths = torch.tensor([point.tokens_left for point in points for _ in range(rows)], device=device)
        corrupted = torch.tensor([point.fact * rows + row for point in points for row in range(rows)], device=device)
        own = columns[-width:] >= all_columns - lengths[:, None]  # [rows, width]
        self._packing = Packing.of(own)
        # Indices of the rows' own tokens in the corrupted run, and of their first tokens there and in the clean run.
        self._corrupted = (corrupted[:, None] * all_columns + columns[-width:]).flatten()[self._packing.real]
        self._corrupted_first = (corrupted + 1) * all_columns - lengths
        places = torch.tensor([runs.places[fact] for fact in self._facts], device=device)
        self._clean_first = (places + 1) * runs.clean.real.shape[1] - lengths
        # Indices of the rows' last and first tokens among all own ones.
        self._lasts = own.sum(dim=1).cumsum(dim=0) - 1
        self._firsts = self._lasts + 1 - lengths
        self._traced = self._lay_out(corrupted, own)
        first = own & (own.cumsum(dim=1) == 1)
        self._first_packing, self._first_traced = Packing.of(first), self._lay_out(corrupted, first)

    def _lay_out(self, corrupted: Tensor, own: Tensor) -> Trace:
        """Return the arguments of layers for rows that go on from corrupted ones, by index; own: [rows, width]."""
        lm, real = self._runs.lm, self._runs.corrupted.real[corrupted]
        width, all_columns = own.shape[1], real.shape[1]
        columns = torch.arange(all_columns, device=lm.device)
        queries = columns[-width:, None]
        # A filler sees itself, so that no row of attention is empty.
        visible = ((columns <= queries) & real[:, None, :]) | (columns == queries)
        before = all_columns - real.sum(dim=1, keepdim=True)
        positions = (columns[-width:] - before).clamp_min(0)
        batch = Batch(torch.zeros_like(positions), positions, additive_mask(visible, lm.dtype))
        return trace_below(lm, batch, 0, 1, past=SharedPast(self._runs.past, corrupted, own))

    def scores(self, settings: TraceSettings) -> list[dict[str, np.ndarray]]:
        """Return the scores of each point by kind, each [layers]."""
        windows = settings.windows(len(self._runs.lm.layers))
        by_kind = {
            kind: self.states() if kind == STATE else self.windows(PARTS[kind], windows) for kind in settings.maps
        }
        return [{kind: values[place] for kind, values in by_kind.items()} for place in range(len(self._points))]

    def states(self, hold: str | None = None) -> np.ndarray:
        """Return the score of each point with the output of each layer restored, [points, layers].

        hold: MLP or ATTENTION, whose outputs at the point's token then stay corrupted in all layers above.
        """
        runs, depth = self._runs, len(self._runs.lm.layers)
        traced = self._traced
        if hold is not None:
            part = PARTS[hold]
            traced = replace(
                traced,
                fixed=lambda layer: FixedOutputs(
                    part, self._firsts, runs.corrupted.output(part, layer, self._corrupted_first)
                ),
            )
        scores = []
        for layer in range(1, depth):
            below = runs.corrupted.state(layer, self._corrupted)
            below[self._firsts] = runs.clean.state(layer, self._clean_first).to(below.dtype)
            scores.append(self._score(replay_packed(runs.lm, traced, self._packing, below, self._lasts, layer)))
        # The last layer's output counts at the last token only.
        scores.append(np.array([(runs.high if p.tokens_left == 1 else runs.low)[p.fact] for p in self._points]))
        return np.stack(scores, axis=1)

    def windows(self, part: str, windows: Sequence[range]) -> np.ndarray:
        """Return the score of each point with a part's outputs restored in each window of layers, [points, windows].

        Windows that begin together are one run until the first of them ends. In the first layer of a window only the
        point's token runs, because no other differs yet.
        """
        runs, depth = self._runs, len(self._runs.lm.layers)
        lm, packing, plain = runs.lm, self._packing, self._traced
        restoring = replace(
            plain,
            fixed=lambda layer: FixedOutputs(part, self._firsts, runs.clean.output(part, layer, self._clean_first)),
        )
        scores = []
        for start, together in groupby(windows, key=lambda window: window.start):
            hidden, reached = self._after_first(part, start), start + 1
            for window in together:
                hidden = run_layers(lm, restoring, packing, hidden, range(reached, window.stop))
                reached = window.stop
                states = run_layers(lm, plain, packing, hidden, range(reached, depth), self._lasts)
                scores.append(self._score(lm.finish(states)))
        return np.stack(scores, axis=1)

    def _after_first(self, part: str, layer: int) -> Tensor:
        """Return the output of `layer`, the first of a window, at the own tokens of all rows, [T, d_model]."""
        runs = self._runs
        everywhere = torch.arange(len(self._facts), device=runs.lm.device)
        fixed = FixedOutputs(part, everywhere, runs.clean.output(part, layer, self._clean_first))
        traced = replace(self._first_traced, fixed=lambda layer: fixed)
        below = runs.corrupted.state(layer, self._corrupted_first)
        first = run_layers(runs.lm, traced, self._first_packing, below, range(layer, layer + 1))
        hidden = runs.corrupted.state(layer + 1, self._corrupted)
        hidden[self._firsts] = first.to(hidden.dtype)
        return hidden

    def _score(self, ends: Tensor) -> np.ndarray:
        """Return the mean metric of each point's rows from their finished last states [rows, d_model]."""
        runs = self._runs
        self._count(len(self._points))
        return np.asarray(runs.metric.of(runs.lm, ends, self._facts).reshape(-1, runs.rows).mean(axis=1))
