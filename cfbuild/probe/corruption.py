"""Corrupted prompts: noise on the subject's embeddings, or another subject in its place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cfbuild.errors import DataError
from cfbuild.lm.likelihood import first_tokens
from cfbuild.lm.model import Ids, LanguageModel
from cfbuild.probe.captured import EmbeddingChange, embedded
from cfbuild.probe.settings import TraceSettings

NOISE_IN_DEVIATIONS = 3.0
"""The noise in standard deviations of the subjects' embeddings: the released code's default, "s3"."""
PAIRS_TRIED = 16
"""The most other subjects of as many tokens that are tried for a fact; mostly the model knows one of the first few."""


@dataclass(frozen=True, slots=True)
class TracedPrompt:
    """A prompt as tokens; `first` and `last` are the indices of its subject's, `answer` is the model's next token."""

    ids: Ids
    first: int
    last: int
    answer: int = -1


@dataclass(frozen=True, slots=True, eq=False)
class Corrupted:
    """The corrupted rows of a prompt: their tokens, and the noise on the subject's embeddings, [rows, tokens, d].

    A swap has a single row and no noise; `subject` is the other subject, `answer` the model's next token about it.
    """

    rows: tuple[Ids, ...]
    noise: np.ndarray | None = None
    subject: str | None = None
    answer: int | None = None


def noise_level(lm: LanguageModel, subjects: Iterable[str]) -> float:
    """Return 3 standard deviations of the numbers in the embeddings of the tokens of `subjects`.

    Each subject is tokenised alone, without the tokens in front of every text. Raises DataError if there are no tokens.
    """
    count, total, squares = 0, 0.0, 0.0
    for subject in subjects:
        ids = lm.encode(subject)[len(lm.leading_ids) :]
        if ids:
            vectors = embedded(lm, ids).double() if lm.device.type != "mps" else embedded(lm, ids).cpu().double()
            count += vectors.numel()
            total += float(vectors.sum())
            squares += float(vectors.square().sum())
    if count < 2:
        raise DataError("there is no subject on whose embeddings to measure the noise; give it by --noise")
    return NOISE_IN_DEVIATIONS * float(np.sqrt(max(0.0, squares - total * total / count) / (count - 1)))


def noisy(lm: LanguageModel, prompt: TracedPrompt, settings: TraceSettings, level: float) -> Corrupted:
    """Return the noisy rows of a prompt; `level` is the noise's standard deviation."""
    # As released; also, it is the generator of numpy whose draws never change with the version.
    draw = np.random.RandomState(settings.seed)
    width = lm.model.get_input_embeddings().weight.shape[1]  # in some families less than a state's
    noise = level * draw.randn(settings.rows, prompt.last + 1 - prompt.first, width)
    return Corrupted((prompt.ids,) * settings.rows, noise)


def noise_change(
    corrupted: Sequence[Corrupted], prompts: Sequence[TracedPrompt], with_gradient: bool = False
) -> EmbeddingChange:
    """Return the change of a batch's embeddings that adds the noise of each prompt's rows, prompt after prompt.

    with_gradient: True if the embeddings require a gradient.
    """

    def change(vectors: Tensor) -> Tensor:
        vectors, row = vectors.clone(), 0
        for corruption, prompt in zip(corrupted, prompts, strict=True):
            if corruption.noise is not None:
                start = vectors.shape[1] - len(prompt.ids)
                subject = vectors[row : row + len(corruption.rows), start + prompt.first : start + prompt.last + 1]
                subject += torch.from_numpy(corruption.noise).to(dtype=vectors.dtype).to(vectors.device)
            row += len(corruption.rows)
        return vectors.requires_grad_() if with_gradient else vectors

    return change


def swapped(
    lm: LanguageModel,
    texts: Sequence[str],
    prompts: Sequence[TracedPrompt],
    others: Sequence[Sequence[tuple[str, str | None]]],
) -> list[Corrupted | None]:
    """Return each prompt with the first of its other subjects that fits, or None if none does.

    texts: the prompts with a slot. others: for each prompt, other subjects with their objects (None: any answer will
    do). A subject fits if its tokens are at the same indices, and the model's answer is its object and another answer.
    """
    fitting = [
        _of_equal_length(lm, text, prompt, subjects)
        for text, prompt, subjects in zip(texts, prompts, others, strict=True)
    ]
    answers = iter(first_tokens(lm, [ids for candidates in fitting for ids, _, _ in candidates]))
    swaps: list[Corrupted | None] = []
    for prompt, candidates in zip(prompts, fitting, strict=True):
        known = [
            Corrupted((ids,), None, subject, answer)
            for (ids, subject, label), answer in zip(candidates, answers, strict=False)
            if answer != prompt.answer and (label is None or answers_with(lm, answer, label))
        ]
        swaps.append(known[0] if known else None)
    return swaps


def _of_equal_length(
    lm: LanguageModel, text: str, prompt: TracedPrompt, others: Sequence[tuple[str, str | None]]
) -> list[tuple[Ids, str, str | None]]:
    found: list[tuple[Ids, str, str | None]] = []
    for subject, label in others:
        ids, first, last = lm.subject_span(text, subject)
        if (len(ids), first, last) == (len(prompt.ids), prompt.first, prompt.last) and ids != prompt.ids:
            found.append((ids, subject, label))
        if len(found) == PAIRS_TRIED:
            break
    return found


def answers_with(lm: LanguageModel, token: int, label: str) -> bool:
    """Return True if `token`, which the model puts first, is an object's first token or the whole object as text."""
    return token == lm.continuation(label)[0] or lm.tokenizer.decode([token]).strip() == label
