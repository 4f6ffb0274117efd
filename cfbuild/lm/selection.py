"""Options that name a model and how it is loaded. Nothing here loads a model library."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from cfbuild.lm.families import DEFAULT_PRESET, PRESETS
from cfbuild.option import ABOUT_MODEL, COMMA_SEPARATED, WORD, option

MODELS = COMMA_SEPARATED.naming(*PRESETS)
"""The form of several models."""


def device_option() -> Any:
    """Return the field of the option `--device`."""
    return option(
        "auto",
        "Where to compute: auto (an accelerator if there is one), cpu, cuda, cuda:1, mps, ...",
        panel=ABOUT_MODEL,
        form=WORD.naming("auto", "cpu", "cuda", "mps"),
    )


def dtype_option() -> Any:
    """Return the field of the option `--dtype`."""
    formats = ("auto", "float32", "bfloat16", "float16")
    help = "The number format: float32, bfloat16, float16, or auto, which takes float32 where it fits."
    return option("auto", help, panel=ABOUT_MODEL, form=WORD.naming(*formats))


@dataclass(frozen=True)
class ModelOptions:
    """Options of commands that load a model; they are the arguments of `cfbuild.lm.load.load`."""

    model: str = option(
        DEFAULT_PRESET,
        f"The model: a preset ({', '.join(PRESETS)}), a Hub id, a folder, or a .gguf file.",
        flag="--model -m",
        panel=ABOUT_MODEL,
        form=WORD.naming(*PRESETS),
    )
    device: str = device_option()
    dtype: str = dtype_option()
    revision: str | None = option(
        None, "The branch, tag or commit of a model on the Hub. [default: its main branch]", panel=ABOUT_MODEL
    )
    trust: str | None = option(
        None,
        "Repeat the name of --model here to allow pickled weights and code from its repository; the code runs with "
        "your rights.",
        panel=ABOUT_MODEL,
        metavar="MODEL",
    )

    def for_workers(self, gpus: int) -> ModelOptions:
        """Return the options of workers with `gpus` GPUs each. With any, `auto` means a GPU and never the CPU."""
        return replace(self, device="cuda") if gpus and self.device == "auto" else self
