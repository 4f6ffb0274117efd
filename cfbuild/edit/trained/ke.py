"""KnowledgeEditor's network (De Cao et al. 2021, arXiv 2104.08164): it reads a request and scales its gradient.

An LSTM reads prompt and target. From its last state a head for each matrix makes two vectors along the matrix's rows,
two along its columns and a number s: Delta = sigmoid(s) (G * A + B), with A and B the vectors' outer products and G the
gradient of the request's loss. G is a sum over tokens of outer products, so the change's rank is the tokens and one.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence

from cfbuild.edit.trained.material import Material, Tokens
from cfbuild.lm.delta import Delta, LowRank
from cfbuild.lm.model import Ids, Weight

LSTM_WIDTH, CONDITION_WIDTH, HEAD_WIDTH = 512, 768, 512
"""Widths of the LSTM in each direction, of a condition, and of a head's inner layer, as released in MEND's trainer."""
PADDING = 0
"""The token that counts as padding, as released: its embedding is never trained."""


class Head(nn.Module):
    """The part of the network for one matrix, stored as [rows, columns]."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.widths = [columns, rows, columns, rows, 1]
        self.inner = weight_norm(nn.Linear(CONDITION_WIDTH, HEAD_WIDTH))
        self.outer = weight_norm(nn.Linear(HEAD_WIDTH, sum(self.widths)))

    def forward(self, condition: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return A's columns and rows, B's columns and rows, and the gate, [edits, ...], for `condition` [edits, 768].

        Rows are after a softmax, the gate is after a sigmoid.
        """
        outputs: Tensor = self.outer(torch.tanh(self.inner(condition)))
        columns_a, rows_a, columns_b, rows_b, gate = torch.split(outputs, self.widths, dim=1)
        return columns_a, rows_a.softmax(dim=1), columns_b, rows_b.softmax(dim=1), gate.sigmoid()


class KeNetwork(nn.Module):
    """The LSTM that reads requests, and a head for each edited matrix.

    `embeddings` [vocabulary, d_model] are the model's. The released network trains a copy of all of them. Here only
    `tokens`, those of the training's edits, have embeddings of their own, because no other gets a gradient. `shapes`
    gives (d_out, d_in) of each matrix; with `transposed` they are stored [d_in, d_out].
    """

    embeddings: Tensor
    tokens: Tensor

    def __init__(
        self, shapes: Mapping[Weight, tuple[int, int]], transposed: bool, embeddings: Tensor, tokens: Tensor
    ) -> None:
        super().__init__()
        self.weights = tuple(shapes)
        self.transposed = transposed
        self.register_buffer("embeddings", embeddings.detach().float(), persistent=False)
        self.register_buffer("tokens", torch.unique(tokens[tokens != PADDING]))
        self.own = nn.Parameter(self.embeddings[self.tokens].clone())
        self.lstm = nn.LSTM(embeddings.shape[1], LSTM_WIDTH, batch_first=True, bidirectional=True)
        self.condense = nn.Linear(2 * LSTM_WIDTH, CONDITION_WIDTH)
        stored = [shape[::-1] if transposed else shape for shape in shapes.values()]
        self.heads = nn.ModuleList(Head(rows, columns) for rows, columns in stored)

    def forward(self, material: Material) -> list[Delta]:
        """Return the change of each edit."""
        condition = self.condition(material.conditions)
        changes: list[dict[Weight, LowRank]] = [{} for _ in material.conditions]
        for weight, head in zip(self.weights, self.heads, strict=True):
            outputs = head(condition)
            for place, change in enumerate(changes):
                factors = tuple(output[place] for output in outputs)
                change[weight] = self._change(material.tokens[weight], place, factors)
        return [Delta(change) for change in changes]

    def condition(self, texts: tuple[Ids, ...]) -> Tensor:
        """Return the LSTM's summary of each text, [texts, 768]."""
        device = self.own.device
        rows = [self._embedded(torch.tensor(ids, device=device)) for ids in texts]
        lengths = torch.tensor([*map(len, texts)])
        packed = pack_padded_sequence(pad_sequence(rows, batch_first=True), lengths, True, enforce_sorted=False)
        _, (last, _) = self.lstm(packed)  # [2, texts, 512], forwards and backwards
        condensed: Tensor = self.condense(torch.cat((last[0], last[1]), dim=1))
        return torch.tanh(condensed)

    def _embedded(self, ids: Tensor) -> Tensor:
        if not len(self.tokens):
            return self.embeddings[ids]
        place = torch.searchsorted(self.tokens, ids).clamp_max(len(self.tokens) - 1)
        return torch.where((self.tokens[place] == ids)[:, None], self.own[place], self.embeddings[ids])

    def _change(self, tokens: Tokens, place: int, factors: tuple[Tensor, ...]) -> LowRank:
        """Return sigmoid(s) (G * A + B) of an edit as factors."""
        columns_a, rows_a, columns_b, rows_b, gate = factors
        # Of the matrix [d_out, d_in] the inputs go with columns; stored transposed, they go with rows.
        input_a, input_b, output_a, output_b = columns_a, columns_b, rows_a, rows_b
        if self.transposed:
            input_a, input_b, output_a, output_b = rows_a, rows_b, columns_a, columns_b
        span = tokens.spans[place]
        keys = torch.cat((tokens.inputs[span] * input_a, input_b[None]))
        values = torch.cat((tokens.gradients[span] * output_a, output_b[None]))
        return LowRank(keys, gate * values)
