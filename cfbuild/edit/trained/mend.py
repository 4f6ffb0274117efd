"""MEND's network (Mitchell et al. 2022, arXiv 2110.11309): it transforms a request's own gradient, token by token.

The gradient of a matrix is a sum over tokens of an outer product, of the gradient at the output and the input x. Both
are normalised, transformed by two residual blocks of low rank and multiplied again, so the change is as low in rank
and never formed. At the start the transform is the identity on normalised numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn

from cfbuild.edit.trained.material import Material, Tokens
from cfbuild.lm.delta import Delta, LowRank
from cfbuild.lm.model import Weight

BLOCKS = 2
"""Residual blocks of a transform, as released."""
START_RATE = 1e-4
"""A matrix's learned rate at the start, as released; its sign is learned."""
TINY = 1e-7
"""Added to a standard deviation that is divided by, as released."""
RANK = 1920
"""The rank of a block as released; no more than the number of its inputs."""


class Statistics(nn.Module):
    """The running mean and standard deviation of each number of all rows seen so far (Welford), saved as buffers."""

    count: Tensor
    mean: Tensor
    squares: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("squares", torch.zeros(width))  # sum of squared distances from the mean

    @torch.no_grad()
    def update(self, rows: Tensor) -> None:
        """Add rows [T, width]: what adding them one after another gives, but for rounding."""
        if not len(rows):
            return
        count = self.count + len(rows)
        mean = rows.mean(dim=0)
        away = mean - self.mean
        self.squares += (rows - mean).square().sum(dim=0) + away.square() * self.count * len(rows) / count
        self.mean += away * len(rows) / count
        self.count.copy_(count)

    def restart(self) -> None:
        """Forget all rows."""
        for buffer in self.buffers():
            buffer.zero_()

    @property
    def deviation(self) -> Tensor:
        """The standard deviation of each number, [width]; not a number before the second row."""
        return (self.squares / (self.count - 1)).sqrt()

    def forward(self, rows: Tensor) -> Tensor:
        """Return rows [T, width] normalised."""
        return (rows - self.mean) / (self.deviation + TINY)


class ResidualBlock(nn.Module):
    """A residual layer of low rank, whose output is scaled and shifted for each mode; it starts as the identity."""

    def __init__(self, width: int, rank: int, modes: int) -> None:
        super().__init__()
        self.out = nn.Parameter(torch.zeros(width, rank))
        self.into = nn.Parameter(torch.randn(rank, width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.scale = nn.Parameter(torch.ones(modes, width))
        self.shift = nn.Parameter(torch.zeros(modes, width))

    def forward(self, rows: Tensor, modes: Tensor) -> Tensor:
        """Return rows [T, width] transformed; modes: [T]."""
        inner = rows @ self.into.T @ self.out.T + self.bias
        # clamp, not relu: its gradient at 0, where everything starts, is 1.
        return rows + (inner * self.scale[modes] + self.shift[modes]).clamp(min=0)


class Transform(nn.Module):
    """The transform of all matrices of one shape, told apart by a mode."""

    def __init__(self, d_in: int, d_out: int, rank: int, modes: int) -> None:
        super().__init__()
        width = d_in + d_out
        self.inputs = Statistics(d_in)
        self.gradients = Statistics(d_out)
        self.blocks = nn.ModuleList(ResidualBlock(width, min(rank, width), modes) for _ in range(BLOCKS))

    def forward(self, inputs: Tensor, gradients: Tensor, modes: Tensor) -> tuple[Tensor, Tensor]:
        """Return x [T, d_in] and the gradients [T, d_out] transformed; in training, after the statistics took them."""
        if self.training:
            self.inputs.update(inputs)
            self.gradients.update(gradients)
        rows = torch.cat((self.inputs(inputs), self.gradients(gradients)), dim=1)
        for block in self.blocks:
            rows = block(rows, modes)
        return rows[:, : inputs.shape[1]], rows[:, inputs.shape[1] :]


class MendNetwork(nn.Module):
    """A transform for each shape of matrix and a learned rate for each matrix.

    `shapes` gives (d_out, d_in) of each edited matrix, in the order of their rates.
    """

    def __init__(self, shapes: Mapping[Weight, tuple[int, int]], rank: int = RANK) -> None:
        super().__init__()
        self.weights = tuple(shapes)
        self.rates = nn.Parameter(torch.full((len(shapes),), START_RATE))
        self._groups: dict[str, list[Weight]] = {}
        for weight, (d_out, d_in) in shapes.items():
            self._groups.setdefault(f"{d_in}x{d_out}", []).append(weight)
        self.transforms = nn.ModuleDict()
        for name, weights in self._groups.items():
            d_out, d_in = shapes[weights[0]]
            self.transforms[name] = Transform(d_in, d_out, rank, len(weights))

    def restart_statistics(self) -> None:
        """Forget the running statistics, as the released evaluation does after it has loaded a network."""
        for transform in self.transforms.values():
            assert isinstance(transform, Transform)
            transform.inputs.restart()
            transform.gradients.restart()

    def forward(self, material: Material) -> list[Delta]:
        """Return the change of each edit, its rank in a matrix the number of tokens."""
        changes: list[dict[Weight, LowRank]] = [{} for _ in material.conditions]
        for name, weights in self._groups.items():
            for weight, tokens in self._transformed(name, [material.tokens[weight] for weight in weights]):
                rate = self.rates[self.weights.index(weight)]
                for change, span in zip(changes, tokens.spans, strict=True):
                    change[weight] = LowRank(tokens.inputs[span], rate * tokens.gradients[span])
        return [Delta({weight: change[weight] for weight in self.weights}) for change in changes]

    def _transformed(self, name: str, given: Sequence[Tokens]) -> list[tuple[Weight, Tokens]]:
        """Return the transformed tokens of all matrices of a shape, computed together."""
        lengths = [len(tokens.inputs) for tokens in given]
        modes = torch.repeat_interleave(torch.arange(len(given)), torch.tensor(lengths)).to(self.rates.device)
        inputs, gradients = self.transforms[name](
            torch.cat([tokens.inputs for tokens in given]), torch.cat([tokens.gradients for tokens in given]), modes
        )
        spans = [slice(start, end) for start, end in pairwise((0, *accumulate(lengths)))]
        return [
            (weight, Tokens(inputs[span], gradients[span], tokens.counts))
            for weight, tokens, span in zip(self._groups[name], given, spans, strict=True)
        ]
