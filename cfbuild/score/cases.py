"""The paper's metrics (section 3.4): what a model says of a record before and after an edit, and tables of that.

Per-case numbers are kept, aggregates are computed from them, so any subset or interval can be had without a model.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from cfbuild.data import CaseScore, PromptScore, Record, StageScore
from cfbuild.lm.delta import Delta, Edit
from cfbuild.lm.likelihood import Likelihood, Question, score, score_before_and_after
from cfbuild.lm.model import LanguageModel
from cfbuild.lm.sample import generate
from cfbuild.records.prompts import prompts_of
from cfbuild.score.texts import ReferenceTexts, ngram_entropy_bits
from cfbuild.text.names import find_name

GENERATION_TOKENS = 100
"""Length of a generated text, prompt included (released code)."""

Scored = dict[str, list[PromptScore]]
"""Scores of one record's prompts by group."""


# ------------------------------------------------------------------------------------------------ from model to cases


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


# ----------------------------------------------------------------------------------------------- from cases to figures
