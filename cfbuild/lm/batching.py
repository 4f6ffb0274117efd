"""Cut work into batches that fit the memory: by padded tokens, and by halves where memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

from cfbuild.errors import ModelError
from cfbuild.lm.model import LanguageModel
from cfbuild.lm.notices import log_once
from cfbuild.lm.room import LAYERS_AT_ONCE, Room
from cfbuild.progress import no_progress

Result = TypeVar("Result")
Item = TypeVar("Item")

TOKENS_PER_BATCH = {"cpu": 4096}
"""Padded tokens of a batch: enough to share what prompts begin with, few enough for the memory."""
ACCELERATOR_TOKENS_PER_BATCH = 32768
"""The same for accelerators whose memory has room for as many (`room.py`); more gain nothing there."""


def in_batches(
    lm: LanguageModel,
    items: Sequence[Item],
    work: Callable[[Sequence[Item]], list[Result]],
    width: Callable[[Item], int],
    done: Callable[[int], None] = no_progress,
) -> list[Result]:
    """Return the results of `work` for `items`, in their order, worked off in batches of like width.

    width: an item's width in tokens. done: gets the number of finished items after each batch. A batch that does not
    fit the memory is halved, and those after it are smaller.
    """
    results: dict[int, Result] = {}
    widths = [width(item) for item in items]
    for part in _plan(widths, lambda: token_budget(lm)):
        results.update(zip(part, halving(work, [items[index] for index in part], lm.room), strict=True))
        done(len(results))
    return [results[index] for index in range(len(items))]


def token_budget(lm: LanguageModel, share: float = 1, layers: int = LAYERS_AT_ONCE) -> int:
    """Return the number of padded tokens that one batch may hold on the model's device.

    share: of the usual number. layers: how many keep their activations, as all do where a gradient is taken.
    """
    return lm.room.tokens(int(share * TOKENS_PER_BATCH.get(lm.device.type, ACCELERATOR_TOKENS_PER_BATCH)), layers)


def halving(
    work: Callable[[Sequence[Item]], list[Result]], items: Sequence[Item], room: Room | None = None
) -> list[Result]:
    """Return `work(items)`; where memory runs out, the results of one half and then of the other.

    room: shrinks with each first half that does not fit either, so that later batches are planned smaller.

    Raises ModelError when a single item does not fit.
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
    """Return True if an error says that memory ran out.

    CUDA has an exception of its own; the CPU's allocator and others only say so in words.
    """
    said = str(error).lower()
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(
        words in said for words in ("out of memory", "can't allocate memory", "not enough memory")
    )


def _plan(widths: Sequence[int], budget: Callable[[], int]) -> Iterator[list[int]]:
    """Yield items' indices in batches of like width, each within `budget()` padded tokens (one item at least)."""
    part: list[int] = []
    for index in sorted(range(len(widths)), key=lambda index: (widths[index], index)):
        if part and widths[index] * (len(part) + 1) > budget():
            yield part
            part = []
        part.append(index)
    if part:
        yield part
