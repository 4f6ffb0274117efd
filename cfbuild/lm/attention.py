"""Attention on a GPU by the kernels that are fastest for short texts, for layers that run as transformers' modules.

torch chooses kernels that are made for long texts. For one token a row, as in a step of writing, one of our own reads
each visible key and value once (`triton_kernels.py`). In narrow formats, for prompts of a fact, torch's
memory-efficient kernel takes a third of the time of cuDNN's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from cfbuild.lm.gpu_kernels import gpu_kernels

SHORT = 64
"""Tokens of a row up to which the memory-efficient kernel is taken; it was measured up to 29."""
USUAL = "sdpa"
"""transformers' name for torch's attention."""
Attend = Callable[..., tuple[Tensor, Tensor | None]]


@contextmanager
def short_attention(device: torch.device) -> Iterator[None]:
    """Attend by the kernels for short texts while open, if the device is a GPU of NVIDIA's."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    usual = ALL_ATTENTION_FUNCTIONS[USUAL]
    if device.type != "cuda" or isinstance(usual, _ShortAttention):
        yield
        return
    ALL_ATTENTION_FUNCTIONS[USUAL] = _ShortAttention(usual)
    try:
        yield
    finally:
        del ALL_ATTENTION_FUNCTIONS[USUAL]
        if ALL_ATTENTION_FUNCTIONS[USUAL] is not usual:  # somebody had put it there before
            ALL_ATTENTION_FUNCTIONS[USUAL] = usual


class _ShortAttention:
    """A function that transformers calls for attention, in place of the `usual` one."""

    def __init__(self, usual: Attend) -> None:
        self._usual = usual

    def __call__(
        self, module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **given: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Return [R, width, H, d], the outputs of heads for queries [R, H, width, d]."""
        kernels = gpu_kernels(query.device)
        if kernels is not None and attention_mask is not None and _is_a_step(query, key, value, attention_mask, given):
            scaling = given.get("scaling") or query.shape[-1] ** -0.5
            return kernels.attend_from_one(query, key, value, attention_mask, scaling).transpose(1, 2), None
        if query.dtype != torch.float32 and key.shape[2] <= SHORT:
            with sdpa_kernel([SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]):
                return self._usual(module, query, key, value, attention_mask, **given)
        return self._usual(module, query, key, value, attention_mask, **given)


KNOWN = frozenset({"scaling", "dropout", "is_causal", "position_ids", "cache_position", "use_cache"})
"""Arguments of attention that are known, or have no effect on one token a row."""


def _is_a_step(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, given: dict[str, Any]) -> bool:
    """Return whether attention is that of one token a row, without gradients or anything that the kernel lacks."""
    return (
        query.shape[2] == 1
        and key.shape[:2] == query.shape[:2]
        and key.is_contiguous()
        and value.is_contiguous()
        and mask.shape[1:] == (1, 1, key.shape[2])
        and mask.is_floating_point()
        and not (torch.is_grad_enabled() and query.requires_grad)
        and not given.get("dropout")
        and not any(isinstance(value, Tensor) or value for name, value in given.items() if name not in KNOWN)
    )
