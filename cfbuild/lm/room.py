"""Room for batches in a device's memory: what a token or a text takes, and what has turned out not to fit.

On a CPU the limits are fixed. On an accelerator they follow from its whole memory and the model's shape, not from what
is free just now: equal machines are to make equal batches, and so equal bytes.
"""

from __future__ import annotations

from typing import Any

import torch

NUMBER_BYTES = 4
"""Bytes of a number of an activation; narrower models keep some of theirs in float32 too."""
STATES_PER_LAYER, INNER_STATES_PER_LAYER = 10, 4
"""Vectors of d_model and of the MLP's width that a layer makes of a token: norms, queries, keys, values, what attention
and the MLP write, the sums, and each's copy for a gradient; gate, up, their product and its gradient."""
LAYERS_AT_ONCE = 2
"""Layers whose activations exist together where no gradient is taken: the one that runs, and its inputs."""
KEYS_ON_A_CPU = 4 << 30
"""Bytes that the keys and values of texts that are written together may take on a CPU."""
SHARE_FOR_BATCHES = 0.7
"""Share of the memory beside the weights that batches may take: the rest is fragmentation, logits and libraries."""


class Room:
    """Room for batches beside a model's weights; it is halved whenever a batch did not fit, and stays so."""

    def __init__(self, model: Any, width: int, inner_width: int) -> None:
        """Take a model, its d_model, and the width of its MLPs."""
        self._model, self._width, self._inner = model, width, inner_width
        self._bytes = room_bytes(model)
        self.halvings = 0
        """The number of batches that did not fit."""

    def shrink(self) -> None:
        """Halve the room from now on."""
        self.halvings += 1

    def tokens(self, most: int, layers: int = LAYERS_AT_ONCE) -> int:
        """Return the padded tokens of a batch, up to `most`, of which `layers` keep their activations."""
        numbers = STATES_PER_LAYER * self._width + INNER_STATES_PER_LAYER * self._inner
        return self._bounded(most, NUMBER_BYTES * layers * numbers)

    def texts(self, most: int, tokens: int) -> int:
        """Return the texts of `tokens` tokens that are written together, up to `most`: keys and values of all stay."""
        config = self._model.config
        heads = int(config.num_attention_heads)
        width = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
        keys = int(getattr(config, "num_key_value_heads", None) or heads) * width
        a_text = self._model.dtype.itemsize * 2 * int(config.num_hidden_layers) * keys * max(tokens, 1)
        return self._bounded(most, a_text, KEYS_ON_A_CPU)

    def _bounded(self, most: int, each_bytes: int, on_a_cpu: int | None = None) -> int:
        room = on_a_cpu if self._bytes is None else self._bytes
        fits = most if room is None else min(most, room // each_bytes)
        return max(1, fits >> self.halvings)


def room_bytes(model: Any) -> int | None:
    """Return the bytes that batches may take beside a model; None on a CPU or where torch cannot say."""
    if model.device.type == "cpu":
        return None
    memory = total_memory(model.device)
    if memory is None:
        return None
    weights = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    return max(0, int(SHARE_FOR_BATCHES * (memory - weights)))


def total_memory(device: torch.device) -> int | None:
    """Return the bytes of an accelerator's memory, whoever uses them, or None where torch cannot say."""
    return _told_by_torch(device, 1)


def free_memory(device: torch.device) -> int | None:
    """Return the free bytes of an accelerator, or None where torch cannot say."""
    return _told_by_torch(device, 0)


def _told_by_torch(device: torch.device, place: int) -> int | None:
    """Return (free, total)[place] in bytes by whichever means the device's kind has."""
    own: Any = getattr(torch, device.type, None)

    def of_metal() -> tuple[int, int]:
        most = int(own.recommended_max_memory())
        return most - int(own.driver_allocated_memory()), most

    means = (
        lambda: torch.accelerator.get_memory_info(device),  # from torch 2.9 on
        lambda: own.mem_get_info(device),
        of_metal,
    )
    for read in means:
        try:
            return int(read()[place])
        except (AttributeError, RuntimeError, NotImplementedError, AssertionError):
            continue
    return None
