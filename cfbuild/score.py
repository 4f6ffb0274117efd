"""The paper's metrics (section 3.4): what a model says of a record before and after an edit, and tables of that.

Per-case numbers are kept, aggregates are computed from them, so any subset or interval can be had without a model.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cfbuild.data import CaseScore, PromptScore, Record, Reference, StageScore, Target
from cfbuild.graph import find_name
from cfbuild.groups import GROUPS
from cfbuild.lm.delta import Delta, Edit
from cfbuild.lm.logprob import Likelihood, Question, score, score_before_and_after
from cfbuild.lm.model import LanguageModel
from cfbuild.lm.sample import generate

GENERATION_TOKENS = 100
"""Length of a generated text, prompt included (released code)."""
ENTROPY_WEIGHTS = {2: 2 / 3, 3: 4 / 3}
"""Weights of the bigram and trigram entropies in GE, whose mean is taken (released code)."""
WORD = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")
"""A word token of GE: letters and digits with inner apostrophes, or one mark."""
Z_95 = 1.96
"""Standard deviations of a 95% interval (paper, Table 4)."""
BOOTSTRAP_DRAWS = 1000
BOOTSTRAP_SEED = 0

Scored = dict[str, list[PromptScore]]
"""Scores of one record's prompts by group."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure per case: the mean of `of` over a group's prompts. All are reported times 100."""

    name: str
    group: str
    of: Callable[[PromptScore], float]


def _new_wins(score: PromptScore) -> float:
    return float(score.target_true_nll > score.target_new_nll)


def _new_margin(score: PromptScore) -> float:
    return math.exp(-score.target_new_nll) - math.exp(-score.target_true_nll)


def _true_wins(score: PromptScore) -> float:
    return float(score.target_true_nll < score.target_new_nll)


METRICS = (
    Metric("ES", "rewrite", _new_wins),
    Metric("EM", "rewrite", _new_margin),
    Metric("PS", "paraphrase", _new_wins),
    Metric("PM", "paraphrase", _new_margin),
    Metric("NS", "neighborhood", _true_wins),
    Metric("NM", "neighborhood", lambda score: -_new_margin(score)),
    Metric("rewrite_exact", "rewrite", lambda score: float(score.target_new_argmax)),
    Metric("paraphrase_exact", "paraphrase", lambda score: float(score.target_new_argmax)),
    Metric("neighborhood_exact", "neighborhood", lambda score: float(score.target_true_argmax)),
    *(Metric(name, name, _true_wins if group.stays_true else _new_wins) for name, group in GROUPS.items()),
)
TEXT_METRICS = {
    "GE": "generation_entropy",
    "RS": "reference_score",
    "generation_mentions": "mentions_target_new",
}
"""Figures that are computed once a case from its generated texts: name -> field of StageScore."""
HARMONIC = ("ES", "PS", "NS")
"""S is the harmonic mean of these."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A metric over cases, times 100, with the half width of its 95% interval and how many cases it is over."""

    mean: float
    half_width: float
    cases: int


# ------------------------------------------------------------------------------------------------ from model to cases


class ReferenceTexts:
    """Reference texts by (relation, object), and the TF-IDF space that all of them span."""

    def __init__(self, references: Iterable[Reference]) -> None:
        texts: dict[tuple[str, str], list[str]] = defaultdict(list)
        for reference in references:
            texts[reference.relation, reference.object].append(reference.text)
        self._joined = {key: " ".join(some) for key, some in texts.items()}
        self._vectorizer = self._fit([text for some in texts.values() for text in some])

    @staticmethod
    def _fit(texts: Sequence[str]) -> Any:
        if not texts:
            return None
        from sklearn.feature_extraction.text import TfidfVectorizer

        return TfidfVectorizer().fit(texts)

    def similarity(self, relation: str, target: str, generations: Sequence[str]) -> float | None:
        """RS of one case: the cosine of its generations, joined, and the references; None where there are none."""
        reference = self._joined.get((relation, target))
        if reference is None or not generations:
            return None
        vectors = self._vectorizer.transform([" ".join(generations), reference])  # rows have unit length
        return float((vectors[0] @ vectors[1].T).toarray()[0, 0])


def score_cases(
    lm: LanguageModel,
    records: Sequence[Record],
    edits: Sequence[Edit],
    editor: str,
    references: ReferenceTexts | None = None,
    *,
    seed: int = 0,
) -> list[CaseScore]:
    """Score records before and after `edits[i]`; with `references`, generate texts too (each seeded by its case)."""
    pre, post = _score_prompts(lm, records, edits)
    texts_pre: list[tuple[str, ...]] = [()] * len(records)
    texts_post = texts_pre
    if references is not None:
        texts_pre = _generate(lm, records, None, seed)
        edited = [index for index, edit in enumerate(edits) if edit.delta is not None]
        deltas = [delta for edit in edits if (delta := edit.delta) is not None]
        written = dict(zip(edited, _generate(lm, [records[i] for i in edited], deltas, seed), strict=True))
        texts_post = [written.get(index, ()) for index in range(len(records))]
    cases = []
    for i, record in enumerate(records):
        fault = edits[i].fault or _fault(pre[i], "before") or _fault(post[i], "after")
        cases.append(
            CaseScore(
                case_id=record.case_id,
                relation=record.relation,
                editor=editor,
                pre=_stage(record, {} if _fault(pre[i], "before") else pre[i], texts_pre[i], references),
                post=None if fault else _stage(record, post[i], texts_post[i], references),
                edit=edits[i].statistics,
                fault=fault,
            )
        )
    return cases


def _fault(prompts: Scored, when: str) -> str | None:
    numbers = (
        nll for scores in prompts.values() for one in scores for nll in (one.target_new_nll, one.target_true_nll)
    )
    return None if all(map(math.isfinite, numbers)) else f"likelihoods {when} the edit are not finite"


def prompts_of(record: Record) -> list[tuple[str, str, Target, Target]]:
    """(group, text, new target, true target) of every prompt that is scored, in the record's order."""
    own = [
        ("rewrite", record.rewrite),
        *(("paraphrase", paraphrase.text) for paraphrase in record.paraphrases),
        *(("neighborhood", prompt.text) for prompt in record.neighborhood),
        *(("attribute", prompt.text) for prompt in record.attribute),
    ]
    beyond = [(group, one) for group, prompts in record.groups.items() for one in prompts]
    return [
        *((group, text, record.target_new, record.target_true) for group, text in own),
        *((group, one.text, one.target_new, one.target_true) for group, one in beyond),
    ]


def _score_prompts(
    lm: LanguageModel, records: Sequence[Record], edits: Sequence[Edit]
) -> tuple[list[Scored], list[Scored]]:
    """Scores by group of each record, before and after its edit (nothing after an edit that failed)."""
    pre: list[Scored] = [defaultdict(list) for _ in records]
    post: list[Scored] = [defaultdict(list) for _ in records]
    edited: list[tuple[int, str, Question, Delta]] = []
    plain: list[tuple[int, str, Question]] = []
    for index, (record, edit) in enumerate(zip(records, edits, strict=True)):
        for group, text, new, true in prompts_of(record):
            question = Question(lm.encode(text), (lm.continuation(new.label), lm.continuation(true.label)))
            if edit.delta is None:
                plain.append((index, group, question))
            else:
                edited.append((index, group, question, edit.delta))
    both = score_before_and_after(lm, [item[2] for item in edited], [item[3] for item in edited])
    for (index, group, _, _), (before, after) in zip(edited, both, strict=True):
        pre[index][group].append(_prompt_score(before))
        post[index][group].append(_prompt_score(after))
    for (index, group, _), before in zip(plain, score(lm, [item[2] for item in plain]), strict=True):
        pre[index][group].append(_prompt_score(before))
    return pre, post


def _prompt_score(pair: Sequence[Likelihood]) -> PromptScore:
    new, true = pair
    return PromptScore(new.nll_nats, true.nll_nats, new.is_argmax, true.is_argmax)


def _generate(
    lm: LanguageModel, records: Sequence[Record], deltas: Sequence[Delta] | None, seed: int
) -> list[tuple[str, ...]]:
    rows = [(i, j, prompt) for i, record in enumerate(records) for j, prompt in enumerate(record.generation)]
    # The same draws before and after, so that a difference between two texts is the edit's doing.
    keys = [f"{seed}:generation:{records[i].case_id}:{j}" for i, j, _ in rows]
    each = [deltas[i] for i, _, _ in rows] if deltas is not None else None
    texts = generate(lm, [lm.encode(prompt) for _, _, prompt in rows], keys, GENERATION_TOKENS, each)
    written: list[list[str]] = [[] for _ in records]
    for (i, _, _), text in zip(rows, texts, strict=True):
        written[i].append(text)
    return [tuple(some) for some in written]


def _stage(record: Record, prompts: Scored, texts: tuple[str, ...], references: ReferenceTexts | None) -> StageScore:
    groups = {group: tuple(scores) for group, scores in prompts.items()}
    if references is None or not texts:
        return StageScore(groups)
    said = [text[len(prompt) :] for text, prompt in zip(texts, record.generation, strict=True)]
    return StageScore(
        prompts=groups,
        generations=texts,
        generation_entropy=sum(map(ngram_entropy_bits, texts)) / len(texts),
        reference_score=references.similarity(record.relation, record.target_new.id, texts),
        mentions_target_new=sum(find_name(text, (record.target_new.label,)) is not None for text in said) / len(said),
    )


def ngram_entropy_bits(text: str) -> float:
    """GE of one text: the weighted mean of its bigram and trigram entropies in bits."""
    words = WORD.findall(text)
    total = 0.0
    for size, weight in ENTROPY_WEIGHTS.items():
        counts = Counter(zip(*(words[start:] for start in range(size)), strict=False))
        share = np.array(list(counts.values()), dtype=float) / max(1, counts.total())
        total += weight * float(-(share * np.log2(share)).sum())
    return total / len(ENTROPY_WEIGHTS)


# ----------------------------------------------------------------------------------------------- from cases to figures


def aggregate(cases: Sequence[CaseScore], stage: str) -> dict[str, Figure]:
    """Every metric of a stage (`pre` or `post`) over the cases that have it; S last. Faulty cases have no `post`."""
    values = case_values(cases, stage)
    figures = {name: _figure([value for value in column if value is not None]) for name, column in values.items()}
    figures = {name: figure for name, figure in figures.items() if figure.cases}
    harmonic = _harmonic_figure(values)
    return {**figures, "S": harmonic} if harmonic else figures


def means(cases: Sequence[CaseScore], stage: str) -> dict[str, float]:
    """The means of `aggregate`, without its intervals."""
    values = case_values(cases, stage)
    rows = _harmonic_rows(values)
    figures = {name: [value for value in column if value is not None] for name, column in values.items()}
    plain = {name: float(np.mean(column)) for name, column in figures.items() if column}
    return {**plain, "S": _harmonic_mean(rows.mean(axis=0))} if len(rows) else plain


def case_values(cases: Sequence[CaseScore], stage: str) -> dict[str, list[float | None]]:
    """Each metric of each case, times 100; None where a case has no such prompts."""
    stages = [getattr(case, stage) for case in cases]
    values = {metric.name: [_mean(metric, one) for one in stages] for metric in METRICS}
    for name, attribute in TEXT_METRICS.items():
        values[name] = [_times_100(getattr(one, attribute)) if one else None for one in stages]
    return values


def _mean(metric: Metric, stage: StageScore | None) -> float | None:
    scores = stage.prompts.get(metric.group) if stage else None
    return 100 * sum(map(metric.of, scores)) / len(scores) if scores else None


def _times_100(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _figure(values: Sequence[float]) -> Figure:
    if not values:
        return Figure(0.0, 0.0, 0)
    return Figure(float(np.mean(values)), float(Z_95 * np.std(values) / math.sqrt(len(values))), len(values))


def _harmonic_figure(values: Mapping[str, Sequence[float | None]]) -> Figure | None:
    """S with a bootstrap interval over cases: a harmonic mean of means has no per-case value to take a deviation of."""
    table = _harmonic_rows(values)
    if not len(table):
        return None
    draw = np.random.RandomState(BOOTSTRAP_SEED)  # the one generator of numpy whose draws never change
    samples = [
        _harmonic_mean(table[draw.randint(len(table), size=len(table))].mean(axis=0)) for _ in range(BOOTSTRAP_DRAWS)
    ]
    low, high = np.percentile(samples, [2.5, 97.5])
    return Figure(_harmonic_mean(table.mean(axis=0)), float(high - low) / 2, len(table))


def _harmonic_rows(values: Mapping[str, Sequence[float | None]]) -> np.ndarray:
    """What S is made of, for the cases that have all of it: [cases, 3]."""
    rows = [row for row in zip(*(values[name] for name in HARMONIC), strict=True) if None not in row]
    return np.array(rows, dtype=float).reshape(-1, len(HARMONIC))


def _harmonic_mean(parts: np.ndarray) -> float:
    return 0.0 if (parts <= 0).any() else float(len(parts) / (1 / parts).sum())
