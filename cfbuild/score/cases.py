"""Scored cases of a model and its edits: the scores of each record's prompts and texts before and after its edit."""

from __future__ import annotations

import json
import math
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from cfbuild.data import CaseScore, PromptScore, Record, StageScore
from cfbuild.edit.artefacts import kept_texts
from cfbuild.edit.editor import Edit
from cfbuild.lm.delta import Delta
from cfbuild.lm.likelihood import Likelihood, ManyScores, Question, score, score_before_and_after, score_edited
from cfbuild.lm.model import LanguageModel
from cfbuild.lm.sample import answer, generate
from cfbuild.progress import Progress, silent
from cfbuild.records.prompts import prompts_of
from cfbuild.score.in_use import GROUPS_IN_USE, MOST_TOKENS, Ending, ObjectNames
from cfbuild.score.texts import Writing, distinct_ngrams, ngram_entropy_bits
from cfbuild.store.files import sha256_text
from cfbuild.text.names import find_name

GENERATION_TOKENS = 100
"""Tokens of a generated text, prompt included (released code)."""

Scored = dict[str, list[PromptScore]]
"""Scores of a record's prompts by group."""


def score_cases(
    lm: LanguageModel,
    records: Sequence[Record],
    edits: Sequence[Edit],
    editor: str,
    writing: Writing | None = None,
    progress: Progress = silent,
) -> list[CaseScore]:
    """Return the case of each record: its scores before and after `edits[i]`, which several records may share.

    editor: the editor's name in the cases. writing: the texts and answers that are generated too (None: none).
    progress: counts the prompts, texts and answers of this call.
    """
    writing = writing or Writing()
    pre, post = _score_prompts(lm, records, edits, progress)
    texts_pre, texts_post = _write_texts(lm, records, edits, writing, progress)
    answers_pre, answers_post = _write_answers(lm, records, edits, writing.names, progress)
    cases = []
    for i, record in enumerate(records):
        fault = edits[i].fault or _fault(pre[i], "before") or _fault(post[i], "after")
        cases.append(
            CaseScore(
                case_id=record.case_id,
                relation=record.relation,
                editor=editor,
                pre=_stage(
                    record,
                    {} if _fault(pre[i], "before") else pre[i],
                    texts_pre.get(i, ()),
                    answers_pre.get(i),
                    writing,
                ),
                post=None if fault else _stage(record, post[i], texts_post.get(i, ()), answers_post.get(i), writing),
                edit=edits[i].statistics,
                fault=fault,
            )
        )
    return cases


class GroupScores:
    """Scores of the prompts of `groups`, unedited and under many edits in turn.

    `score_cases` gives the same scores under one edit of each record. Here what lies below the edits is computed once:
    `layers` are those at which edits begin, and no edit may change a layer below the lowest of them.
    """

    def __init__(
        self, lm: LanguageModel, records: Sequence[Record], groups: Container[str], layers: Sequence[int]
    ) -> None:
        prompts = _prompts(lm, records, no_edits(len(records)))
        self._prompts = [prompt for prompt in prompts if prompt.group in groups]
        self._count = len(records)
        self._scores = ManyScores(lm, [prompt.before for prompt in self._prompts], layers)

    def before(self) -> list[StageScore | str]:
        """Return each record's scores on the unedited model, or why there are none."""
        return self._stages(self._scores.before, [None] * self._count, "before")

    def after(self, edits: Sequence[Edit]) -> list[StageScore | str]:
        """Return each record's scores under `edits[i]`, a change of weights, or why there are none."""
        faults = [edit.fault for edit in edits]
        return self._stages(
            self._scores.under([edits[prompt.record].delta for prompt in self._prompts]), faults, "after"
        )

    def _stages(
        self, likelihoods: Sequence[Sequence[Likelihood]], faults: Sequence[str | None], when: str
    ) -> list[StageScore | str]:
        scored: list[Scored] = [defaultdict(list) for _ in range(self._count)]
        for prompt, pair in zip(self._prompts, likelihoods, strict=True):
            scored[prompt.record][prompt.group].append(_prompt_score(pair))
        return [
            fault or _fault(scores, when) or _stage_of_prompts(scores)
            for fault, scores in zip(faults, scored, strict=True)
        ]


def no_edits(count: int) -> list[Edit]:
    """Return `count` edits that change nothing, one a record."""
    return [Edit((place,), None) for place in range(count)]


def _stage_of_prompts(scored: Scored) -> StageScore:
    return StageScore({group: tuple(scores) for group, scores in scored.items()})


def _fault(scored: Scored, when: str) -> str | None:
    nlls = (
        nll
        for scores in scored.values()
        for prompt_score in scores
        for nll in (prompt_score.target_new_nll, prompt_score.target_true_nll)
    )
    return None if all(map(math.isfinite, nlls)) else f"likelihoods {when} the edit are not finite"


@dataclass(frozen=True, slots=True)
class _Prompt:
    """A prompt of the record at place `record`: its question before the edit, and after it behind a prefix."""

    record: int
    group: str
    before: Question
    after: Question
    edit: Edit


def _prompts(lm: LanguageModel, records: Sequence[Record], edits: Sequence[Edit]) -> Iterator[_Prompt]:
    for index, (record, edit) in enumerate(zip(records, edits, strict=True)):
        for group, text, new, true in prompts_of(record):
            targets = lm.continuation(new.label), lm.continuation(true.label)
            before = Question(lm.encode(text), targets)
            after = Question(lm.encode(edit.prefix + text), targets) if edit.prefix else before
            yield _Prompt(index, group, before, after, edit)


def _score_prompts(
    lm: LanguageModel, records: Sequence[Record], edits: Sequence[Edit], progress: Progress
) -> tuple[list[Scored], list[Scored]]:
    """Return each record's scores by group, before and after its edit (none after an edit that failed)."""
    pre: list[Scored] = [defaultdict(list) for _ in records]
    post: list[Scored] = [defaultdict(list) for _ in records]
    prompts = list(_prompts(lm, records, edits))
    changed = [prompt for prompt in prompts if prompt.edit.delta is not None and not prompt.edit.prefix]
    deltas = [delta for prompt in changed if (delta := prompt.edit.delta) is not None]
    others = [prompt for prompt in prompts if prompt.edit.delta is None or prompt.edit.prefix]
    prefixed = [prompt for prompt in others if prompt.edit.prefix]
    counted = _counted(progress, "prompts", len(prompts) + len(prefixed))
    both = score_before_and_after(lm, [prompt.before for prompt in changed], deltas, counted(0))
    for prompt, (before, after) in zip(changed, both, strict=True):
        pre[prompt.record][prompt.group].append(_prompt_score(before))
        post[prompt.record][prompt.group].append(_prompt_score(after))
    for prompt, before in zip(
        others, score(lm, [prompt.before for prompt in others], counted(len(changed))), strict=True
    ):
        pre[prompt.record][prompt.group].append(_prompt_score(before))
    after_prefix = score_edited(
        lm, [prompt.after for prompt in prefixed], [prompt.edit.delta for prompt in prefixed], counted(len(prompts))
    )
    for prompt, after in zip(prefixed, after_prefix, strict=True):
        post[prompt.record][prompt.group].append(_prompt_score(after))
    return pre, post


def _counted(progress: Progress, task: str, total: int) -> Callable[[int], Callable[[int], None]]:
    """Return a function from an offset to a reporter: counted(30)(5) reports that 35 of `total` are finished."""
    return lambda offset: lambda count: progress(task, offset + count, total)


def _prompt_score(pair: Sequence[Likelihood]) -> PromptScore:
    new, true = pair
    return PromptScore(new.nll_nats, true.nll_nats, new.is_argmax, true.is_argmax)


Texts = dict[int, tuple[str, ...]]
"""Generated texts by the record's place, in the order of its generation prompts."""


def _write_texts(
    lm: LanguageModel, records: Sequence[Record], edits: Sequence[Edit], writing: Writing, progress: Progress
) -> tuple[Texts, Texts]:
    """Return each record's texts before its edit, and those after it if the edit has a delta or a prefix."""
    written = [index for index, record in enumerate(records) if writing.has_texts(record)]
    edited = [index for index in written if edits[index].delta is not None or edits[index].prefix]
    count_before, count_after = (sum(len(records[i].generation) for i in places) for places in (written, edited))
    if not count_before:
        return {}, {}
    counted, seed = _counted(progress, "texts", count_before + count_after), writing.seed
    unedited, changed = [records[i] for i in written], [records[i] for i in edited]
    after: list[tuple[str, ...]] = []

    def write_both() -> list[tuple[str, ...]]:
        """Return the unedited texts; the edited ones are written with them, as larger batches are faster."""
        both_edits = no_edits(len(unedited)) + [edits[i] for i in edited]
        both = _generate(lm, unedited + changed, both_edits, seed, counted(0))
        after.extend(both[len(unedited) :])
        return both[: len(unedited)]

    before = _unedited_texts(lm, unedited, seed, write_both)
    if not after:
        counted(0)(count_before)
        after = _generate(lm, changed, [edits[i] for i in edited], seed, counted(count_before))
    return dict(zip(written, before, strict=True)), dict(zip(edited, after, strict=True))


def _unedited_texts(
    lm: LanguageModel, records: Sequence[Record], seed: int, write: Callable[[], Sequence[tuple[str, ...]]]
) -> list[tuple[str, ...]]:
    """Return each record's texts before any edit: from the cache, or by `write` if they are not in it."""
    prompts = [[record.case_id, *record.generation] for record in records]
    settings = {"seed": seed, "tokens": GENERATION_TOKENS, "asked": sha256_text(json.dumps(prompts))}
    texts = iter(kept_texts(lm, "unedited-texts", settings, lambda: [text for texts in write() for text in texts]))
    return [tuple(islice(texts, len(record.generation))) for record in records]


def _generate(
    lm: LanguageModel, records: Sequence[Record], edits: Sequence[Edit], seed: int, done: Callable[[int], None]
) -> list[tuple[str, ...]]:
    """Return each record's texts under its edit, without the edit's prefix."""
    rows = [(i, j, prompt) for i, record in enumerate(records) for j, prompt in enumerate(record.generation)]
    # The same random draws before and after, so that only the edit makes two texts differ.
    keys = [f"{seed}:generation:{records[i].case_id}:{j}" for i, j, _ in rows]
    prompts = [lm.encode(edits[i].prefix + prompt) for i, _, prompt in rows]
    plain = [lm.encode(prompt) if edits[i].prefix else prompts[row] for row, (i, _, prompt) in enumerate(rows)]
    totals = [GENERATION_TOKENS + len(whole) - len(own) for whole, own in zip(prompts, plain, strict=True)]
    deltas: list[Delta | None] = [edits[i].delta for i, _, _ in rows]
    texts = generate(lm, prompts, keys, totals, deltas if any(deltas) else None, done)
    written: list[list[str]] = [[] for _ in records]
    for (i, _, _), text in zip(rows, texts, strict=True):
        written[i].append(text.removeprefix(edits[i].prefix))
    return [tuple(texts_of_record) for texts_of_record in written]


Answers = dict[int, dict[str, tuple[str, ...]]]
"""Answers by the record's place and by group, in the order of the group's prompts."""


def _write_answers(
    lm: LanguageModel,
    records: Sequence[Record],
    edits: Sequence[Edit],
    names: ObjectNames | None,
    progress: Progress,
) -> tuple[Answers, Answers]:
    """Return each record's answers in use before its edit, and those after it if the edit has a delta or a prefix."""
    if names is None:
        return {}, {}
    prompts = [
        (i, group, text)
        for i, record in enumerate(records)
        for group, text, _, _ in prompts_of(record)
        if group in GROUPS_IN_USE
    ]
    changed = [prompt for prompt in prompts if edits[prompt[0]].delta is not None or edits[prompt[0]].prefix]
    ending, counted = names.ending(records), _counted(progress, "answers", len(prompts) + len(changed))
    before = _unedited_answers(lm, [text for _, _, text in prompts], ending, counted(0))
    rows = [(text, edits[i].prefix, edits[i].delta) for i, _, text in changed]
    return _by_group(prompts, before), _by_group(changed, _answers(lm, rows, ending, counted(len(prompts))))


def _unedited_answers(
    lm: LanguageModel, prompts: Sequence[str], ending: Ending, done: Callable[[int], None]
) -> Sequence[str]:
    """Return the answer to each prompt before any edit, from the cache if it is there."""
    settings = {"tokens": MOST_TOKENS, "asked": sha256_text(json.dumps([ending.heads, *prompts]))}
    rows = [(prompt, "", None) for prompt in prompts]
    answers = kept_texts(lm, "unedited-answers", settings, lambda: _answers(lm, rows, ending, done))
    done(len(prompts))
    return answers


def _answers(
    lm: LanguageModel, rows: Sequence[tuple[str, str, Delta | None]], ending: Ending, done: Callable[[int], None]
) -> list[str]:
    """Return the answer to each row's prompt; a row is (prompt, prefix in front of it, delta)."""
    ids, deltas = [lm.encode(prefix + prompt) for prompt, prefix, _ in rows], [delta for *_, delta in rows]
    texts = answer(lm, ids, MOST_TOKENS, ending.has_come, deltas, done)
    return [
        ending.answer(_written(text.removeprefix(prefix), prompt))
        for text, (prompt, prefix, _) in zip(texts, rows, strict=True)
    ]


def _by_group(prompts: Sequence[tuple[int, str, str]], answers: Sequence[str]) -> Answers:
    found: Answers = {}
    for (i, group, _), text in zip(prompts, answers, strict=True):
        groups = found.setdefault(i, {})
        groups[group] = (*groups.get(group, ()), text)
    return found


def _written(text: str, prompt: str) -> str:
    """Return the part of a text after its prompt, which some tokenizers change to NFC."""
    composed = unicodedata.normalize("NFC", prompt)
    return text[len(composed if text.startswith(composed) else prompt) :]


def _stage(
    record: Record,
    scored: Scored,
    texts: tuple[str, ...],
    answers: Mapping[str, tuple[str, ...]] | None,
    writing: Writing,
) -> StageScore:
    stage = _stage_of_prompts(scored)
    if writing.names is not None and answers:
        shares = {group: _share_right(record, given, writing.names) for group, given in answers.items()}
        stage = replace(
            stage,
            answers=answers,
            in_use_rewrite=shares.get("rewrite"),
            in_use_paraphrase=shares.get("paraphrase"),
        )
    if writing.references is None or not texts:
        return stage
    written = [_written(text, prompt) for text, prompt in zip(texts, record.generation, strict=True)]
    return replace(
        stage,
        generations=texts,
        generation_entropy=sum(map(ngram_entropy_bits, texts)) / len(texts),
        reference_score=writing.references.similarity(record.relation, record.target_new.id, texts),
        mentions_target_new=_share_naming(record.target_new.label, written),
        distinct_1=distinct_ngrams(written, 1),
        distinct_2=distinct_ngrams(written, 2),
    )


def _share_naming(name: str, texts: Sequence[str]) -> float:
    return sum(find_name(text, (name,)) is not None for text in texts) / len(texts)


def _share_right(record: Record, answers: Sequence[str], names: ObjectNames) -> float:
    return sum(names.is_right(answer, record.target_new, record.target_true) for answer in answers) / len(answers)
