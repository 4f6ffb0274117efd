"""Keep only counterfactuals that a language model finds unlikely: the published data's leak is closed here.

Every object of the candidate's pool is scored once after its rewrite prompt, and every draw of o* is judged by these
scores. The user sets the thresholds; what was measured is kept with each record and each reject.
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
"""Least lead of o_c that is a preference: batches of different shape differ by up to 1e-4 in float32."""


@dataclass(slots=True)
class _Trial:
    """A candidate under judgement: its pool's NLLs, the draws left, the figures, and the last draw's refusal."""

    candidate: Candidate
    nlls: Mapping[Target, float]
    draws: Iterator[tuple[int, Target]]
    measured: dict[str, int | float | str | bool | None]
    refusal: str = "no-counterfactual"


@dataclass(frozen=True, slots=True)
class RankRecipe:
    """A model and thresholds, of which a worker makes a filter of its own."""

    model: ModelRecipe
    options: FilterOptions

    def filter(self) -> RankFilter:
        """Return the filter, with its model loaded. Raises ConfigError if that is another model."""
        return RankFilter(self.model.load(), self.options)


class RankFilter:
    """A filter that judges candidates with one model; see FilterOptions for what passes.

    progress: told how many prompts the model was asked. model: the options by which workers load the model too; None
    where there are no workers.
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
        """Model, weights, number format and thresholds: all that affects a verdict."""
        return {**self.lm.identity, **asdict(self.options)}

    def judge(self, candidates: Sequence[Candidate]) -> list[Verdict]:
        """Return a verdict for each candidate, in order.

        It has the first draw that passes every threshold, or the reason why none did.
        """
        verdicts: dict[int, Verdict] = {}
        trials = dict(enumerate(self._trials(candidates)))
        while trials:
            asked: dict[int, Target] = {}
            for index, trial in trials.items():
                verdict = self._next_draw(trial)
                if isinstance(verdict, Verdict):
                    verdicts[index] = verdict
                else:
                    asked[index] = verdict
            verdicts.update(self._ask_neighbors({index: (trials[index], target) for index, target in asked.items()}))
            trials = {index: trials[index] for index in asked if index not in verdicts}
        return [verdicts[index] for index in range(len(candidates))]

    def _trials(self, candidates: Sequence[Candidate]) -> Iterator[_Trial]:
        """Yield the trial of each candidate; one pass for all scores their pools after the rewrite prompts."""
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
        """Return the next draw that passes on the rewrite prompt, or the rejection of a candidate without.

        A candidate whose fact is unknown, or whose likelihoods are not finite, is rejected too.
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

    def _ask_neighbors(self, asked: Mapping[int, tuple[_Trial, Target]]) -> dict[int, Verdict]:
        """Return the verdicts of trials whose draw keeps enough neighbors right; the others go on to the next draw."""
        if not self.options.min_neighbors_right:
            return {index: _keep(trial, target) for index, (trial, target) in asked.items()}
        rows = [
            (index, Question(self.lm.encode(prompt), self._targets(trial, target)))
            for index, (trial, target) in asked.items()
            for prompt in trial.candidate.neighborhood
        ]
        right = dict.fromkeys(asked, 0)
        for (index, _), (true, new) in zip(rows, self._score([row[1] for row in rows]), strict=True):
            right[index] += new.nll_nats - true.nll_nats >= MARGIN_NATS
        kept = {}
        for index, (trial, target) in asked.items():
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
    """Return the verdict on a real change, which no model refuses: what it believes, old, new or neither, is kept."""
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
