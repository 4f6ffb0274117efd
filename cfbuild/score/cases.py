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
"""Scores of one record's prompts by group."""


def score_cases(
    lm: LanguageModel,
    records: Sequence[Record],
    edits: Sequence[Edit],
    editor: str,
    writing: Writing | None = None,
    progress: Progress = silent,
) -> list[CaseScore]:
    """Return the scores of record i before and after `edits[i]`, which may be the edit of many records.

    `editor` is the editor's name in the cases. `writing` says what is written too: texts, each seeded by its seed and
    the case, and answers. `progress` counts prompts, texts and answers of this call.
    """
    writing = writing or Writing()
    pre, post = _score_prompts(lm, records, edits, progress)
    texts_pre, texts_post = _write_texts(lm, records, edits, writing, progress)
    said_pre, said_post = _answer(lm, records, edits, writing.names, progress)
    cases = []
    for i, record in enumerate(records):
        fault = edits[i].fault or _fault(pre[i], "before") or _fault(post[i], "after")
        cases.append(
            CaseScore(
                case_id=record.case_id,
                relation=record.relation,
                editor=editor,
                pre=_stage(
                    record, {} if _fault(pre[i], "before") else pre[i], texts_pre.get(i, ()), said_pre.get(i), writing
                ),
                post=None if fault else _stage(record, post[i], texts_post.get(i, ()), said_post.get(i), writing),
                edit=edits[i].statistics,
                fault=fault,
            )
        )
    return cases


class GroupScores:
    """Scores of records' prompts of some groups, unedited and under many edits, none of which changes a lower layer.

    It is what `score_cases` finds out in one go. `layers` are those at which the edits begin.
    """

    def __init__(
        self, lm: LanguageModel, records: Sequence[Record], groups: Container[str], layers: Sequence[int]
    ) -> None:
        nothing = [Edit((place,), None) for place in range(len(records))]
        self._asked = [one for one in _questions(lm, records, nothing) if one.group in groups]
        self._count = len(records)
        self._scores = ManyScores(lm, [one.before for one in self._asked], layers)

    def before(self) -> list[StageScore | str]:
        """Return each record's scores unedited, or why there are none."""
        return self._stages(self._scores.before, [None] * self._count, "before")

    def after(self, edits: Sequence[Edit]) -> list[StageScore | str]:
        """Return record i's scores under `edits[i]`, which changes weights, or why there are none."""
        faults = [edit.fault for edit in edits]
        return self._stages(self._scores.under([edits[one.record].delta for one in self._asked]), faults, "after")

    def _stages(
        self, answers: Sequence[Sequence[Likelihood]], faults: Sequence[str | None], when: str
    ) -> list[StageScore | str]:
        scored: list[Scored] = [defaultdict(list) for _ in range(self._count)]
        for prompt, likelihoods in zip(self._asked, answers, strict=True):
            scored[prompt.record][prompt.group].append(_prompt_score(likelihoods))
        return [
            fault or _fault(prompts, when) or _prompts_alone(prompts)
            for fault, prompts in zip(faults, scored, strict=True)
        ]


def _prompts_alone(prompts: Scored) -> StageScore:
    return StageScore({group: tuple(scores) for group, scores in prompts.items()})


def _fault(prompts: Scored, when: str) -> str | None:
    numbers = (
        nll
        for scores in prompts.values()
        for prompt_score in scores
        for nll in (prompt_score.target_new_nll, prompt_score.target_true_nll)
    )
    return None if all(map(math.isfinite, numbers)) else f"likelihoods {when} the edit are not finite"


@dataclass(frozen=True, slots=True)
class _Asked:
    """A prompt of the record at place `record`: its question before the edit, and after it, which a prefix changes."""

    record: int
    group: str
    before: Question
    after: Question
    edit: Edit


def _questions(lm: LanguageModel, records: Sequence[Record], edits: Sequence[Edit]) -> Iterator[_Asked]:
    for index, (record, edit) in enumerate(zip(records, edits, strict=True)):
        for group, text, new, true in prompts_of(record):
            targets = lm.continuation(new.label), lm.continuation(true.label)
            before = Question(lm.encode(text), targets)
            after = Question(lm.encode(edit.prefix + text), targets) if edit.prefix else before
            yield _Asked(index, group, before, after, edit)


def _score_prompts(
    lm: LanguageModel, records: Sequence[Record], edits: Sequence[Edit], progress: Progress
) -> tuple[list[Scored], list[Scored]]:
    """Return each record's scores by group, before and after its edit (none after an edit that failed)."""
    pre: list[Scored] = [defaultdict(list) for _ in records]
    post: list[Scored] = [defaultdict(list) for _ in records]
    asked = list(_questions(lm, records, edits))
    changed = [prompt for prompt in asked if prompt.edit.delta is not None and not prompt.edit.prefix]
    deltas = [delta for prompt in changed if (delta := prompt.edit.delta) is not None]
    others = [prompt for prompt in asked if prompt.edit.delta is None or prompt.edit.prefix]
    prefixed = [prompt for prompt in others if prompt.edit.prefix]
    counted = _counted(progress, "prompts", len(asked) + len(prefixed))
    both = score_before_and_after(lm, [prompt.before for prompt in changed], deltas, counted(0))
    for prompt, (before, after) in zip(changed, both, strict=True):
        pre[prompt.record][prompt.group].append(_prompt_score(before))
        post[prompt.record][prompt.group].append(_prompt_score(after))
    for prompt, before in zip(
        others, score(lm, [prompt.before for prompt in others], counted(len(changed))), strict=True
    ):
        pre[prompt.record][prompt.group].append(_prompt_score(before))
    after_prefix = score_edited(
        lm, [prompt.after for prompt in prefixed], [prompt.edit.delta for prompt in prefixed], counted(len(asked))
    )
    for prompt, after in zip(prefixed, after_prefix, strict=True):
        post[prompt.record][prompt.group].append(_prompt_score(after))
    return pre, post


def _counted(progress: Progress, task: str, total: int) -> Callable[[int], Callable[[int], None]]:
    """Return a function that, given how many of `total` were finished before, returns what reports how many are now."""
    return lambda before: lambda count: progress(task, before + count, total)


def _prompt_score(pair: Sequence[Likelihood]) -> PromptScore:
    new, true = pair
    return PromptScore(new.nll_nats, true.nll_nats, new.is_argmax, true.is_argmax)


Texts = dict[int, tuple[str, ...]]
"""Generated texts by the record's place, in the order of its generation prompts."""


def _write_texts(
    lm: LanguageModel, records: Sequence[Record], edits: Sequence[Edit], writing: Writing, progress: Progress
) -> tuple[Texts, Texts]:
    """Return the texts of each record before its edit, and those after it where the edit has a change or a prefix."""
    wanted = [index for index, record in enumerate(records) if writing.has_texts(record)]
    edited = [index for index in wanted if edits[index].delta is not None or edits[index].prefix]
    first, second = (sum(len(records[i].generation) for i in some) for some in (wanted, edited))
    if not first:
        return {}, {}
    counted, seed = _counted(progress, "texts", first + second), writing.seed
    unedited, changed = [records[i] for i in wanted], [records[i] for i in edited]
    after: list[tuple[str, ...]] = []

    def write_both() -> list[tuple[str, ...]]:
        """Return the unedited texts, once they are written with those `after`: more rows share reading the weights."""
        nothing = [Edit((place,), None) for place in range(len(unedited))]
        both = _generate(lm, unedited + changed, nothing + [edits[i] for i in edited], seed, counted(0))
        after.extend(both[len(unedited) :])
        return both[: len(unedited)]

    before = _unedited_texts(lm, unedited, seed, write_both)
    if not after:
        counted(0)(first)
        after = _generate(lm, changed, [edits[i] for i in edited], seed, counted(first))
    return dict(zip(wanted, before, strict=True)), dict(zip(edited, after, strict=True))


def _unedited_texts(
    lm: LanguageModel, records: Sequence[Record], seed: int, write: Callable[[], Sequence[tuple[str, ...]]]
) -> list[tuple[str, ...]]:
    """Return each record's texts before any edit, which are written once for all runs and kept in the cache."""
    asked = [[record.case_id, *record.generation] for record in records]
    settings = {"seed": seed, "tokens": GENERATION_TOKENS, "asked": sha256_text(json.dumps(asked))}
    texts = iter(
        kept_texts(lm, "unedited-texts", settings, lambda: [text for of_record in write() for text in of_record])
    )
    return [tuple(islice(texts, len(record.generation))) for record in records]


def _generate(
    lm: LanguageModel, records: Sequence[Record], edits: Sequence[Edit], seed: int, done: Callable[[int], None]
) -> list[tuple[str, ...]]:
    """Return each record's texts under its edit; a prefix is read by the model and is no part of the text."""
    rows = [(i, j, prompt) for i, record in enumerate(records) for j, prompt in enumerate(record.generation)]
    # The same draws before and after, so that a difference between two texts is the edit's doing.
    keys = [f"{seed}:generation:{records[i].case_id}:{j}" for i, j, _ in rows]
    prompts = [lm.encode(edits[i].prefix + prompt) for i, _, prompt in rows]
    plain = [lm.encode(prompt) if edits[i].prefix else prompts[row] for row, (i, _, prompt) in enumerate(rows)]
    totals = [GENERATION_TOKENS + len(read) - len(own) for read, own in zip(prompts, plain, strict=True)]
    deltas: list[Delta | None] = [edits[i].delta for i, _, _ in rows]
    texts = generate(lm, prompts, keys, totals, deltas if any(deltas) else None, done)
    written: list[list[str]] = [[] for _ in records]
    for (i, _, _), text in zip(rows, texts, strict=True):
        written[i].append(text.removeprefix(edits[i].prefix))
    return [tuple(texts_of_record) for texts_of_record in written]


Answers = dict[int, dict[str, tuple[str, ...]]]
"""Answers by the record's place and by group, in the order of the group's prompts."""


def _answer(
    lm: LanguageModel,
    records: Sequence[Record],
    edits: Sequence[Edit],
    names: ObjectNames | None,
    progress: Progress,
) -> tuple[Answers, Answers]:
    """Return what the model says by itself after each record's prompts, before its edit and after it.

    There are no answers without `names`, and none after an edit with neither a change nor a prefix.
    """
    if names is None:
        return {}, {}
    asked = [(i, group, text) for i, record in enumerate(records) for group, text in _asked_in_use(record)]
    changed = [one for one in asked if edits[one[0]].delta is not None or edits[one[0]].prefix]
    ending, counted = names.ending(records), _counted(progress, "answers", len(asked) + len(changed))
    before = _unedited_answers(lm, [text for _, _, text in asked], ending, counted(0))
    rows = [(text, edits[i].prefix, edits[i].delta) for i, _, text in changed]
    return _by_group(asked, before), _by_group(changed, _answers(lm, rows, ending, counted(len(asked))))


def _unedited_answers(
    lm: LanguageModel, prompts: Sequence[str], ending: Ending, done: Callable[[int], None]
) -> Sequence[str]:
    """Return the answer to each prompt before any edit, which is written once for all runs and kept in the cache."""
    asked = sha256_text(json.dumps([ending.heads, *prompts]))
    answers = kept_texts(
        lm,
        "unedited-answers",
        {"tokens": MOST_TOKENS, "asked": asked},
        lambda: _answers(lm, [(prompt, "", None) for prompt in prompts], ending, done),
    )
    done(len(prompts))
    return answers


def _answers(
    lm: LanguageModel, rows: Sequence[tuple[str, str, Delta | None]], ending: Ending, done: Callable[[int], None]
) -> list[str]:
    """Return the answer to each row's prompt, behind its prefix and under its change of weights."""
    ids, deltas = [lm.encode(prefix + prompt) for prompt, prefix, _ in rows], [delta for *_, delta in rows]
    texts = answer(lm, ids, MOST_TOKENS, ending.has_come, deltas, done)
    return [
        ending.answer(_written(text.removeprefix(prefix), prompt))
        for text, (prompt, prefix, _) in zip(texts, rows, strict=True)
    ]


def _asked_in_use(record: Record) -> Iterator[tuple[str, str]]:
    """Yield (group, text) of the prompts after which answers are written."""
    return ((group, text) for group, text, _, _ in prompts_of(record) if group in GROUPS_IN_USE)


def _by_group(asked: Sequence[tuple[int, str, str]], said: Sequence[str]) -> Answers:
    found: Answers = {}
    for (i, group, _), text in zip(asked, said, strict=True):
        groups = found.setdefault(i, {})
        groups[group] = (*groups.get(group, ()), text)
    return found


def _written(text: str, prompt: str) -> str:
    """Return what a text says after its prompt, which some tokenizers compose anew (NFC)."""
    composed = unicodedata.normalize("NFC", prompt)
    return text[len(composed if text.startswith(composed) else prompt) :]


def _stage(
    record: Record,
    prompts: Scored,
    texts: tuple[str, ...],
    answers: Mapping[str, tuple[str, ...]] | None,
    writing: Writing,
) -> StageScore:
    stage = _prompts_alone(prompts)
    if writing.names is not None and answers:
        right = {group: _right(record, said, writing.names) for group, said in answers.items()}
        stage = replace(
            stage,
            answers=answers,
            in_use_rewrite=right.get("rewrite"),
            in_use_paraphrase=right.get("paraphrase"),
        )
    if writing.references is None or not texts:
        return stage
    said = [_written(text, prompt) for text, prompt in zip(texts, record.generation, strict=True)]
    return replace(
        stage,
        generations=texts,
        generation_entropy=sum(map(ngram_entropy_bits, texts)) / len(texts),
        reference_score=writing.references.similarity(record.relation, record.target_new.id, texts),
        mentions_target_new=sum(find_name(text, (record.target_new.label,)) is not None for text in said) / len(said),
        distinct_1=distinct_ngrams(said, 1),
        distinct_2=distinct_ngrams(said, 2),
    )


def _right(record: Record, said: Sequence[str], names: ObjectNames) -> float:
    """Return the share of answers that are right."""
    return sum(names.is_right(one, record.target_new, record.target_true) for one in said) / len(said)
