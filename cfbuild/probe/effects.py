"""Causal traces as values, and their effects averaged over facts by the tokens' places in the prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cfbuild.probe.settings import MLP, SEVERED_KINDS
from cfbuild.score.metrics import Z_95
from cfbuild.store.jsonl import read_values
from cfbuild.store.runs import TRACED, Run
from cfbuild.store.schema import conforming

PLACES = ("first subject", "middle subject", "last subject", "first after", "further", "last")
"""The places of tokens in a prompt, in order; not every prompt has all of them."""
DIGITS = 8
"""The decimals of a score in a row: float32 has no more."""
FIELDS = {
    "case_id": "case_id",
    "relation_id": "relation",
    "prompt": "prompt",
    "subject": "subject_label",
    "input_ids": "ids",
    "input_tokens": "tokens",
    "subject_range": "subject",
    "answer": "answer",
    "other_answer": "other",
    "other_subject": "swapped",
    "high_score": "high",
    "low_score": "low",
}
"""The fields of a trace by their keys in a row of traces.jsonl, which has the maps behind them."""
MAPS = ("scores", "attributed")


@dataclass(frozen=True, slots=True, eq=False)
class CausalTrace:
    """The trace of a fact: the metric of the corrupted prompt with nothing and with each single state restored.

    ids, tokens: the prompt's. subject: the indices [begin, end) of the subject's. answer: the model's; other: the
    answer that a logit difference is against. swapped: the subject of the corrupted prompt, None for noise. high: the
    metric of the clean run. low: its mean over corrupted rows. scores: by kind the mean with the state restored,
    [tokens, layers]; for severed kinds [layers], at the last subject token. attributed: by kind the indirect effects
    of one backward pass, [tokens, layers].
    """

    case_id: int
    relation: str
    prompt: str
    subject_label: str
    ids: tuple[int, ...]
    tokens: tuple[str, ...]
    subject: tuple[int, int]
    answer: str
    high: float
    low: float
    scores: Mapping[str, np.ndarray]
    attributed: Mapping[str, np.ndarray] = field(default_factory=dict)
    other: str | None = None
    swapped: str | None = None

    @property
    def total(self) -> float:
        """Return the total effect of the corruption: clean minus corrupted."""
        return self.high - self.low

    @property
    def is_finite(self) -> bool:
        """Return True if no number is infinite or NaN."""
        arrays = (np.array([self.high, self.low]), *self.scores.values(), *self.attributed.values())
        return all(bool(np.isfinite(values).all()) for values in arrays)

    @property
    def effects(self) -> dict[str, np.ndarray]:
        """Return the indirect effects by kind: restored minus corrupted, or without scores the attributed ones."""
        if not self.scores:
            return dict(self.attributed)
        return {kind: scores - self.low for kind, scores in self.scores.items()}

    @property
    def maps(self) -> dict[str, np.ndarray]:
        """Return the effects that have a value for every token and layer."""
        return {kind: effects for kind, effects in self.effects.items() if kind not in SEVERED_KINDS}

    @property
    def places(self) -> dict[str, slice]:
        """Return the tokens at each of PLACES; the only token of a subject is its first and its last."""
        begin, end = self.subject
        last = len(self.tokens) - 1
        slices = {
            "first subject": slice(begin, begin + 1),
            "middle subject": slice(begin + 1, end - 1),
            "last subject": slice(end - 1, end),
            "first after": slice(end, min(end, last) + 1),
            "further": slice(end + 1, last),
            "last": slice(last, last + 1),
        }
        return {name: tokens for name, tokens in slices.items() if tokens.stop > tokens.start}

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> CausalTrace:
        """Return the trace of a row of traces.jsonl."""
        values: dict[str, Any] = {name: {kind: np.array(rows) for kind, rows in row[name].items()} for name in MAPS}
        for key, name in FIELDS.items():
            values[name] = tuple(row[key]) if isinstance(row[key], list) else row[key]
        return cls(**values)

    def as_row(self) -> dict[str, Any]:
        """Return the trace as a row of traces.jsonl."""
        values = {key: getattr(self, name) for key, name in FIELDS.items()}
        plain = {key: round(value, DIGITS) if isinstance(value, float) else value for key, value in values.items()}
        maps = {name: {kind: _listed(array) for kind, array in getattr(self, name).items()} for name in MAPS}
        return {**plain, **maps}


def read_traces(run: Run) -> list[CausalTrace]:
    """Return the traces of a finished run. Raises DataError for a row that is no trace."""
    return list(read_values(run.path(TRACED), conforming("traces", CausalTrace.of_row)))


def mlp_effects(traces: Sequence[CausalTrace]) -> list[tuple[int, float]]:
    """Return each layer with the mean effect of the MLPs around it at the last subject token, as ROME's authors chose.

    It is empty if no fact was traced, or no MLPs.
    """
    if not traces or MLP not in traces[0].effects:
        return []
    return list(enumerate(map(float, _by_place(traces, MLP)["last subject"].mean)))


@dataclass(frozen=True, slots=True)
class Untraced:
    """A fact that was not traced: `rule` is the name of the reason, `answer` the model's answer."""

    case_id: int
    relation: str
    rule: str
    answer: str

    def as_row(self) -> dict[str, Any]:
        """Return the fact as a row of the log of skipped facts."""
        return {"case_id": self.case_id, "relation_id": self.relation, "rule": self.rule, "answer": self.answer}


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """The mean effect in each layer and the half width of its 95% interval, each [layers], over `count` tokens."""

    mean: np.ndarray
    half_width: np.ndarray
    count: int

    @classmethod
    def of(cls, values: np.ndarray) -> Curve:
        """Return the curve of values [count, layers]."""
        return cls(values.mean(axis=0), Z_95 * values.std(axis=0) / np.sqrt(len(values)), len(values))

    @property
    def best(self) -> int:
        """Return the layer of the largest mean."""
        return int(self.mean.argmax())

    def as_dict(self) -> dict[str, Any]:
        """Return the curve for JSON."""
        return {"count": self.count, "mean": _listed(self.mean), "half_width_95": _listed(self.half_width)}


@dataclass(frozen=True, slots=True)
class AverageEffects:
    """The effects of facts, averaged: the total effect with the half width of its 95% interval, and curves by kind.

    curves: by kind and place; severed kinds have the last subject token only. correlations: by kind, of exact effects
    with attributed ones, over all tokens and layers of all facts.
    """

    facts: int
    high: float
    low: float
    total: tuple[float, float]
    curves: Mapping[str, Mapping[str, Curve]]
    correlations: Mapping[str, float]

    @classmethod
    def of(cls, traces: Sequence[CausalTrace]) -> AverageEffects:
        """Return the averages over traces, at least one, of the same model and kinds."""
        totals = np.array([trace.total for trace in traces])
        return cls(
            len(traces),
            float(np.mean([trace.high for trace in traces])),
            float(np.mean([trace.low for trace in traces])),
            (float(totals.mean()), float(Z_95 * totals.std() / np.sqrt(len(totals)))),
            {kind: _by_place(traces, kind) for kind in traces[0].effects},
            _correlations(traces),
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the averages for JSON."""
        mean, half_width = self.total
        curves = {
            kind: {place: curve.as_dict() for place, curve in by_place.items()}
            for kind, by_place in self.curves.items()
        }
        return {
            "facts": self.facts,
            "high_score": round(self.high, DIGITS),
            "low_score": round(self.low, DIGITS),
            "total_effect": {"mean": round(mean, DIGITS), "half_width_95": round(half_width, DIGITS)},
            "correlations": {kind: round(value, DIGITS) for kind, value in self.correlations.items()},
            "indirect_effects": curves,
        }


def _by_place(traces: Sequence[CausalTrace], kind: str) -> dict[str, Curve]:
    """Return the curve of each place that any trace has; all tokens at a place count alike, as released."""
    if kind in SEVERED_KINDS:
        return {"last subject": Curve.of(np.stack([trace.effects[kind] for trace in traces]))}
    effects: dict[str, list[np.ndarray]] = {}
    for trace in traces:
        for place, tokens in trace.places.items():
            effects.setdefault(place, []).append(trace.effects[kind][tokens])
    return {place: Curve.of(np.concatenate(effects[place])) for place in PLACES if place in effects}


def _correlations(traces: Sequence[CausalTrace]) -> dict[str, float]:
    """Return Pearson's correlation of exact and attributed effects, by the kinds that have both.

    Tokens before the subject are left out, where both are 0.
    """
    correlations = {}
    for kind in traces[0].attributed if traces[0].scores else ():
        exact = np.concatenate([trace.effects[kind][trace.subject[0] :].ravel() for trace in traces])
        attributed = np.concatenate([trace.attributed[kind][trace.subject[0] :].ravel() for trace in traces])
        if exact.std() and attributed.std():
            correlations[kind] = float(np.corrcoef(exact, attributed)[0, 1])
    return correlations


def _listed(values: np.ndarray) -> Any:
    return np.round(values.astype(float), DIGITS).tolist()
