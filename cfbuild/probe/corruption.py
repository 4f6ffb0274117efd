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
from cfbuild.probe.captured import EmbeddingChange, embedded, embedding_width
from cfbuild.probe.settings import TraceSettings

NOISE_IN_DEVIATIONS = 3.0
"""Noise in standard deviations of the subjects' embeddings: the released code's default, "s3"."""
PAIRS_TRIED = 16
"""Other subjects, with as many tokens, that the model is asked about for a fact: most are known by the first few."""


@dataclass(frozen=True, slots=True)
class TracedPrompt:
    """A prompt as tokens: [first, last] are the subject's. `answer` is the token that the model puts first after it."""

    ids: Ids
    first: int
    last: int
    answer: int = -1

    @property
    def subject_tokens(self) -> int:
        return self.last + 1 - self.first


@dataclass(frozen=True, slots=True, eq=False)
class Corrupted:
    """The corrupted rows of a prompt: their tokens, and the noise on the subject's embeddings, [rows, tokens, d].

    Of a swap there is a single row and no noise; `subject` is the other one and `answer` the first token of its object.
    """

    rows: tuple[Ids, ...]
    noise: np.ndarray | None = None
    subject: str | None = None
    answer: int | None = None


def noise_level(lm: LanguageModel, subjects: Iterable[str]) -> float:
    """Return the noise for subjects: 3 standard deviations of all numbers in the embeddings of their tokens.

    Each is tokenised alone, without the tokens that stand in front of every text. Raises DataError if they have fewer
    than two numbers.
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
        raise DataError("there is no subject whose embeddings could tell the noise; give it by --noise")
    return NOISE_IN_DEVIATIONS * float(np.sqrt(max(0.0, squares - total * total / count) / (count - 1)))


def noisy(lm: LanguageModel, prompt: TracedPrompt, settings: TraceSettings, level: float) -> Corrupted:
    """Return the noisy rows of a prompt: the same noise whenever it is asked for."""
    # The one generator of numpy whose draws never change, and the released code's.
    draw = np.random.RandomState(settings.seed)
    noise = level * draw.randn(settings.rows, prompt.subject_tokens, embedding_width(lm))
    return Corrupted((prompt.ids,) * settings.rows, noise)


def noise_change(
    corrupted: Sequence[Corrupted], prompts: Sequence[TracedPrompt], with_gradient: bool = False
) -> EmbeddingChange:
    """Return the change of a batch's embeddings that adds the noise of each prompt's rows, one prompt after another.

    with_gradient: the embeddings are where gradients end.
    """

    def change(vectors: Tensor) -> Tensor:
        vectors, row = vectors.clone(), 0
        for corruption, prompt in zip(corrupted, prompts, strict=True):
            if corruption.noise is not None:
                start = vectors.shape[1] - len(prompt.ids)
                place = vectors[row : row + len(corruption.rows), start + prompt.first : start + prompt.last + 1]
                place += torch.from_numpy(corruption.noise).to(dtype=vectors.dtype).to(vectors.device)
            row += len(corruption.rows)
        return vectors.requires_grad_() if with_gradient else vectors

    return change


def swapped(
    lm: LanguageModel,
    texts: Sequence[str],
    prompts: Sequence[TracedPrompt],
    others: Sequence[Sequence[tuple[str, str | None]]],
) -> list[Corrupted | None]:
    """Return the swap of each prompt: the first of its other subjects that fits, or None.

    texts: the prompts with a slot. others: for each, other subjects with their objects (None: whatever the model says).
    It fits if its tokens stand where the subject's do, and the model answers with its object, which is not the answer.
    """
    fitting = [
        _of_equal_length(lm, text, prompt, subjects)
        for text, prompt, subjects in zip(texts, prompts, others, strict=True)
    ]
    answers = iter(first_tokens(lm, [ids for candidates in fitting for ids, _, _ in candidates]))
    found: list[Corrupted | None] = []
    for prompt, candidates in zip(prompts, fitting, strict=True):
        known = [
            Corrupted((ids,), None, subject, answer)
            for (ids, subject, label), answer in zip(candidates, answers, strict=False)
            if answer != prompt.answer and (label is None or answers_with(lm, answer, label))
        ]
        found.append(known[0] if known else None)
    return found


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
    """Return True if a first token is that of an object, or all of it as text."""
    return token == lm.continuation(label)[0] or lm.tokenizer.decode([token]).strip() == label
