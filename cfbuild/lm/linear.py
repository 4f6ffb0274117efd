"""A linear map with a frozen weight, by the fastest products of the device; only the input has a gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from cfbuild.lm.libraries import Libraries
from cfbuild.lm.tensor_cores import SplitMap


class LinearMap:
    """x W^T + bias. weight: [d_out, d_in], in the number format of the products; bias: [d_out] or None."""

    def __init__(self, weight: Tensor, bias: Tensor | None, libraries: Libraries) -> None:
        self.weight, self.bias, self._libraries = weight, bias, libraries
        takes_parts = libraries.tensor_cores and weight.dtype == torch.float32
        self._split = SplitMap(weight, bias, libraries.parts_bytes > 0) if takes_parts else None

    @staticmethod
    def of(module: Any, dtype: torch.dtype, libraries: Libraries) -> LinearMap:
        """Return a module's map in the number format `dtype`; what it has in another one is copied."""
        bias = None if module.bias is None else module.bias.detach().to(dtype)
        return LinearMap(weight_of(module).to(dtype), bias, libraries)

    @property
    def dtype(self) -> torch.dtype:
        """Return the number format of the products."""
        return self.weight.dtype

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return inputs W^T + bias in the map's number format: [..., d_in] -> [..., d_out]."""
        if self._split is not None and self._split.pays(inputs):
            return self._split(inputs)
        return self._libraries.multiply(inputs.to(self.dtype), self.weight, self.bias)

    def add_to(self, inputs: Tensor, residual: Tensor) -> Tensor:
        """Return residual + inputs W^T + bias: [T, d_in], [T, d_out] -> [T, d_out]."""
        if self.dtype == residual.dtype and self.bias is None and self._split is None:
            return self._libraries.multiply_and_add(inputs, self.weight, residual)
        return residual + self(inputs)

    def back(self, gradient: Tensor, total: Tensor | None = None) -> Tensor:
        """Return `total` plus the gradient in the input, from that in the output: [..., d_out] -> [..., d_in].

        The result is in the map's number format.
        """
        gradient = gradient.to(self.dtype)
        if self._split is not None and self._split.pays(gradient):
            back = self._split.back(gradient)
            return back if total is None else back.add_(total)
        if total is None:
            return self._libraries.multiply(gradient, self.weight.T)
        return self._libraries.multiply_and_add(gradient, self.weight.T, total)


def weight_of(module: Any) -> Tensor:
    """Return the weight of a linear `module` as [d_out, d_in], whichever way it is stored."""
    weight: Tensor = module.weight.detach()
    return weight if isinstance(module, nn.Linear) else weight.T
