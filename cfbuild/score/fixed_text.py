"""The perplexity of a fixed text under changes of the weights: a sign of what else an edit broke."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import resources

from cfbuild.data import CaseScore
from cfbuild.lm.delta import Delta
from cfbuild.lm.likelihood import Question, score_edited
from cfbuild.lm.model import LanguageModel
from cfbuild.progress import Progress, no_progress, silent
from cfbuild.score.metrics import DIGITS

WINDOW = 256
"""The longest piece of the fixed text that a model reads at once, in tokens."""


def fixed_text() -> str:
    """Return the text whose perplexity is measured, which was written for this."""
    return resources.files("cfbuild.score").joinpath("fixed_text.txt").read_text(encoding="utf-8").strip()


def perplexity(lm: LanguageModel, total: Delta | None) -> float | None:
    """Return the fixed text's perplexity under a change of weights (None: no change); None where it is not finite."""
    return perplexities(lm, [total])[0]


def perplexities(
    lm: LanguageModel, deltas: Sequence[Delta | None], done: Callable[[int], None] = no_progress
) -> list[float | None]:
    """Return the fixed text's perplexity under each change of weights (None: no change); None where it is not finite.

    A change that comes several times is measured once. done: gets the number of changes that are measured.
    """
    ids, window = lm.encode(fixed_text()), min(WINDOW, lm.max_tokens)
    pieces = [ids[start : start + window] for start in range(0, len(ids), window)]
    questions = [Question(piece[:1], (piece[1:],)) for piece in pieces if len(piece) > 1]
    counts = [len(question.continuations[0]) for question in questions]
    distinct = {id(delta): delta for delta in deltas}
    repeated = [delta for delta in distinct.values() for _ in questions]
    scored = score_edited(lm, questions * len(distinct), repeated, lambda count: done(count // len(questions)))
    nlls = iter(likelihood.nll_nats for (likelihood,) in scored)
    values = {key: _perplexity(sum(next(nlls) * count for count in counts) / sum(counts)) for key in distinct}
    return [values[id(delta)] for delta in deltas]


def with_perplexity(
    lm: LanguageModel, cases: Sequence[CaseScore], deltas: Sequence[Delta | None], progress: Progress = silent
) -> list[CaseScore]:
    """Return the cases with the fixed text's perplexity, unedited and under the case's change of weights `deltas[i]`.

    An edit that only puts a text in front of prompts (None) has the unedited model's. A perplexity after the edit that
    is not finite becomes the fault of the case.
    """
    distinct = len({id(delta) for delta in (None, *deltas)})
    unedited, *edited = perplexities(lm, [None, *deltas], lambda count: progress("fixed text", count, distinct))
    return [_with_perplexities(case, unedited, after) for case, after in zip(cases, edited, strict=True)]


def _with_perplexities(case: CaseScore, before: float | None, after: float | None) -> CaseScore:
    case = replace(case, pre=replace(case.pre, perplexity=before))
    if case.post is None:
        return case
    if after is None:
        return replace(case, post=None, fault="the fixed text's perplexity after the edit is not finite")
    return replace(case, post=replace(case.post, perplexity=after))


def _perplexity(nll_nats: float) -> float | None:
    try:
        value = math.exp(nll_nats)
    except OverflowError:
        return None
    return round(value, DIGITS) if math.isfinite(value) else None
