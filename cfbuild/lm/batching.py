"""Batches that fit the memory: cut by padded tokens, and halved when memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import TypeVar

import torch

from cfbuild.errors import ModelError
from cfbuild.lm.model import LanguageModel
from cfbuild.lm.notices import log_once
from cfbuild.lm.room import LAYERS_AT_ONCE, Room
from cfbuild.progress import no_progress

Result = TypeVar("Result")
Item = TypeVar("Item")

TOKENS_PER_BATCH, ACCELERATOR_TOKENS_PER_BATCH = {"cpu": 4096}, 32768
"""Padded tokens of a batch, by kind of device and on any other: enough to share what prompts begin with, few enough for
the memory. Accelerators gain nothing by more; those whose memory has no room for as many get fewer (`room.py`)."""
ENOUGH_TOKENS, MOST_WIDENING = 4096, 9 / 8
"""Padded tokens that keep an accelerator busy: a batch with as many takes no item that would widen it by more than
MOST_WIDENING, since all its rows would be filled up to that width."""


def in_batches(
    lm: LanguageModel,
    items: Sequence[Item],
    work: Callable[[Sequence[Item]], list[Result]],
    width: Callable[[Item], int],
    done: Callable[[int], None] = no_progress,
) -> list[Result]:
    """Return the results of `work` for `items`, in their order, done in batches of similar width.

    width: returns an item's width in tokens. done: gets the number of finished items after each batch. A batch that
    does not fit the memory is halved, and later batches are smaller.
    """
    results: dict[int, Result] = {}
    widths = [width(item) for item in items]
    enough = None if lm.device.type == "cpu" else ENOUGH_TOKENS
    for batch in _plan(widths, lambda: token_budget(lm), enough):
        results.update(zip(batch, halving(work, [items[index] for index in batch], lm.room), strict=True))
        done(len(results))
    return [results[index] for index in range(len(items))]


class LayersPassed:
    """A reporter of finished items that also counts those in work, by the share of their layers that have run.

    A batch may take longer than a user waits for a sign.
    """

    def __init__(self, done: Callable[[int], None]) -> None:
        self._done, self._finished = done, 0

    def __call__(self, finished: int) -> None:
        """Report the number of finished items."""
        self._finished = finished
        self._done(finished)

    def of(self, items: int, layers: int) -> Callable[[], None]:
        """Return the function to call for each of the `layers` layers that a batch of items runs through."""
        passed = count(1)
        return lambda: self._done(self._finished + items * next(passed) // (layers + 1))


def token_budget(lm: LanguageModel, share: float = 1, layers: int = LAYERS_AT_ONCE) -> int:
    """Return the most padded tokens of a batch on the model's device.

    share: the part of the usual number. layers: how many keep their activations, which all do for a gradient.
    """
    return lm.room.tokens(int(share * TOKENS_PER_BATCH.get(lm.device.type, ACCELERATOR_TOKENS_PER_BATCH)), layers)


def halving(
    work: Callable[[Sequence[Item]], list[Result]], items: Sequence[Item], room: Room | None = None
) -> list[Result]:
    """Return `work(items)`, by halves if memory runs out.

    room: is halved if the items do not fit, and again if their first half does not, so that later batches are smaller.
    Raises ModelError if a single item does not fit.
    """
    try:
        return work(items)
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        if len(items) == 1:
            raise ModelError(
                "memory ran out over a single text; try --dtype bfloat16, a smaller model or another --device"
            ) from error
    if room is not None:
        room.shrink()
    log_once("memory ran out over a batch; batches that do not fit are done in halves, which is slower")
    middle = len(items) // 2  # outside the handler, so that the failed pass's tensors are gone
    return halving(work, items[:middle], room) + halving(work, items[middle:])


def _is_out_of_memory(error: Exception) -> bool:
    message = str(error).lower()  # only CUDA has an exception of its own; the CPU's allocator and others use words
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(
        words in message for words in ("out of memory", "can't allocate memory", "not enough memory")
    )


def _plan(widths: Sequence[int], budget: Callable[[], int], enough: int | None = None) -> Iterator[list[int]]:
    """Yield items' indices in batches of similar width: up to `budget()` padded tokens each, but at least an item.

    enough: the padded tokens from which on a batch takes no much wider items; None for no such number.
    """
    batch: list[int] = []
    for index in sorted(range(len(widths)), key=lambda index: (widths[index], index)):
        if batch:
            is_full = widths[index] * (len(batch) + 1) > budget()
            is_wider = widths[index] > MOST_WIDENING * widths[batch[0]]
            has_enough = enough is not None and widths[batch[-1]] * len(batch) >= enough
            if is_full or (is_wider and has_enough):
                yield batch
                batch = []
        batch.append(index)
    if batch:
        yield batch
