"""Matrix products in bfloat16 with everything else in float32: for steps whose sums may be a little rough.

CPUs with matrix units and GPUs multiply bfloat16 several times as fast as float32. Norms, attention, residual sums and
the softmax stay in float32, and so do the weights themselves: the narrow copies live as long as the context.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from cfbuild.lm.model import LanguageModel


class _NarrowProduct(torch.autograd.Function):
    """x W^T and its gradient in x; the weights are frozen, so theirs is never asked for."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor) -> Tensor:
        ctx.weight = weight  # [d_out, d_in]
        return (inputs.to(weight.dtype) @ weight.T).to(inputs.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return (gradient.to(ctx.weight.dtype) @ ctx.weight).to(gradient.dtype), None


def _multiply(weight: Tensor, bias: Tensor | None, inputs: Tensor) -> Tensor:
    product: Tensor = _NarrowProduct.apply(inputs, weight)  # type: ignore[no-untyped-call]
    return product if bias is None else product + bias


@contextmanager
def narrow_products(
    lm: LanguageModel, first_layer: int = 0, dtype: torch.dtype = torch.bfloat16, *, head: bool = True
) -> Iterator[None]:
    """While open, the linear maps of the layers from `first_layer` on and of the output head multiply in `dtype`.

    A model that is in `dtype` or narrower already is left as it is.
    """
    modules = [] if lm.dtype.itemsize <= dtype.itemsize else list(_linear_maps(lm, first_layer, head))
    try:
        for module, transposed in modules:
            weight = module.weight.T if transposed else module.weight
            narrow = weight.to(dtype).contiguous()
            module.__dict__["forward"] = partial(_multiply, narrow, getattr(module, "bias", None))
        yield
    finally:
        for module, _ in modules:
            module.__dict__.pop("forward", None)


def _linear_maps(lm: LanguageModel, first_layer: int, head: bool) -> Iterator[tuple[Any, bool]]:
    """Every linear map that is used from a layer on, and whether its weight is stored [d_in, d_out]."""
    last = [lm.model.get_output_embeddings()] if head else []
    for root in (*list(lm.layers)[first_layer:], *last):
        for module in root.modules():
            if isinstance(module, nn.Linear):
                yield module, False
            elif type(module).__name__ == "Conv1D":
                yield module, True
