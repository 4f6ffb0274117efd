"""The GELU of GPT-2 and GPT-J in one pass over memory instead of eight: 0.5 x (1 + tanh(0.8 (x + 0.045 x^3)))."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

from torch import Tensor, nn

from cfbuild.lm.hooks import StandIn, has_anothers_forward, standing_in
from cfbuild.lm.model import LanguageModel


class _OnePassGelu(StandIn):
    """The `forward` of a GELU by torch's own function for its approximation: the same numbers within rounding."""

    def __call__(self, inputs: Tensor) -> Tensor:
        if not self.is_open:
            output: Tensor = self.before(inputs)
            return output
        return nn.functional.gelu(inputs, approximate="tanh")


@contextmanager
def one_pass_gelu(lm: LanguageModel, layers: Iterable[int]) -> Iterator[None]:
    """Compute the GELUs of `layers` in one pass while open, but those that another program has patched."""
    from transformers.activations import FastGELUActivation, NewGELUActivation

    known = NewGELUActivation.forward, FastGELUActivation.forward
    with lm.lock, ExitStack() as stack:
        for index in layers:
            for module in lm.layers[index].modules():
                if type(module).forward in known and not has_anothers_forward(module):
                    stack.enter_context(standing_in(module, _OnePassGelu(module)))
        yield
