"""The editors' settings by model preset: layers and hyperparameters of the released hparams files."""

from __future__ import annotations

from typing import Any

from cfbuild.errors import ConfigError
from cfbuild.lm.families import PRESETS

FINETUNE: dict[tuple[str, str], dict[str, Any]] = {
    ("gpt2-medium", "ft-l"): {"layer": 0, "norm_constraint": 2e-3},
    ("gpt2-large", "ft-l"): {"layer": 0, "norm_constraint": 1e-3},
    ("gpt2-xl", "ft"): {"layer": 1},
    ("gpt2-xl", "ft-l"): {"layer": 0, "norm_constraint": 5e-4},
    ("gpt-j-6b", "ft"): {"layer": 21},
    ("gpt-j-6b", "ft-l"): {"layer": 0, "norm_constraint": 5e-5},
}
"""Settings of the fine-tuning baselines by preset and editor (released hparams files)."""


DEPTH_OF_EDIT = 0.2
"""Share of the depth that an edit goes to where no preset names a layer: between the presets' 0.13 and 0.35."""


def rome_settings(preset: str | None) -> dict[str, Any]:
    """ROME hyperparameters of a preset that differ from the released defaults."""
    return {"clamp_norm_factor": PRESETS[preset].rome_clamp_norm_factor} if preset else {}


def edit_layer(preset: str | None, depth: int, asked: int | None = None) -> int:
    """The layer to edit: the one asked for, the preset's, or a share of the depth. Raises ConfigError if beyond it."""
    layer = asked if asked is not None else PRESETS[preset].rome_layer if preset else round(DEPTH_OF_EDIT * depth)
    if not 0 <= layer < depth:
        raise ConfigError(f"layer {layer} does not exist; the model has layers 0 to {depth - 1}")
    return layer


def finetune_settings(preset: str | None, editor: str) -> dict[str, Any]:
    """What a preset's settings for a fine-tuning editor say; nothing for other models."""
    return dict(FINETUNE.get((preset or "", editor), {}))
