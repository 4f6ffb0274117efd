"""Room for batches in a device's memory, by what a token or a text takes, and by what did not fit.

On a CPU the limits are fixed. On an accelerator they follow from its whole memory and the model's shape, not from what
is free at the time, so that equal machines make equal batches, and so equal bytes.
"""

from __future__ import annotations

from typing import Any

import torch

NUMBER_BYTES = 4
"""Bytes of a number of an activation: float32's, which models in narrower formats use too in part."""
STATES_PER_LAYER, INNER_STATES_PER_LAYER = 10, 4
"""Vectors of d_model, and of the MLP's width, that a layer computes for a token: norms, queries, keys, values, outputs
of attention and the MLP, the sums, and their copies for a gradient; gate, up, their product and its gradient."""
LAYERS_AT_ONCE = 2
"""Layers whose activations exist at the same time without a gradient: the running layer, and its inputs."""
KEYS_ON_A_CPU = 4 << 30
"""Bytes that the keys and values of texts that are written together may take on a CPU."""
SHARE_FOR_BATCHES = 0.7
"""Share of the memory without the weights that batches may take: fragmentation, logits and libraries take the rest."""


class Room:
    """The room for batches of a model. halvings: how often it was halved, because a batch did not fit.

    width: the model's d_model. inner_width: that of its MLPs. kept_bytes: what is kept beside the weights.
    """

    def __init__(self, model: Any, width: int, inner_width: int, kept_bytes: int = 0) -> None:
        self._model, self._width, self._inner = model, width, inner_width
        self._bytes = room_bytes(model, kept_bytes)
        self.halvings = 0

    def shrink(self) -> None:
        """Halve the room from now on."""
        self.halvings += 1

    def tokens(self, most: int, layers: int = LAYERS_AT_ONCE) -> int:
        """Return the padded tokens of a batch, up to `most`, if `layers` keep their activations at the same time."""
        numbers = STATES_PER_LAYER * self._width + INNER_STATES_PER_LAYER * self._inner
        return self._bounded(most, NUMBER_BYTES * layers * numbers)

    def texts(self, most: int, tokens: int) -> int:
        """Return the number of texts of `tokens` tokens whose keys and values have room together, up to `most`."""
        config = self._model.config
        heads = int(config.num_attention_heads)
        width = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
        keys = int(getattr(config, "num_key_value_heads", None) or heads) * width
        text_bytes = self._model.dtype.itemsize * 2 * int(config.num_hidden_layers) * keys * max(tokens, 1)
        return self._bounded(most, text_bytes, KEYS_ON_A_CPU)

    def _bounded(self, most: int, each_bytes: int, on_a_cpu: int | None = None) -> int:
        room = on_a_cpu if self._bytes is None else self._bytes
        fits = most if room is None else min(most, room // each_bytes)
        return max(1, fits >> self.halvings)


def room_bytes(model: Any, kept_bytes: int = 0) -> int | None:
    """Return the bytes that batches of a model may take; None on a CPU or if torch cannot say.

    kept_bytes: what is kept beside the weights.
    """
    memory = None if model.device.type == "cpu" else total_memory(model.device)
    if memory is None:
        return None
    weights = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    return max(0, int(SHARE_FOR_BATCHES * (memory - weights - kept_bytes)))


def total_memory(device: torch.device) -> int | None:
    """Return the bytes of an accelerator's memory, free or not, or None if torch cannot say."""
    return _memory(device, 1)


def free_memory(device: torch.device) -> int | None:
    """Return the free bytes of an accelerator's memory, or None if torch cannot say."""
    return _memory(device, 0)


def _memory(device: torch.device, place: int) -> int | None:
    """Return (free, total)[place] in bytes, by the first function of torch that knows the kind of device."""
    own: Any = getattr(torch, device.type, None)

    def of_metal() -> tuple[int, int]:
        most = int(own.recommended_max_memory())
        return most - int(own.driver_allocated_memory()), most

    readers = (
        lambda: torch.accelerator.get_memory_info(device),  # from torch 2.9 on
        lambda: own.mem_get_info(device),
        of_metal,
    )
    for read in readers:
        try:
            return int(read()[place])
        except (AttributeError, RuntimeError, NotImplementedError, AssertionError):
            continue
    return None
