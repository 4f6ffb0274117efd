"""A model with a change of its weights, as a folder that transformers loads."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cfbuild.errors import ConfigError
from cfbuild.lm.delta import Delta, applied
from cfbuild.lm.model import LanguageModel

CARD = "README.md"


def save_edited(lm: LanguageModel, delta: Delta, folder: Path, card: str) -> None:
    """Write the model with `delta` in its weights, its tokenizer and a card into a new folder, whole or not at all.

    card: the text of README.md. The weights are safetensors in the model's number format; the loaded model stays as it
    is. Raises ConfigError if the folder exists.
    """
    with _whole_folder(folder) as part:
        with applied(lm, delta):
            lm.model.save_pretrained(part)
        lm.tokenizer.save_pretrained(part)
        (part / CARD).write_text(card, encoding="utf-8")


@contextmanager
def _whole_folder(folder: Path) -> Iterator[Path]:
    """Yield a folder to fill, which is renamed to `folder` at the end; that of an interrupted call is deleted first."""
    if folder.exists():
        raise ConfigError(f"{folder} is there already; expected the name of a new folder")
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    yield part
    part.replace(folder)
