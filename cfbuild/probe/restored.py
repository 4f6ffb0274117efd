"""Exact traces: corrupted runs in which one state, or one part's outputs in a window of layers, are the clean run's.

Restoring something at token t in layer l changes neither earlier tokens nor the layers up to l. So a restored run is
that of the layers above l on the tokens from t on, which see the keys and values that the corrupted rows have for the
tokens before. Runs of many tokens, noise rows and facts are rows of one batch, laid out once for all layers and kinds.
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
    """The metric of facts: the probability of `answers`, or, with `others`, its logit minus the other's."""

    answers: Sequence[int]
    others: Sequence[int] | None = None

    def of(self, lm: LanguageModel, ends: Tensor, facts: Sequence[int]) -> np.ndarray:
        """Return the metric of finished last states [n, d_model], each of the fact of that place in `facts`, [n]."""
        rows = range(len(facts))
        nll, _ = token_nll(lm, ends, [(row, self.answers[fact]) for row, fact in zip(rows, facts, strict=True)])
        if self.others is None:
            return np.asarray(np.exp(-nll))
        against, _ = token_nll(lm, ends, [(row, self.others[fact]) for row, fact in zip(rows, facts, strict=True)])
        return np.asarray(against - nll)

    def differentiable(self, lm: LanguageModel, ends: Tensor, facts: Sequence[int]) -> Tensor:
        """Return the sum of what `of` returns, with a gradient."""
        logits, rows = lm.logits(ends), torch.arange(len(facts), device=ends.device)
        answers = torch.tensor([self.answers[fact] for fact in facts], device=ends.device)
        if self.others is None:
            return logits.softmax(dim=-1)[rows, answers].sum()
        others = torch.tensor([self.others[fact] for fact in facts], device=ends.device)
        return (logits[rows, answers] - logits[rows, others]).sum()


@dataclass(frozen=True, slots=True, eq=False)
class BothRuns:
    """The clean and the corrupted run of some facts, `rows` corrupted ones each, fact after fact.

    places: the facts' rows in the clean run. past: the corrupted rows' keys and values. high, low: the metric of each
    fact, clean and corrupted.
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
    """A token of a fact at which something is restored; `fact` is its place among the facts of the runs."""

    fact: int
    token: int
    tokens_left: int


def restored_scores(
    runs: BothRuns, settings: TraceSettings, done: Callable[[int], None] = no_progress
) -> list[dict[str, np.ndarray]]:
    """Return the scores of each fact by kind, [tokens, layers], for severed kinds [layers].

    done: gets the number of single restorations that are finished.
    """
    lm, depth = runs.lm, len(runs.lm.layers)
    points = [
        RestoredPoint(fact, token, len(prompt.ids) - token)
        for fact, prompt in enumerate(runs.prompts)
        for token in range(prompt.first, len(prompt.ids))  # before the subject nothing is corrupted
    ]
    # Of a fact the metric is `low` wherever restoring changes nothing.
    found = [
        {kind: np.full((len(prompt.ids), depth), low) for kind in settings.maps}
        for prompt, low in zip(runs.prompts, runs.low, strict=True)
    ]
    counted = _Counted(done)

    def restore(part: Sequence[RestoredPoint]) -> list[dict[str, np.ndarray]]:
        return RestoredRows(runs, part, counted).scores(settings)

    def sever(part: Sequence[RestoredPoint]) -> list[dict[str, np.ndarray]]:
        rows = RestoredRows(runs, part, counted)
        by_kind = {name: rows.states(hold=kind) for name, kind in SEVERED_KINDS.items()}
        return [{name: values[place] for name, values in by_kind.items()} for place in range(len(part))]

    for point, scores in zip(points, in_batches(lm, points, restore, runs_width(runs)), strict=True):
        for kind, values in scores.items():
            found[point.fact][kind][point.token] = values
    if settings.severs:
        ends = [point for point in points if point.token == runs.prompts[point.fact].last]
        for point, scores in zip(ends, in_batches(lm, ends, sever, runs_width(runs)), strict=True):
            found[point.fact] |= scores
    return found


def runs_width(runs: BothRuns) -> Callable[[RestoredPoint], int]:
    """Return the function from a point to the tokens of its rows."""
    return lambda point: point.tokens_left * runs.rows


class _Counted:
    """The number of finished restorations, reported as it grows."""

    def __init__(self, done: Callable[[int], None]) -> None:
        self._done = done
        self._count = 0

    def add(self, count: int) -> None:
        self._count += count
        self._done(self._count)


class RestoredRows:
    """Rows in which something is restored at some points: for each, every corrupted row of its fact from there on.

    They are laid out against the right edge, as the finished rows are. Fillers in front of a row's own tokens stand for
    the finished ones, whose keys and values they leave in place.
    """

    def __init__(self, runs: BothRuns, points: Sequence[RestoredPoint], counted: _Counted) -> None:
        self._runs, self._points, self._counted = runs, points, counted
        device, rows, all_columns = runs.lm.device, runs.rows, runs.corrupted.real.shape[1]
        self._facts = [point.fact for point in points for _ in range(rows)]
        width = max(point.tokens_left for point in points)
        columns = torch.arange(all_columns, device=device)
        left, finished = (
            torch.tensor(numbers, device=device)
            for numbers in (
                [point.tokens_left for point in points for _ in range(rows)],
                [point.fact * rows + row for point in points for row in range(rows)],
            )
        )
        own = columns[-width:] >= all_columns - left[:, None]  # [rows, width]
        self._packing = Packing.of(own)
        here = finished[:, None] * all_columns + columns[-width:]
        self._corrupted = here.flatten()[self._packing.real]
        self._lasts = own.sum(dim=1).cumsum(dim=0) - 1
        self._firsts = self._lasts + 1 - left
        places = torch.tensor([runs.places[fact] for fact in self._facts], device=device)
        clean_columns = runs.clean.real.shape[1]
        self._clean = (places + 1) * clean_columns - left
        self._finished_first = (finished + 1) * all_columns - left
        self._traced = self._lay_out(finished, own)
        first = own & (own.cumsum(dim=1) == 1)
        self._first_packing, self._first_traced = Packing.of(first), self._lay_out(finished, first)

    def _lay_out(self, finished: Tensor, own: Tensor) -> Trace:
        """Return how the layers are called for rows that go on from those finished; own: [rows, width]."""
        lm, real = self._runs.lm, self._runs.corrupted.real[finished]
        width, all_columns = own.shape[1], real.shape[1]
        columns = torch.arange(all_columns, device=lm.device)
        queries = columns[-width:, None]
        # A filler sees itself, so that no row of attention is empty.
        visible = ((columns <= queries) & real[:, None, :]) | (columns == queries)
        before = all_columns - real.sum(dim=1, keepdim=True)
        positions = (columns[-width:] - before).clamp_min(0)
        batch = Batch(torch.zeros_like(positions), positions, additive_mask(visible, lm.dtype))
        return trace_below(lm, batch, 0, 1, past=SharedPast(self._runs.past, finished, own))

    def scores(self, settings: TraceSettings) -> list[dict[str, np.ndarray]]:
        """Return the scores of each point by kind, each [layers]."""
        windows = settings.windows(len(self._runs.lm.layers))
        by_kind = {
            kind: self.states() if kind == STATE else self.windows(PARTS[kind], windows) for kind in settings.maps
        }
        return [{kind: values[place] for kind, values in by_kind.items()} for place in range(len(self._points))]

    def states(self, hold: str | None = None) -> np.ndarray:
        """Return the score of each point with the output of each layer restored, [points, layers].

        hold: the kind, MLP or attention, whose outputs there stay corrupted in all layers above.
        """
        runs, depth = self._runs, len(self._runs.lm.layers)
        traced = self._traced
        if hold is not None:
            part = PARTS[hold]
            traced = replace(
                traced,
                fixed=lambda layer: FixedOutputs(
                    part, self._firsts, runs.corrupted.output(part, layer, self._finished_first)
                ),
            )
        found = []
        for layer in range(1, depth):
            below = runs.corrupted.state(layer, self._corrupted)
            below[self._firsts] = runs.clean.state(layer, self._clean).to(below.dtype)
            found.append(self._score(replay_packed(runs.lm, traced, self._packing, below, self._lasts, layer)))
        # What the last layer puts out is read at the last token only.
        found.append(np.array([(runs.high if p.tokens_left == 1 else runs.low)[p.fact] for p in self._points]))
        return np.stack(found, axis=1)

    def windows(self, part: str, windows: Sequence[range]) -> np.ndarray:
        """Return the score of each point with a part's outputs restored in each window of layers, [points, windows].

        Windows that begin together are one run until the first of them ends. In the first layer of a window only the
        point's own token is run: nothing else is different yet.
        """
        runs, depth = self._runs, len(self._runs.lm.layers)
        lm, packing, plain = runs.lm, self._packing, self._traced
        restoring = replace(
            plain, fixed=lambda layer: FixedOutputs(part, self._firsts, runs.clean.output(part, layer, self._clean))
        )
        found = []
        for start, together in groupby(windows, key=lambda window: window.start):
            hidden, reached = self._after_first(part, start), start + 1
            for window in together:
                hidden = run_layers(lm, restoring, packing, hidden, range(reached, window.stop))
                reached = window.stop
                states = run_layers(lm, plain, packing, hidden, range(reached, depth), self._lasts)
                found.append(self._score(lm.finish(states)))
        return np.stack(found, axis=1)

    def _after_first(self, part: str, layer: int) -> Tensor:
        """Return the output of the first layer of a window at the own tokens of all rows, [T, d_model]."""
        runs = self._runs
        everywhere = torch.arange(len(self._facts), device=runs.lm.device)
        fixed = FixedOutputs(part, everywhere, runs.clean.output(part, layer, self._clean))
        traced = replace(self._first_traced, fixed=lambda layer: fixed)
        below = runs.corrupted.state(layer, self._finished_first)
        first = run_layers(runs.lm, traced, self._first_packing, below, range(layer, layer + 1))
        hidden = runs.corrupted.state(layer + 1, self._corrupted)
        hidden[self._firsts] = first.to(hidden.dtype)
        return hidden

    def _score(self, ends: Tensor) -> np.ndarray:
        """Return the mean metric of each point's rows from their finished last states [rows, d_model]."""
        runs = self._runs
        self._counted.add(len(self._points))
        return np.asarray(runs.metric.of(runs.lm, ends, self._facts).reshape(-1, runs.rows).mean(axis=1))
