"""Listen to a module, change its output or replace its `forward` while a context is open; restore it afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from torch import Tensor, nn

from cfbuild.lm.model import LanguageModel, Weight


class StandIn:
    """A `forward` of cfbuild's that takes a module's place. Once closed, it calls the `forward` before it.

    It may be called when it is closed: while someone else's patch lies over it, it cannot be removed.
    """

    def __init__(self, module: nn.Module) -> None:
        self.before: Callable[..., Any] = module.forward
        self.is_open = True

    def close(self) -> None:
        """Leave all calls to the `forward` before it from now on, and release tensors."""
        self.is_open = False


@contextmanager
def standing_in(module: nn.Module, forward: StandIn) -> Iterator[None]:
    """Make `forward` the module's while open; afterwards restore the one before.

    Where someone else put a patch over it, the patch stays.
    """
    kept = module.__dict__.get("forward")
    module.__dict__["forward"] = forward
    try:
        yield
    finally:
        forward.close()
        if module.__dict__.get("forward") is forward:
            del module.__dict__["forward"]
            if kept is not None:
                module.__dict__["forward"] = kept


def has_anothers_forward(module: nn.Module) -> bool:
    """Return True if someone other than cfbuild has put a `forward` into the module."""
    patch = module.__dict__.get("forward")
    return patch is not None and not isinstance(patch, StandIn)


def hooks_of(module: nn.Module) -> tuple[dict[int, Any], ...]:
    """Return the hooks that listen to the module's calls, forwards and backwards, as torch keeps them."""
    hooks = module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks
    return hooks


def all_modules_are_heard() -> bool:
    """Return True if torch has a hook that listens to the calls of every module."""
    state = nn.modules.module
    return bool(
        state._global_forward_hooks
        or state._global_forward_pre_hooks
        or state._global_backward_hooks
        or state._global_backward_pre_hooks
    )


class _Echo(StandIn):
    """A `forward` that returns the layer's input, in the shape of `shown[0]` if there is one."""

    def __init__(self, layer: nn.Module, shown: Sequence[Any]) -> None:
        super().__init__(layer)
        self._shown = shown

    def __call__(self, hidden_states: Tensor, *given: Any, **named: Any) -> Any:
        if not self.is_open:
            return self.before(hidden_states, *given, **named)
        is_tuple = bool(self._shown) and isinstance(self._shown[0], tuple)
        return (hidden_states, *self._shown[0][1:]) if is_tuple else hidden_states


@contextmanager
def echoing(layer: Any, shown: Sequence[Any]) -> Iterator[None]:
    """Let the layer return its input while open, in the shape of `shown[0]` if there is one."""
    with standing_in(layer, _Echo(layer, shown)):
        yield


def projection_output(
    lm: LanguageModel, layer: int, change: Callable[[Tensor, Tensor], Tensor]
) -> AbstractContextManager[None]:
    """Replace each output of the layer's value projection by `change(input, output)` while open."""
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
