"""Matrix products with frozen weights, by the fastest library that torch has for them, and in bfloat16 on request.

CPUs with matrix units and GPUs multiply bfloat16 several times as fast as float32. Norms, attention, residual sums and
the softmax stay in float32, and so do the weights: their bfloat16 copies exist while the context is open.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from cfbuild.lm.hooks import StandIn, has_anothers_forward, standing_in
from cfbuild.lm.libraries import Libraries
from cfbuild.lm.linear import LinearMap, weight_of
from cfbuild.lm.model import LanguageModel
from cfbuild.lm.notices import log_once

FAST_AT = {
    torch.bfloat16: ("amx_bf16", "avx512_bf16", "bf16", "sve_bf16"),
    torch.float16: ("amx_fp16", "avx512_fp16", "fp16"),
}
"""The capabilities of CPUs, by torch's names, that make products in a number format fast."""
ROWS_IN_CACHE = 8
"""Rows of logits whose exponentials fit a CPU's cache: with 50,000 words they take 1.6 MB."""

LOGITS_BYTES, STATES_PER_HEAD_CALL = {"cpu": 32 << 20}, 1024
"""The most bytes of logits that exist at one time on a CPU, and the most states of a call of the output head on any
other device. glibc takes more than 32 MB from the system anew each time, page by page: the head alone, on 1,024 states,
took 16% less time in parts of 32 MB. In whole steps of writing no gain was measured."""


def narrow_is_fast(device: torch.device, dtype: torch.dtype = torch.bfloat16) -> bool:
    """Return whether products in the format `dtype` of FAST_AT save time: on accelerators, and CPUs made for them."""
    if device.type != "cpu":
        return True
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(capabilities.get(name) for name in FAST_AT[dtype])


def note_slow_format(option: str, device: torch.device, dtype: torch.dtype) -> None:
    """Log, if the device has no instructions for the format `dtype`, that the user's `option` makes products slower."""
    if dtype in FAST_AT and not narrow_is_fast(device, dtype):
        name = str(dtype).removeprefix("torch.")
        log_once(f"{option}: this CPU has no instructions for {name}, so it is slower than float32, if smaller")


def parts_for_head(lm: LanguageModel, states: Tensor) -> tuple[Tensor, ...]:
    """Return finished states [n, d_model] in the parts, of about one size, for which the output head is called."""
    most = STATES_PER_HEAD_CALL
    if states.device.type in LOGITS_BYTES:
        most = max(1, LOGITS_BYTES[states.device.type] // (4 * int(lm.model.config.vocab_size)))
    return states.tensor_split(max(1, -(-len(states) // most)))


class _Product(torch.autograd.Function):
    """A frozen linear map, with outputs and gradients in the number formats of its inputs and outputs."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, linear: LinearMap) -> Tensor:
        ctx.linear = linear
        return linear(inputs).to(inputs.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.linear.back(gradient).to(gradient.dtype), None


class _FastMap(StandIn):
    """The `forward` of a linear map that multiplies by the faster library, in the number format `dtype`.

    What was made from the weight is made again when the weight or bias has changed.
    """

    def __init__(self, module: nn.Module, dtype: torch.dtype, libraries: Libraries) -> None:
        super().__init__(module)
        self._module: Any = module
        self._dtype, self._libraries = dtype, libraries
        self._made_from: tuple[Any, ...] = ()
        self._map: LinearMap | None = None

    def __call__(self, inputs: Tensor) -> Tensor:
        if not self.is_open:
            output: Tensor = self.before(inputs)
            return output
        linear, bias = self._current(), self._module.bias
        product: Tensor = _Product.apply(inputs, linear)  # type: ignore[no-untyped-call]
        return product if bias is None or linear.bias is not None else product + bias.detach()

    def close(self) -> None:
        super().close()
        self._map, self._made_from = None, ()

    def _current(self) -> LinearMap:
        """Return the map as it is now; a bias of another number format than the products' is left out."""
        weight, bias = self._module.weight, self._module.bias
        stamp = stamp_of(weight), None if bias is None else stamp_of(bias)
        if self._map is None or stamp != self._made_from:
            matrix = weight_of(self._module)
            is_same = matrix.dtype == self._dtype
            own_bias = bias.detach() if bias is not None and is_same else None
            self._map = LinearMap(matrix if is_same else matrix.to(self._dtype).contiguous(), own_bias, self._libraries)
            self._made_from = stamp
        return self._map


def stamp_of(weight: Tensor) -> tuple[int, int]:
    """Return a weight's address and number of writes, which change when it is replaced or written to."""
    return weight.data_ptr(), weight._version


@contextmanager
def fast_products(lm: LanguageModel, layers: Iterable[int], narrow_from: int | None = None) -> Iterator[None]:
    """Multiply by the faster library, while open, in the linear maps of `layers` and of the output head.

    narrow_from: a float32 model multiplies in bfloat16 in layers from this one on, and in the head if there is such a
    layer. Maps that another program has patched stay as they are. Other threads wait.
    """
    narrow = torch.bfloat16 if lm.dtype == torch.float32 else lm.dtype
    roots = [(lm.layers[index], narrow_from is not None and index >= narrow_from) for index in layers]
    roots.append((lm.model.get_output_embeddings(), narrow_from is not None and narrow_from < len(lm.layers)))
    with lm.lock, ExitStack() as stack:
        for root, is_narrow in roots:
            for module, weight in _linear_maps(root):
                dtype = narrow if is_narrow else weight.dtype
                if dtype != weight.dtype or lm.libraries.has_choice(weight) or "forward" in module.__dict__:
                    stack.enter_context(standing_in(module, _FastMap(module, dtype, lm.libraries)))
        yield


def _linear_maps(root: nn.Module) -> Iterator[tuple[nn.Module, Tensor]]:
    """Yield every plain linear map of a module, and its weight as [d_out, d_in]."""
    from transformers.pytorch_utils import Conv1D

    for module in root.modules():
        # By the function, not by the class: subclasses, of quantised weights for example, compute otherwise.
        is_linear = type(module).forward in (nn.Linear.forward, Conv1D.forward)
        if is_linear and not has_anothers_forward(module):
            yield module, weight_of(module)
