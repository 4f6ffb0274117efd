"""Change a module's input or output, or replace its `forward`, while a context is open."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from torch import Tensor, nn

from cfbuild.lm.model import LanguageModel, Weight


class StandIn:
    """A function that replaces a module's `forward`, and calls the replaced one (`before`) once it is closed.

    It may be called when closed: it cannot be removed from below another program's patch.
    """

    def __init__(self, module: nn.Module) -> None:
        self.before: Callable[..., Any] = module.forward
        self.is_open = True

    def close(self) -> None:
        """Call the replaced `forward` from now on, and release tensors."""
        self.is_open = False


@contextmanager
def standing_in(module: nn.Module, forward: StandIn) -> Iterator[None]:
    """Make `forward` the module's while open; afterwards restore the one before, unless another patch lies over it."""
    replaced = module.__dict__.get("forward")
    module.__dict__["forward"] = forward
    try:
        yield
    finally:
        forward.close()
        if module.__dict__.get("forward") is forward:
            del module.__dict__["forward"]
            if replaced is not None:
                module.__dict__["forward"] = replaced


def has_anothers_forward(module: nn.Module) -> bool:
    """Return whether another program than cfbuild has put a `forward` into the module."""
    patch = module.__dict__.get("forward")
    return patch is not None and not isinstance(patch, StandIn)


def hooks_of(module: nn.Module) -> tuple[dict[int, Any], ...]:
    """Return torch's own tables of the module's hooks, which are empty where there are none."""
    return module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks


def has_global_hooks() -> bool:
    """Return whether torch has a hook that is run at the calls of every module."""
    state = nn.modules.module
    return bool(
        state._global_forward_hooks
        or state._global_forward_pre_hooks
        or state._global_backward_hooks
        or state._global_backward_pre_hooks
    )


class Skip(StandIn):
    """A `forward` that returns a layer's input.

    example: empty, or with an output of a layer; where that is a tuple, so is what is returned, with the same rest.
    """

    def __init__(self, layer: nn.Module, example: Sequence[Any]) -> None:
        super().__init__(layer)
        self._example = example

    def __call__(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        if not self.is_open:
            return self.before(hidden_states, *args, **kwargs)
        is_tuple = bool(self._example) and isinstance(self._example[0], tuple)
        return (hidden_states, *self._example[0][1:]) if is_tuple else hidden_states


def projection_output(
    lm: LanguageModel, layer: int, change: Callable[[Tensor, Tensor], Tensor]
) -> AbstractContextManager[None]:
    """Replace each output of the layer's W by `change(input, output)` while open."""
    return module_output(lm, Weight(layer), change)


@contextmanager
def module_output(lm: LanguageModel, weight: Weight, change: Callable[[Tensor, Tensor], Tensor]) -> Iterator[None]:
    """Replace each output of the module that holds `weight` by `change(input, output)` while open.

    Other threads that run the model wait.
    """
    with lm.lock:
        handle = lm.module(weight).register_forward_hook(lambda _, args, output: change(args[0], output))
        try:
            yield
        finally:
            handle.remove()


@contextmanager
def module_input(lm: LanguageModel, weight: Weight, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Replace each input of the module that holds `weight` by `change(input)` while open.

    Other threads that run the model wait.
    """
    with lm.lock:
        handle = lm.module(weight).register_forward_pre_hook(lambda _, args: (change(args[0]), *args[1:]))
        try:
            yield
        finally:
            handle.remove()
