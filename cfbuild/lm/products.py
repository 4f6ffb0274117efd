"""Matrix products with frozen weights, by the fastest means that torch has for them, and in bfloat16 on request.

CPUs with matrix units and GPUs multiply bfloat16 several times as fast as float32. Norms, attention, residual sums and
the softmax stay in float32, and so do the weights themselves: the narrow copies live as long as the context.

For float32 on x86 torch calls MKL. It carries oneDNN as well, which is 5 to 20% faster at a layer's sizes and up to
twice as fast at an output head over a hundred rows, where MKL spends its time on packing the weight.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from cfbuild.lm.model import LanguageModel

FAST_AT_BFLOAT16 = ("amx_bf16", "avx512_bf16", "bf16", "sve_bf16")
"""Capabilities of CPUs, as torch names them, that multiply bfloat16 faster than float32."""
X86 = ("x86_64", "AMD64")


def narrow_is_fast(device: torch.device) -> bool:
    """Whether products in bfloat16 save time there: on every accelerator, and on CPUs with instructions for them."""
    if device.type != "cpu":
        return True
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(capabilities.get(name) for name in FAST_AT_BFLOAT16)


def multiply(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """inputs W^T, plus the bias: [..., d_in], [d_out, d_in] -> [..., d_out], all in one number format; no gradients."""
    if _onednn_is_faster(weight):
        outputs: Tensor = torch.ops.mkldnn._linear_pointwise.default(inputs, weight, bias, "none", [], "")
        return outputs
    return nn.functional.linear(inputs, weight, bias)


def multiply_and_add(inputs: Tensor, weight: Tensor, addend: Tensor) -> Tensor:
    """inputs W^T + addend: [T, d_in], [d_out, d_in], [T, d_out] -> [T, d_out]; no gradients."""
    if _onednn_is_faster(weight):
        total: Tensor = torch.ops.mkldnn._linear_pointwise.binary(inputs, addend, weight, None, "add")
        return total
    return torch.addmm(addend, inputs, weight.T)


def _onednn_is_faster(weight: Tensor) -> bool:
    """Elsewhere than on x86 torch takes the fastest library by itself."""
    return (
        weight.dtype == torch.float32
        and weight.device.type == "cpu"
        and platform.machine() in X86
        and bool(getattr(torch.backends.mkldnn, "enabled", True))
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


class _Product(torch.autograd.Function):
    """x W^T + b in the weight's number format, and its gradient in x; that in a frozen weight is never asked for."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.weight = weight  # [d_out, d_in]
        if weight.dtype == inputs.dtype:
            return multiply(inputs, weight, bias)
        product = multiply(inputs.to(weight.dtype), weight).to(inputs.dtype)
        return product if bias is None else product.add_(bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return multiply(gradient.to(ctx.weight.dtype), ctx.weight.T).to(gradient.dtype), None, None


def _forward(weight: Tensor, bias: Tensor | None, inputs: Tensor) -> Tensor:
    product: Tensor = _Product.apply(inputs, weight, bias)  # type: ignore[no-untyped-call]
    return product


@contextmanager
def fast_products(lm: LanguageModel, layers: range, narrow_from: int | None = None) -> Iterator[None]:
    """While open, the linear maps of some layers and of the output head multiply by `multiply`.

    Those of layers from `narrow_from` on, and the head's if there is such a layer, do so in bfloat16; a model that is
    no wider already is left as it is.
    """
    narrow = torch.bfloat16 if lm.dtype == torch.float32 else lm.dtype
    roots = [(lm.layers[index], narrow_from is not None and index >= narrow_from) for index in layers]
    roots.append((lm.model.get_output_embeddings(), narrow_from is not None and narrow_from < len(lm.layers)))
    changed: list[Any] = []
    try:
        for root, is_narrow in roots:
            for module, weight in _linear_maps(root):
                wanted = weight.to(narrow).contiguous() if is_narrow else weight
                if wanted.dtype != weight.dtype or _onednn_is_faster(weight):
                    module.__dict__["forward"] = partial(_forward, wanted, getattr(module, "bias", None))
                    changed.append(module)
        yield
    finally:
        for module in changed:
            module.__dict__.pop("forward", None)


def _linear_maps(root: nn.Module) -> Iterator[tuple[nn.Module, Tensor]]:
    """Every linear map of a module, and its weight as [d_out, d_in], whichever way it is stored."""
    for module in root.modules():
        if isinstance(module, nn.Linear):
            yield module, module.weight.detach()
        elif type(module).__name__ == "Conv1D":
            yield module, module.weight.detach().T  # type: ignore[operator]
