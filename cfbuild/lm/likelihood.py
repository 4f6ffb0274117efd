"""The likelihood of continuations: the mean NLL of every continuation of every prompt, each token computed once.

The continuations of a prompt form a token trie. A row holds the prompt and the trie's inner nodes, each of which sees
the prompt and its own ancestors; one pass gives the log-probability of every token of every continuation. A
continuation of one token needs no node at all, and last tokens never do. Prompts that begin alike share those tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import accumulate, pairwise

import numpy as np
import torch
from torch import Tensor

from cfbuild.lm.batch import Batch, Packing, additive_mask, pad
from cfbuild.lm.batching import halving, in_batches
from cfbuild.lm.delta import Delta, overlay
from cfbuild.lm.forward import Trace, replay_packed, run_layers, run_packed, trace_packed
from cfbuild.lm.fused import fused_layers
from cfbuild.lm.model import Ids, LanguageModel
from cfbuild.lm.products import ROWS_IN_CACHE
from cfbuild.progress import no_progress

STATES_PER_HEAD_CALL = 1024
"""States whose logits exist at one time: 1,024 of a vocabulary of 50,000 take 200 MB."""


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt and its possible continuations, as token ids."""

    prompt: Ids
    continuations: tuple[Ids, ...]


@dataclass(frozen=True, slots=True)
class Likelihood:
    """The likelihood of one continuation.

    `nll_nats` is the mean over its tokens of -log p in nats; `is_argmax` is true if every token is the most likely one.
    """

    nll_nats: float
    is_argmax: bool


@dataclass(frozen=True, slots=True)
class _Trie:
    """A token trie: its inner nodes in insertion order.

    `states[c][j]` is the node whose logits predict token j of continuation c; state -1 is the prompt's end.
    """

    tokens: tuple[int, ...]
    parents: tuple[int, ...]  # a node, or -1
    depths: np.ndarray  # [nodes], 0 for a child of the prompt's end
    sight: np.ndarray  # [nodes, nodes], whether a node sees another: itself and its ancestors
    states: tuple[tuple[int, ...], ...]

    @property
    def is_chain(self) -> bool:
        """True if plain causal order is right for the nodes: each follows the one before."""
        return bool((self.depths == np.arange(len(self.depths))).all())


@lru_cache(maxsize=128)
def _build_trie(continuations: tuple[Ids, ...]) -> _Trie:
    nodes: dict[tuple[int, int], int] = {}
    tokens: list[int] = []
    parents: list[int] = []
    states: list[tuple[int, ...]] = []
    for continuation in continuations:
        state, path = -1, [-1]
        for token in continuation[:-1]:
            node = nodes.setdefault((state, token), len(tokens))
            if node == len(tokens):
                tokens.append(token)
                parents.append(state)
            state = node
            path.append(state)
        states.append(tuple(path))
    sight = np.eye(len(tokens), dtype=bool)
    for node, parent in enumerate(parents):
        if parent >= 0:
            sight[node] |= sight[parent]
    return _Trie(tuple(tokens), tuple(parents), sight.sum(axis=1) - 1, sight, tuple(states))


def score(
    lm: LanguageModel, questions: Sequence[Question], done: Callable[[int], None] = no_progress
) -> list[list[Likelihood]]:
    """Return the likelihood of each continuation of each question, in the order given.

    done: gets the number of finished questions as they come.
    """
    with fused_layers(lm):
        return in_batches(lm, questions, lambda part: _score_batch(lm, part), _width, done)


def score_edited(
    lm: LanguageModel,
    questions: Sequence[Question],
    deltas: Sequence[Delta | None],
    done: Callable[[int], None] = no_progress,
) -> list[list[Likelihood]]:
    """Return the likelihoods of question i under `deltas[i]` (None: no change of weights); `done` is as in `score`."""
    pairs = list(zip(questions, deltas, strict=True))

    def score_part(part: Sequence[tuple[Question, Delta | None]]) -> list[list[Likelihood]]:
        with overlay(lm, [delta for _, delta in part]):
            return _score_batch(lm, [question for question, _ in part], [delta for _, delta in part])

    with fused_layers(lm):
        return in_batches(lm, pairs, score_part, lambda pair: _width(pair[0]), done)


def score_before_and_after(
    lm: LanguageModel,
    questions: Sequence[Question],
    deltas: Sequence[Delta],
    done: Callable[[int], None] = no_progress,
) -> list[tuple[list[Likelihood], list[Likelihood]]]:
    """Return the likelihoods of question i without and with `deltas[i]`; `done` is as in `score`.

    The layers below the lowest changed one run once.
    """
    pairs = list(zip(questions, deltas, strict=True))

    def score_pairs(part: Sequence[tuple[Question, Delta]]) -> list[tuple[list[Likelihood], list[Likelihood]]]:
        part_questions, edits = [question for question, _ in part], [delta for _, delta in part]
        tries = [_build_trie(question.continuations) for question in part_questions]
        batch, layer = _lay_out(lm, part_questions, tries), min(delta.lowest for delta in edits)
        plain, edited = _merge(lm, part_questions, tries), _merge(lm, part_questions, tries, edits)
        with torch.no_grad():
            traced, below = trace_packed(lm, batch, plain.packing, layer)
            states = replay_packed(lm, traced, plain.packing, below, plain.at, layer)
            before = _read(lm, states, plain.asked, part_questions, tries)
            below = below[plain.packing.source[edited.packing.real]]
            with overlay(lm, edits):
                states = replay_packed(lm, traced, edited.packing, below, edited.at, layer)
            after = _read(lm, states, edited.asked, part_questions, tries)
        return list(zip(before, after, strict=True))

    with fused_layers(lm):
        return in_batches(lm, pairs, score_pairs, lambda pair: _width(pair[0]), done)


def first_tokens(lm: LanguageModel, prompts: Sequence[Ids]) -> list[int]:
    """Return the token that the model puts first after each prompt."""
    with fused_layers(lm), torch.no_grad():
        return in_batches(lm, prompts, lambda part: _first_tokens(lm, part), len)


def _first_tokens(lm: LanguageModel, prompts: Sequence[Ids]) -> list[int]:
    ids, real = pad(prompts, lm)
    batch = Batch(ids, torch.arange(ids.shape[1], device=ids.device).expand(len(prompts), -1), None)
    states = run_packed(lm, batch, Packing.of(real), real.sum(dim=1).cumsum(dim=0) - 1)
    parts = torch.split(states, STATES_PER_HEAD_CALL)
    return [token for part in parts for token in lm.logits(part).argmax(dim=-1).tolist()]


@dataclass(frozen=True, slots=True)
class _Kept:
    """A batch that was run unchanged: the questions' places, and the merged tokens' states below some layers."""

    places: tuple[int, ...]
    questions: Sequence[Question]
    traced: Trace
    merged: _Merged
    states: dict[int, Tensor]  # by layer, each [T, d_model]


class ManyScores:
    """Scores of questions before any change and under many, of which each changes nothing below one of some layers.

    The questions run once without a change; under one they run from the layer on that it begins at.
    """

    def __init__(self, lm: LanguageModel, questions: Sequence[Question], layers: Sequence[int]) -> None:
        self._lm = lm
        self._layers = sorted({0, *layers})
        self._kept: list[_Kept] = []
        numbered = list(enumerate(questions))
        with fused_layers(lm), torch.no_grad():
            self.before = in_batches(lm, numbered, self._run, lambda pair: _width(pair[1]))

    def _run(self, part: Sequence[tuple[int, Question]]) -> list[list[Likelihood]]:
        lm, questions = self._lm, [question for _, question in part]
        tries = [_build_trie(question.continuations) for question in questions]
        merged = _merge(lm, questions, tries)
        traced, hidden = trace_packed(lm, _lay_out(lm, questions, tries), merged.packing, 0)
        states = {0: hidden}
        for below, layer in pairwise(self._layers):
            states[layer] = hidden = run_layers(lm, traced, merged.packing, hidden, range(below, layer))
        finished = replay_packed(lm, traced, merged.packing, hidden, merged.at, self._layers[-1])
        self._kept.append(_Kept(tuple(place for place, _ in part), questions, traced, merged, states))
        return _read(lm, finished, merged.asked, questions, tries)

    def under(
        self, deltas: Sequence[Delta | None], done: Callable[[int], None] = no_progress
    ) -> list[list[Likelihood]]:
        """Return the likelihoods of question i under `deltas[i]` (None: unchanged); `done` is as in `score`."""
        found = list(self.before)
        finished = 0
        for kept in self._kept:
            own = [deltas[place] for place in kept.places]
            if any(delta is not None for delta in own):
                answers = halving(partial(self._under, kept, own), range(len(own)), self._lm.room)
                for place, answer in zip(kept.places, answers, strict=True):
                    found[place] = answer
            finished += len(own)
            done(finished)
        return found

    def _under(self, kept: _Kept, deltas: Sequence[Delta | None], rows: Sequence[int]) -> list[list[Likelihood]]:
        """Return the likelihoods of some questions of a batch, all of whose changes are given."""
        lm = self._lm
        if len(rows) < len(deltas):  # there was no memory for the whole batch, and what is kept is of the whole
            return score_edited(lm, [kept.questions[row] for row in rows], [deltas[row] for row in rows])
        tries = [_build_trie(question.continuations) for question in kept.questions]
        lowest = min(delta.lowest for delta in deltas if delta is not None)
        layer = max(one for one in kept.states if one <= lowest)
        with fused_layers(lm), torch.no_grad():
            edited = _merge(lm, kept.questions, tries, deltas)
            below = kept.states[layer][kept.merged.packing.source[edited.packing.real]]
            with overlay(lm, deltas):
                states = replay_packed(lm, kept.traced, edited.packing, below, edited.at, layer)
            return _read(lm, states, edited.asked, kept.questions, tries)


def _score_batch(
    lm: LanguageModel, questions: Sequence[Question], deltas: Sequence[Delta | None] = ()
) -> list[list[Likelihood]]:
    tries = [_build_trie(question.continuations) for question in questions]
    merged = _merge(lm, questions, tries, deltas)
    with torch.no_grad():
        states = run_packed(lm, _lay_out(lm, questions, tries), merged.packing, merged.at)
        return _read(lm, states, merged.asked, questions, tries)


def _lay_out(lm: LanguageModel, questions: Sequence[Question], tries: Sequence[_Trie]) -> Batch:
    """Return rows of prompt and nodes as a batch, padded on the right."""
    lengths = [len(question.prompt) + len(trie.tokens) for question, trie in zip(questions, tries, strict=True)]
    width = max(lengths)
    ids = np.zeros((len(questions), width), dtype=np.int64)
    positions = np.tile(np.arange(width, dtype=np.int64), (len(questions), 1))
    for row, (question, trie) in enumerate(zip(questions, tries, strict=True)):
        start = len(question.prompt)
        ids[row, : lengths[row]] = question.prompt + trie.tokens
        positions[row, start : lengths[row]] = start + trie.depths
        # Fillers stand where the prompt ends, not beyond the positions that the model has.
        positions[row, lengths[row] :] = start - 1
    mask = None if all(trie.is_chain for trie in tries) else _tree_mask(lm, questions, tries, width)
    return Batch(torch.from_numpy(ids).to(lm.device), torch.from_numpy(positions).to(lm.device), mask)


def _tree_mask(lm: LanguageModel, questions: Sequence[Question], tries: Sequence[_Trie], width: int) -> Tensor:
    """Return the mask [batch, 1, width, width]: causal, except that of the nodes a node sees only its ancestors."""
    visible = np.tile(np.tri(width, dtype=bool), (len(questions), 1, 1))
    for row, (question, trie) in enumerate(zip(questions, tries, strict=True)):
        start, end = len(question.prompt), len(question.prompt) + len(trie.tokens)
        visible[row, start:end, start:end] = trie.sight
    return additive_mask(torch.from_numpy(visible).to(lm.device), lm.dtype)


@dataclass(frozen=True, slots=True)
class _Merged:
    """A batch's tokens, each once.

    at: [n], those that predict a token. asked: which of the n the questions read, one question after another, each its
    prompt's end first and then its nodes.
    """

    packing: Packing
    at: Tensor
    asked: np.ndarray


def _merge(
    lm: LanguageModel, questions: Sequence[Question], tries: Sequence[_Trie], deltas: Sequence[Delta | None] = ()
) -> _Merged:
    """Return a batch's tokens with equal ones merged.

    Tokens are equal where all that they see is equal, and so is the edit (`deltas[i]`), if any, under which they are
    read.
    """
    known: dict[tuple[int, int], int] = {}
    rows: list[list[int]] = []
    for row, (question, trie) in enumerate(zip(questions, tries, strict=True)):
        numbers: list[int] = []
        root = -1 - (id(deltas[row]) if deltas else 0)
        for token, parent in zip(question.prompt + trie.tokens, _parents(question, trie), strict=True):
            before = numbers[parent] if parent >= 0 else root
            numbers.append(known.setdefault((before, token), len(known)))
        rows.append(numbers)
    width = max(map(len, rows))
    source = np.array([numbers + numbers[:1] * (width - len(numbers)) for numbers in rows])
    mask = np.arange(width) < np.array([[len(numbers)] for numbers in rows])
    _, real = np.unique(source, return_index=True)  # where each is first: tokens are numbered in that order
    predicting = [numbers[len(question.prompt) - 1 :] for question, numbers in zip(questions, rows, strict=True)]
    at, asked = np.unique(np.concatenate(predicting), return_inverse=True)
    there = (torch.from_numpy(one).to(lm.device) for one in (real, source.ravel(), mask))
    return _Merged(Packing(*mask.shape, *there), torch.from_numpy(at).to(lm.device), asked)


def _parents(question: Question, trie: _Trie) -> tuple[int, ...]:
    """Return the token before each of a row's, as a place in the row; -1 before the first."""
    end = len(question.prompt) - 1
    return (*range(-1, end), *(end if parent < 0 else end + 1 + parent for parent in trie.parents))


def _read(
    lm: LanguageModel, states: Tensor, asked: np.ndarray, questions: Sequence[Question], tries: Sequence[_Trie]
) -> list[list[Likelihood]]:
    """Return likelihoods from the finished states that predict a token, [n, d_model]; asked: as in `_Merged`."""
    ends = [0, *accumulate(len(trie.tokens) + 1 for trie in tries)]
    offsets = [end + 1 for end in ends]  # state -1 is the prompt's end
    wanted = [
        (asked[offsets[row] + state], token)
        for row, (question, trie) in enumerate(zip(questions, tries, strict=True))
        for states, tokens in zip(trie.states, question.continuations, strict=True)
        for state, token in zip(states, tokens, strict=True)
    ]
    nll, best = token_nll(lm, states, wanted)
    answers, at = [], 0
    for question in questions:
        scored = []
        for tokens in question.continuations:
            end = at + len(tokens)
            scored.append(Likelihood(float(nll[at:end].mean()), bool(best[at:end].all())))
            at = end
        answers.append(scored)
    return answers


def token_nll(lm: LanguageModel, states: Tensor, asked: Sequence[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Return -log p in nats of each asked (state, token), and if the token is the state's most likely.

    states: [n, d_model].
    """
    index = np.array([state for state, _ in asked])
    token = np.array([token for _, token in asked])
    nll, best = np.empty(len(asked)), np.empty(len(asked), dtype=bool)
    for start in range(0, len(states), STATES_PER_HEAD_CALL):
        logits = lm.logits(states[start : start + STATES_PER_HEAD_CALL])  # [some, vocabulary]
        here = np.flatnonzero((index >= start) & (index < start + STATES_PER_HEAD_CALL))
        row = torch.from_numpy(index[here] - start).to(logits.device)
        wanted = torch.from_numpy(token[here]).to(logits.device)
        rows = ROWS_IN_CACHE if logits.device.type == "cpu" else len(logits)
        parts = [(part.logsumexp(-1), part.argmax(-1)) for part in torch.split(logits, rows)]
        norm, top = (torch.cat(column) for column in zip(*parts, strict=True))
        nll[here] = (norm[row] - logits[row, wanted]).cpu().double().numpy()
        best[here] = (top[row] == wanted).cpu().numpy()
    return nll, best


def _width(question: Question) -> int:
    return len(question.prompt) + sum(len(continuation) - 1 for continuation in question.continuations)
