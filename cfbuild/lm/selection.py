"""The options that say which model is loaded, and how; nothing here loads one."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cfbuild.lm.families import DEFAULT_PRESET, PRESETS
from cfbuild.option import ABOUT_MODEL, COMMA_SEPARATED, WORD, option

DEVICE = WORD.naming("auto", "cpu", "cuda", "mps")
NUMBER_FORMAT = WORD.naming("auto", "float32", "bfloat16", "float16")
"""The forms of options about a model, with words for a shell."""
MODELS = COMMA_SEPARATED.naming(*PRESETS)
"""The form of several models."""


@dataclass(frozen=True)
class ModelOptions:
    """Options of a command that loads a model: arguments of `cfbuild.lm.load.load`."""

    model: str = option(
        DEFAULT_PRESET,
        f"A preset ({', '.join(PRESETS)}), a Hub id, a folder, or a .gguf file.",
        flag="--model -m",
        panel=ABOUT_MODEL,
        form=WORD.naming(*PRESETS),
    )
    device: str = option(
        "auto",
        "auto, cpu, cuda, cuda:1, mps, ...; auto takes an accelerator if there is one.",
        panel=ABOUT_MODEL,
        form=DEVICE,
    )
    dtype: str = option("auto", "auto, float32, bfloat16 or float16.", panel=ABOUT_MODEL, form=NUMBER_FORMAT)
    revision: str | None = option(None, "Branch, tag or commit of a model on the Hub.", panel=ABOUT_MODEL)
    trust: str | None = option(
        None,
        "The name given with --model once more, to allow pickled weights and code of that model's repository, "
        "which then runs as you.",
        panel=ABOUT_MODEL,
        metavar="MODEL",
    )

    def for_workers(self, gpus: int) -> ModelOptions:
        """Return the options of workers that have so many GPUs each: with any, one of them, and no CPU in its place."""
        return replace(self, device="cuda") if gpus and self.device == "auto" else self
