"""MEND's network (Mitchell et al. 2022, arXiv 2110.11309): it transforms the gradient of a request's loss.

The gradient in a matrix is a sum over tokens of outer products of the gradient at the output and the input x. Both are
normalised, transformed by two residual blocks and multiplied again, so the change is of low rank and kept as factors.
Before training the blocks are the identity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from cfbuild.edit.trained.material import Material, Tokens
from cfbuild.lm.delta import Delta, LowRank
from cfbuild.lm.model import Weight

BLOCKS = 2
"""The number of residual blocks of a transform, as released."""
START_RATE = 1e-4
"""The learned rate of a matrix before training, as released; training may change its sign."""
TINY = 1e-7
"""The number added to a standard deviation before it divides, as released."""
RANK = 1920
"""The rank of a block, as released; blocks of fewer inputs have as many."""


class Statistics(nn.Module):
    """The mean and standard deviation, by coordinate, of all rows so far (Welford), kept as buffers."""

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
        """Add rows [T, width]."""
        if not len(rows):
            return
        count = self.count + len(rows)
        mean = rows.mean(dim=0)
        distance = mean - self.mean
        self.squares += (rows - mean).square().sum(dim=0) + distance.square() * self.count * len(rows) / count
        self.mean += distance * len(rows) / count
        self.count.copy_(count)

    def restart(self) -> None:
        """Forget all rows."""
        for buffer in self.buffers():
            buffer.zero_()

    @property
    def deviation(self) -> Tensor:
        """Return the standard deviations, [width]; they are NaN before the second row."""
        return (self.squares / (self.count - 1)).sqrt()

    def forward(self, rows: Tensor) -> Tensor:
        """Return rows [T, width] normalised."""
        return (rows - self.mean) / (self.deviation + TINY)


class ResidualBlock(nn.Module):
    """A residual layer of low rank, scaled and shifted for each mode (matrix); before training it is the identity."""

    def __init__(self, width: int, rank: int, modes: int) -> None:
        super().__init__()
        self.out = nn.Parameter(torch.zeros(width, rank))
        self.into = nn.Parameter(torch.randn(rank, width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.scale = nn.Parameter(torch.ones(modes, width))
        self.shift = nn.Parameter(torch.zeros(modes, width))

    def forward(self, rows: Tensor, modes: Tensor) -> Tensor:
        """Return rows [T, width] transformed; modes: [T], the mode of each row."""
        inner = rows @ self.into.T @ self.out.T + self.bias
        # clamp, because relu's gradient at 0, where training begins, is 0.
        return rows + (inner * self.scale[modes] + self.shift[modes]).clamp(min=0)


class Transform(nn.Module):
    """The transform of all matrices of a shape, each of which is a mode."""

    def __init__(self, d_in: int, d_out: int, rank: int, modes: int) -> None:
        super().__init__()
        width = d_in + d_out
        self.inputs = Statistics(d_in)
        self.gradients = Statistics(d_out)
        self.blocks = nn.ModuleList(ResidualBlock(width, min(rank, width), modes) for _ in range(BLOCKS))

    def forward(self, inputs: Tensor, gradients: Tensor, modes: Tensor) -> tuple[Tensor, Tensor]:
        """Return `inputs` [T, d_in] and `gradients` [T, d_out] transformed; modes: [T].

        In training the statistics take them in first.
        """
        if self.training:
            self.inputs.update(inputs)
            self.gradients.update(gradients)
        rows = torch.cat((self.inputs(inputs), self.gradients(gradients)), dim=1)
        for block in self.blocks:
            rows = block(rows, modes)
        return rows[:, : inputs.shape[1]], rows[:, inputs.shape[1] :]


class MendNetwork(nn.Module):
    """A transform for each shape of matrix, and a rate for each matrix of `shapes`, (d_out, d_in), in its order."""

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
        """Forget the statistics, as the released evaluation does after it has loaded a network."""
        for transform in self.transforms.values():
            assert isinstance(transform, Transform)
            transform.inputs.restart()
            transform.gradients.restart()

    def forward(self, material: Material) -> list[Delta]:
        """Return the change of each edit."""
        changes: list[dict[Weight, LowRank]] = [{} for _ in material.conditions]
        for name, weights in self._groups.items():
            for weight, tokens in self._transformed(name, [material.tokens[weight] for weight in weights]):
                rate = self.rates[self.weights.index(weight)]
                for change, span in zip(changes, tokens.spans, strict=True):
                    change[weight] = LowRank(tokens.inputs[span], rate * tokens.gradients[span])
        return [Delta({weight: change[weight] for weight in self.weights}) for change in changes]

    def _transformed(self, name: str, by_matrix: Sequence[Tokens]) -> list[tuple[Weight, Tokens]]:
        """Return the transformed tokens of each matrix of a shape, computed together."""
        lengths = [len(tokens.inputs) for tokens in by_matrix]
        modes = torch.repeat_interleave(torch.arange(len(by_matrix)), torch.tensor(lengths)).to(self.rates.device)
        inputs = torch.cat([tokens.inputs for tokens in by_matrix])
        gradients = torch.cat([tokens.gradients for tokens in by_matrix])
        inputs, gradients = self.transforms[name](inputs, gradients, modes)
        split = zip(torch.split(inputs, lengths), torch.split(gradients, lengths), strict=True)
        return [
            (weight, Tokens(*tensors, tokens.counts))
            for weight, tokens, tensors in zip(self._groups[name], by_matrix, split, strict=True)
        ]
