"""The model filter: it keeps only counterfactuals that a language model finds unlikely.

Every object of a candidate's pool is scored once after the rewrite prompt, and every draw of o* is judged by these
scores and the user's thresholds. The figures are kept with each record and each reject.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from cfbuild.data import Candidate, Decision, Measured, Target, Verdict
from cfbuild.filter.thresholds import FilterOptions
from cfbuild.lm.likelihood import Likelihood, Question, score
from cfbuild.lm.load import ModelRecipe
from cfbuild.lm.model import LanguageModel
from cfbuild.lm.selection import ModelOptions
from cfbuild.progress import Progress, Running, silent

MARGIN_NATS = 1e-3
"""The least difference of NLLs that is a preference: batches of different shapes differ by up to 1e-4 in float32."""


@dataclass(slots=True)
class _Trial:
    """A candidate with its pool's NLLs, its draws that are still to be judged, the figures, and the last refusal."""

    candidate: Candidate
    nlls: Mapping[Target, float]
    draws: Iterator[tuple[int, Target]]
    measured: dict[str, int | float | str | bool | None]
    refusal: str = "no-counterfactual"


@dataclass(frozen=True, slots=True)
class RankRecipe:
    """A model and thresholds, of which a worker makes its own filter."""

    model: ModelRecipe
    options: FilterOptions

    def filter(self) -> RankFilter:
        """Return the filter, with its model loaded. Raises ConfigError if that is another model."""
        return RankFilter(self.model.load(), self.options)


class RankFilter:
    """A filter that judges candidates with one model, by the thresholds in `options`.

    progress: gets the number of prompts that the model has scored.
    model: the options by which workers load the model; None without workers.
    """

    def __init__(
        self, lm: LanguageModel, options: FilterOptions, progress: Progress = silent, model: ModelOptions | None = None
    ) -> None:
        self.lm = lm
        self.options = options
        self.recipe = None if model is None else RankRecipe(ModelRecipe.of(lm, model), options)
        self._progress = Running(progress)

    @property
    def signature(self) -> dict[str, object]:
        """Return the model, its weights and number format, and the thresholds: all that affects a verdict."""
        return {**self.lm.identity, **asdict(self.options)}

    def judge(self, candidates: Sequence[Candidate]) -> list[Verdict]:
        """Return a verdict for each candidate, in order: the first draw that passes, or why none does."""
        verdicts: dict[int, Verdict] = {}
        trials = dict(enumerate(self._trials(candidates)))
        while trials:
            drawn: dict[int, tuple[_Trial, Target]] = {}
            for index, trial in trials.items():
                result = self._next_draw(trial)
                if isinstance(result, Verdict):
                    verdicts[index] = result
                else:
                    drawn[index] = trial, result
            verdicts.update(self._judge_by_neighbors(drawn))
            trials = {index: trial for index, (trial, _) in drawn.items() if index not in verdicts}
        return [verdicts[index] for index in range(len(candidates))]

    def _trials(self, candidates: Sequence[Candidate]) -> Iterator[_Trial]:
        """Yield the trial of each candidate, after scoring all pools after the rewrite prompts in one pass."""
        questions = [
            Question(
                self.lm.encode(candidate.rewrite),
                tuple(self.lm.continuation(target.label) for target in candidate.pool),
            )
            for candidate in candidates
        ]
        for candidate, answers in zip(candidates, self._score(questions), strict=True):
            nlls = {target: answer.nll_nats for target, answer in zip(candidate.pool, answers, strict=True)}
            measured: dict[str, int | float | str | bool | None] = {
                "target_true_nll": round(nlls[candidate.target_true], 5),
                "target_true_rank": _rank(nlls, candidate.target_true),
                "pool_size": len(nlls),
                "attempts": 0,
            }
            if not all(map(math.isfinite, nlls.values())):
                measured |= {"target_true_nll": None, "target_true_rank": None}
            yield _Trial(candidate, nlls, iter(enumerate(candidate.draws, 1)), measured)

    def _next_draw(self, trial: _Trial) -> Target | Verdict:
        """Return the next draw that passes on the rewrite prompt, or a verdict if there is none to try.

        A candidate whose fact is unknown or whose likelihoods are not finite is rejected; a real change is kept.
        """
        limit = self.options.max_true_rank
        if trial.measured["target_true_nll"] is None:
            return _reject("likelihoods-not-finite", trial.measured)
        if trial.candidate.is_change:
            return _kept_change(trial)
        if limit is not None and _rank(trial.nlls, trial.candidate.target_true) > limit:
            return _reject("unknown-fact", {**trial.measured, "max_true_rank": limit})
        for attempt, target in trial.draws:
            rank = _rank(trial.nlls, target)
            trial.measured |= {
                "target_new": target.id,
                "target_new_nll": round(trial.nlls[target], 5),
                "target_new_rank": rank,
                "attempts": attempt,
            }
            if trial.nlls[target] - trial.nlls[trial.candidate.target_true] < MARGIN_NATS:
                trial.refusal = "false-object-preferred"
            elif rank < self.options.min_rank_share * len(trial.nlls):
                trial.refusal = "false-object-ranks-high"
            else:
                return target
        return _reject(trial.refusal, trial.measured)

    def _judge_by_neighbors(self, drawn: Mapping[int, tuple[_Trial, Target]]) -> dict[int, Verdict]:
        """Return the verdicts of the `drawn` trials, by candidate, with enough right neighbors; others draw again."""
        if not self.options.min_neighbors_right:
            return {index: _keep(trial, target) for index, (trial, target) in drawn.items()}
        rows = [
            (index, Question(self.lm.encode(prompt), self._targets(trial, target)))
            for index, (trial, target) in drawn.items()
            for prompt in trial.candidate.neighborhood
        ]
        right = dict.fromkeys(drawn, 0)
        for (index, _), (true, new) in zip(rows, self._score([row[1] for row in rows]), strict=True):
            right[index] += new.nll_nats - true.nll_nats >= MARGIN_NATS
        kept = {}
        for index, (trial, target) in drawn.items():
            total = len(trial.candidate.neighborhood)
            trial.measured |= {"neighbors_right": right[index], "neighbors": total}
            if right[index] >= self.options.min_neighbors_right * total:
                kept[index] = _keep(trial, target)
            else:
                trial.refusal = "neighbors-wrong"
        return kept

    def _score(self, questions: Sequence[Question]) -> list[list[Likelihood]]:
        return score(self.lm, questions, lambda count: self._progress("prompts asked", count, len(questions)))

    def _targets(self, trial: _Trial, target: Target) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return self.lm.continuation(trial.candidate.target_true.label), self.lm.continuation(target.label)


def _rank(nlls: Mapping[Target, float], target: Target) -> int:
    return 1 + sum(nll < nlls[target] for nll in nlls.values())


def _keep(trial: _Trial, target: Target) -> Verdict:
    scores: Measured = {name: value for name, value in trial.measured.items() if name != "target_new"}
    return Verdict(target, Decision(True, "kept"), scores)


def _kept_change(trial: _Trial) -> Verdict:
    """Return the verdict on a real change: it is always kept, with the model's belief in its scores."""
    target = trial.candidate.draws[0]
    rank = _rank(trial.nlls, target)
    believes = "old" if trial.measured["target_true_rank"] == 1 else "new" if rank == 1 else "neither"
    trial.measured |= {
        "target_new_nll": round(trial.nlls[target], 5),
        "target_new_rank": rank,
        "attempts": 1,
        "believes": believes,
    }
    return _keep(trial, target)


def _reject(rule: str, measured: Measured) -> Verdict:
    return Verdict(None, Decision(False, rule, dict(measured)))
