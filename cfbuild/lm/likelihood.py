"""The likelihood of continuations: the mean NLL of each continuation of each prompt, with each token computed once.

The continuations of a prompt form a token trie: of (a b c), (a b d) and (e), the inner nodes are a and b behind it. A
row holds the prompt and the trie's inner nodes, each of which sees the prompt and its own ancestors; one pass gives the
log-probability of every token of every continuation. Last tokens need no node, since nothing is predicted from them.
Prompts that begin alike share those tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import islice, pairwise

import numpy as np
import torch
from torch import Tensor

from cfbuild.lm.batch import Batch, Packing, additive_mask, right_padded
from cfbuild.lm.batching import LayersPassed, halving, in_batches
from cfbuild.lm.delta import Delta, overlay
from cfbuild.lm.forward import Trace, replay_packed, run_layers, run_packed, trace_packed
from cfbuild.lm.fused import fused_layers
from cfbuild.lm.model import Ids, LanguageModel
from cfbuild.lm.products import ROWS_IN_CACHE, parts_for_head
from cfbuild.progress import no_progress


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt and its possible continuations, as token ids."""

    prompt: Ids
    continuations: tuple[Ids, ...]


@dataclass(frozen=True, slots=True)
class Likelihood:
    """The likelihood of a continuation.

    nll_nats: the mean over its tokens of -log p, in nats. is_argmax: whether each token is the most likely one.
    """

    nll_nats: float
    is_argmax: bool


@dataclass(frozen=True, slots=True)
class _Trie:
    """A token trie: its inner nodes in insertion order, and the tokens that are predicted, in the continuations' order.

    Node -1 is the prompt's end. Among the predicted are the last tokens, which have no node.
    """

    tokens: tuple[int, ...]
    parents: np.ndarray  # [nodes], a node, or -1
    depths: np.ndarray  # [nodes], 0 for a child of the prompt's end
    sight: np.ndarray  # [nodes, nodes], whether a node sees another: itself and its ancestors
    states: np.ndarray  # [predicted], the node whose logits predict the token, or -1
    predicted: np.ndarray  # [predicted], tokens


@lru_cache(maxsize=128)
def _trie_of(continuations: tuple[Ids, ...]) -> _Trie:
    nodes: dict[tuple[int, int], int] = {}
    tokens: list[int] = []
    parents: list[int] = []
    states: list[int] = []
    for continuation in continuations:
        state = -1
        states.append(state)
        for token in continuation[:-1]:
            node = nodes.setdefault((state, token), len(tokens))
            if node == len(tokens):
                tokens.append(token)
                parents.append(state)
            state = node
            states.append(state)
    sight = np.eye(len(tokens), dtype=bool)
    for node, parent in enumerate(parents):
        if parent >= 0:
            sight[node] |= sight[parent]
    predicted = [token for continuation in continuations for token in continuation]
    arrays = np.array(parents, dtype=np.int64), sight.sum(axis=1) - 1, sight, np.array(states), np.array(predicted)
    return _Trie(tuple(tokens), *arrays)


@dataclass(frozen=True, slots=True)
class _Row:
    """A question as a row of tokens: its prompt, then the nodes of its continuations' trie."""

    prompt: Ids
    continuations: tuple[Ids, ...]
    trie: _Trie

    @property
    def tokens(self) -> Ids:
        return self.prompt + self.trie.tokens

    @property
    def is_chain(self) -> bool:
        """Return whether each node follows the one before, so that causal attention is right for it."""
        return bool((self.trie.depths == np.arange(len(self.trie.depths))).all())


def _rows_of(questions: Sequence[Question]) -> list[_Row]:
    return [_Row(question.prompt, question.continuations, _trie_of(question.continuations)) for question in questions]


def score(
    lm: LanguageModel, questions: Sequence[Question], done: Callable[[int], None] = no_progress
) -> list[list[Likelihood]]:
    """Return the likelihood of each continuation of each question, in the order given.

    done: gets the number of finished questions as they come.
    """
    reported = LayersPassed(done)

    def score_questions(batch: Sequence[Question]) -> list[list[Likelihood]]:
        return _score_batch(lm, batch, (), reported.of(len(batch), len(lm.layers)))

    with fused_layers(lm):
        return in_batches(lm, questions, score_questions, _width, reported)


def score_edited(
    lm: LanguageModel,
    questions: Sequence[Question],
    deltas: Sequence[Delta | None],
    done: Callable[[int], None] = no_progress,
) -> list[list[Likelihood]]:
    """Return the likelihoods of question i under `deltas[i]` (None: no change of weights); `done` is as in `score`."""
    pairs, reported = list(zip(questions, deltas, strict=True)), LayersPassed(done)

    def score_pairs(batch: Sequence[tuple[Question, Delta | None]]) -> list[list[Likelihood]]:
        own_deltas = [delta for _, delta in batch]
        with overlay(lm, own_deltas):
            passed = reported.of(len(batch), len(lm.layers))
            return _score_batch(lm, [question for question, _ in batch], own_deltas, passed)

    with fused_layers(lm):
        return in_batches(lm, pairs, score_pairs, lambda pair: _width(pair[0]), reported)


def score_before_and_after(
    lm: LanguageModel,
    questions: Sequence[Question],
    deltas: Sequence[Delta],
    done: Callable[[int], None] = no_progress,
) -> list[tuple[list[Likelihood], list[Likelihood]]]:
    """Return the likelihoods of question i without and with `deltas[i]`; `done` is as in `score`.

    The layers below the lowest changed one run once.
    """
    pairs, reported = list(zip(questions, deltas, strict=True)), LayersPassed(done)

    def score_pairs(batch: Sequence[tuple[Question, Delta]]) -> list[tuple[list[Likelihood], list[Likelihood]]]:
        rows, own_deltas = _rows_of([question for question, _ in batch]), [delta for _, delta in batch]
        layer = min(delta.lowest for delta in own_deltas)
        plain, edited = _merge(lm, rows), _merge(lm, rows, own_deltas)
        passed = reported.of(len(batch), 2 * len(lm.layers) - layer)
        with torch.no_grad():
            traced, below = trace_packed(lm, _lay_out(lm, rows), plain.packing, layer, passed)
            before = _ask(lm, replay_packed(lm, traced, plain.packing, below, plain.at, layer), plain, rows)
            below = below[plain.packing.source[edited.packing.real]]
            with overlay(lm, own_deltas):
                states = replay_packed(lm, traced, edited.packing, below, edited.at, layer)
            after = _ask(lm, states, edited, rows)
            return list(zip(before(), after(), strict=True))

    with fused_layers(lm):
        return in_batches(lm, pairs, score_pairs, lambda pair: _width(pair[0]), reported)


def first_tokens(lm: LanguageModel, prompts: Sequence[Ids]) -> list[int]:
    """Return the token that the model ranks first after each prompt."""
    with fused_layers(lm), torch.no_grad():
        return in_batches(lm, prompts, partial(_first_tokens, lm), len)


def _first_tokens(lm: LanguageModel, prompts: Sequence[Ids]) -> list[int]:
    batch, real = right_padded(prompts, lm)
    states = run_packed(lm, batch, Packing.of(real), real.sum(dim=1).cumsum(dim=0) - 1)
    parts = parts_for_head(lm, states)
    return [token for part in parts for token in lm.logits(part).argmax(dim=-1).tolist()]


@dataclass(frozen=True, slots=True)
class _PlainBatch:
    """A batch that was run without a change of weights.

    places: those of its questions among all. states: the merged tokens' inputs of some layers, by layer, [T, d_model].
    """

    places: tuple[int, ...]
    questions: Sequence[Question]
    traced: Trace
    merged: _Merged
    states: dict[int, Tensor]


class ManyScores:
    """The scores of the same questions without a change of weights, and under any number of changes.

    The questions run once as the model is; under a change they run again from the highest of `layers` on that is not
    above it. before: the likelihoods without a change.
    """

    def __init__(self, lm: LanguageModel, questions: Sequence[Question], layers: Sequence[int]) -> None:
        self._lm = lm
        self._layers = sorted({0, *layers})
        self._batches: list[_PlainBatch] = []
        numbered = list(enumerate(questions))
        with fused_layers(lm), torch.no_grad():
            self.before = in_batches(lm, numbered, self._run, lambda pair: _width(pair[1]))

    def _run(self, batch: Sequence[tuple[int, Question]]) -> list[list[Likelihood]]:
        lm, questions = self._lm, [question for _, question in batch]
        rows = _rows_of(questions)
        merged = _merge(lm, rows)
        traced, hidden = trace_packed(lm, _lay_out(lm, rows), merged.packing, 0)
        states = {0: hidden}
        for below, layer in pairwise(self._layers):
            states[layer] = hidden = run_layers(lm, traced, merged.packing, hidden, range(below, layer))
        finished = replay_packed(lm, traced, merged.packing, hidden, merged.at, self._layers[-1])
        self._batches.append(_PlainBatch(tuple(place for place, _ in batch), questions, traced, merged, states))
        return _ask(lm, finished, merged, rows)()

    def under(
        self, deltas: Sequence[Delta | None], done: Callable[[int], None] = no_progress
    ) -> list[list[Likelihood]]:
        """Return the likelihoods of question i under `deltas[i]` (None: unchanged); `done` is as in `score`."""
        likelihoods = list(self.before)
        finished = 0
        for batch in self._batches:
            own_deltas = [deltas[place] for place in batch.places]
            if any(delta is not None for delta in own_deltas):
                edited = halving(partial(self._under, batch, own_deltas), range(len(own_deltas)), self._lm.room)
                for place, of_question in zip(batch.places, edited, strict=True):
                    likelihoods[place] = of_question
            finished += len(own_deltas)
            done(finished)
        return likelihoods

    def _under(
        self, batch: _PlainBatch, deltas: Sequence[Delta | None], places: Sequence[int]
    ) -> list[list[Likelihood]]:
        """Return the likelihoods of the questions at `places` of a batch; `deltas` are those of the whole batch."""
        lm = self._lm
        if len(places) < len(deltas):  # the memory had no room for the whole batch, to which the kept states belong
            return score_edited(lm, [batch.questions[place] for place in places], [deltas[place] for place in places])
        rows = _rows_of(batch.questions)
        lowest = min(delta.lowest for delta in deltas if delta is not None)
        layer = max(kept for kept in batch.states if kept <= lowest)
        with fused_layers(lm), torch.no_grad():
            edited = _merge(lm, rows, deltas)
            below = batch.states[layer][batch.merged.packing.source[edited.packing.real]]
            with overlay(lm, deltas):
                states = replay_packed(lm, batch.traced, edited.packing, below, edited.at, layer)
            return _ask(lm, states, edited, rows)()


def _score_batch(
    lm: LanguageModel, questions: Sequence[Question], deltas: Sequence[Delta | None], passed: Callable[[], None]
) -> list[list[Likelihood]]:
    """Return the questions' likelihoods, under their deltas if there are any. passed: is called for each layer."""
    rows = _rows_of(questions)
    merged = _merge(lm, rows, deltas)
    with torch.no_grad():
        states = run_packed(lm, _lay_out(lm, rows), merged.packing, merged.at, passed=passed)
        return _ask(lm, states, merged, rows)()


def _lay_out(lm: LanguageModel, rows: Sequence[_Row]) -> Batch:
    """Return rows as a batch, padded on the right."""
    lengths = [len(row.tokens) for row in rows]
    width = max(lengths)
    ids = np.zeros((len(rows), width), dtype=np.int64)
    positions = np.tile(np.arange(width, dtype=np.int64), (len(rows), 1))
    for place, (row, length) in enumerate(zip(rows, lengths, strict=True)):
        start = len(row.prompt)
        ids[place, :length] = row.tokens
        positions[place, start:length] = start + row.trie.depths
        # Fillers have the position of the prompt's end: theirs could be more than the model has.
        positions[place, length:] = start - 1
    mask = None if all(row.is_chain for row in rows) else _tree_mask(lm, rows, width)
    return Batch(torch.from_numpy(ids).to(lm.device), torch.from_numpy(positions).to(lm.device), mask)


def _tree_mask(lm: LanguageModel, rows: Sequence[_Row], width: int) -> Tensor:
    """Return the mask [batch, 1, width, width]: causal, except that of the nodes a node sees only its ancestors."""
    visible = np.tile(np.tri(width, dtype=bool), (len(rows), 1, 1))
    for place, row in enumerate(rows):
        nodes = slice(len(row.prompt), len(row.tokens))
        visible[place, nodes, nodes] = row.trie.sight
    return additive_mask(torch.from_numpy(visible).to(lm.device), lm.dtype)


@dataclass(frozen=True, slots=True)
class _Merged:
    """A batch's tokens, each once.

    at: [n], the packed tokens that predict a token. predictions: the rows' predicted tokens, by the n.
    """

    packing: Packing
    at: Tensor
    predictions: Predictions


def _merge(lm: LanguageModel, rows: Sequence[_Row], deltas: Sequence[Delta | None] = ()) -> _Merged:
    """Return a batch's tokens with equal ones merged.

    Tokens are equal if all that they see is equal, and the deltas under which they are read, if any: `deltas[i]` for
    row i.
    """
    ends = np.array([[len(row.prompt) - 1] for row in rows])
    mask = np.arange(max(len(row.tokens) for row in rows)) < np.array([[len(row.tokens)] for row in rows])
    first = _first_places(rows, mask, _numbers_of(deltas) if deltas else np.zeros(len(rows), dtype=np.int64))
    real = np.unique(first[mask])
    source = np.searchsorted(real, first)
    source = np.where(mask, source, source[:, :1])
    at = np.unique(source[mask & (np.arange(mask.shape[1]) >= ends)])
    # The place in `at` of the state before each predicted token: the prompt's end has the column before node 0's.
    columns = [end + 1 + row.trie.states for end, row in zip(ends[:, 0], rows, strict=True)]
    states = np.concatenate([numbers[own] for numbers, own in zip(source, columns, strict=True)])
    predicted = np.concatenate([row.trie.predicted for row in rows])
    tensors = (torch.from_numpy(array).to(lm.device) for array in (real, source.ravel(), mask))
    predictions = Predictions.of(np.searchsorted(at, states), predicted, lm.device)
    return _Merged(Packing(*mask.shape, *tensors), torch.from_numpy(at).to(lm.device), predictions)


def _numbers_of(deltas: Sequence[Delta | None]) -> np.ndarray:
    """Return a number for each of the deltas, the same for the same one."""
    numbers: dict[int, int] = {}
    return np.array([numbers.setdefault(id(delta), len(numbers)) for delta in deltas])


def _first_places(rows: Sequence[_Row], mask: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return the place, in the flattened rows, of the first token that is equal to each: [rows, width].

    mask: [rows, width], false for fillers, which are their own. groups: [rows], of the rows that may share tokens.
    """
    tokens, before, depths = (np.full(mask.shape, -1, dtype=np.int64) for _ in range(3))
    for place, row in enumerate(rows):
        start, length = len(row.prompt), len(row.tokens)
        tokens[place, :length] = row.tokens
        before[place, :length] = np.arange(-1, length - 1)
        before[place, start:length] = np.where(row.trie.parents < 0, start - 1, start + row.trie.parents)
        depths[place, :length] = np.arange(length)
        depths[place, start:length] = start + row.trie.depths
    first = np.arange(mask.size).reshape(mask.shape)
    for depth in range(int(depths.max()) + 1):
        at, column = np.nonzero(depths == depth)
        known = first[at, before[at, column]] if depth else groups[at]
        _, index, inverse = np.unique(known << 32 | tokens[at, column], return_index=True, return_inverse=True)
        first[at, column] = first[at, column][index][inverse]
    return first


def _ask(
    lm: LanguageModel, states: Tensor, merged: _Merged, rows: Sequence[_Row]
) -> Callable[[], list[list[Likelihood]]]:
    """Return the function that returns likelihoods, from the finished states of the tokens that predict one.

    states: [n, d_model]. A device computes while what is behind it is prepared: only the function waits for it.
    """
    computed = nll_of(lm, states, merged.predictions)

    def read() -> list[list[Likelihood]]:
        nll, best = merged.predictions.in_order(computed)
        lengths = np.array([len(tokens) for row in rows for tokens in row.continuations])
        starts = lengths.cumsum() - lengths
        means = np.add.reduceat(nll, starts) / lengths
        answers = map(Likelihood, means.tolist(), np.logical_and.reduceat(best, starts).tolist())
        return [list(islice(answers, len(row.continuations))) for row in rows]

    return read


@dataclass(frozen=True, slots=True)
class Predictions:
    """Tokens that states predict, sorted by their states.

    states: [predictions], on the CPU; rows and tokens: the same states and the tokens, on the model's device. order:
    [predictions], the places where they were given.
    """

    states: np.ndarray
    rows: Tensor
    tokens: Tensor
    order: np.ndarray

    @staticmethod
    def of(states: np.ndarray, tokens: np.ndarray, device: torch.device) -> Predictions:
        """Return the predictions of `tokens` by `states`, [predictions] each."""
        order = np.argsort(states, kind="stable")
        rows, sorted_tokens = (torch.from_numpy(array[order]).to(device) for array in (states, tokens))
        return Predictions(states[order], rows, sorted_tokens, order)

    def in_order(self, computed: tuple[Tensor, Tensor]) -> tuple[np.ndarray, np.ndarray]:
        """Return what `nll_of` has `computed`, in the order in which the predictions were given."""
        ordered = np.empty(len(self.order)), np.empty(len(self.order), dtype=bool)
        for array, tensor in zip(ordered, computed, strict=True):
            array[self.order] = tensor.cpu().numpy()
        return ordered


def nll_of(lm: LanguageModel, states: Tensor, predictions: Predictions) -> tuple[Tensor, Tensor]:
    """Return -log p in nats of each predicted token, and whether it is the most likely one, both [predictions].

    states: [n, d_model], finished. Nothing waits for the device.
    """
    computed, start = [], 0
    for part in parts_for_head(lm, states):
        logits = lm.logits(part)  # [states, vocabulary]
        here = slice(*np.searchsorted(predictions.states, (start, start + len(part))))
        row, predicted = predictions.rows[here] - start, predictions.tokens[here]
        rows = ROWS_IN_CACHE if logits.device.type == "cpu" else len(logits)
        norms = [(some.logsumexp(-1), some.argmax(-1)) for some in torch.split(logits, rows)]
        norm, top = (torch.cat(column) for column in zip(*norms, strict=True))
        computed.append((norm[row] - logits[row, predicted], top[row] == predicted))
        start += len(part)
    nll, best = (torch.cat(column) for column in zip(*computed, strict=True))
    return nll, best


def token_nll(lm: LanguageModel, states: Tensor, tokens: Sequence[int]) -> np.ndarray:
    """Return -log p in nats of the token that each state predicts, [n].

    states: [n, d_model], finished. tokens: [n].
    """
    predictions = Predictions.of(np.arange(len(tokens)), np.array(tokens), lm.device)
    nll, _ = predictions.in_order(nll_of(lm, states, predictions))
    return nll


def _width(question: Question) -> int:
    return len(question.prompt) + sum(len(continuation) - 1 for continuation in question.continuations)
