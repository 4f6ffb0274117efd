"""Listen to, change or stand in for a layer while a context is open, and restore what was there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from torch import Tensor

from cfbuild.lm.model import LanguageModel, Weight


@contextmanager
def echoing(layer: Any, shown: Sequence[Any]) -> Iterator[None]:
    """While open, the layer returns what it is given, in the shape of `shown[0]` if there is one."""

    def echo(hidden_states: Tensor, *_: Any, **__: Any) -> Any:
        return (hidden_states, *shown[0][1:]) if shown and isinstance(shown[0], tuple) else hidden_states

    kept = layer.__dict__.get("forward")
    layer.__dict__["forward"] = echo
    try:
        yield
    finally:
        del layer.__dict__["forward"]
        if kept is not None:
            layer.__dict__["forward"] = kept


def projection_output(
    lm: LanguageModel, layer: int, change: Callable[[Tensor, Tensor], Tensor]
) -> AbstractContextManager[None]:
    """While open, replace each output of the layer's value projection by `change(input, output)`."""
    return module_output(lm, Weight(layer), change)


@contextmanager
def module_output(lm: LanguageModel, weight: Weight, change: Callable[[Tensor, Tensor], Tensor]) -> Iterator[None]:
    """While open, replace each output of the module that holds `weight` by `change(input, output)`."""
    handle = lm.module(weight).register_forward_hook(lambda _, args, output: change(args[0], output))
    try:
        yield
    finally:
        handle.remove()
