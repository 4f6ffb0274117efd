"""Results that take time to compute and are kept in the cache, such as contexts and covariances.

An artefact's folder is named by the digest of everything that affects it, such as the model's exact weights.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from cfbuild.errors import DataError, ModelError
from cfbuild.lm.model import LanguageModel
from cfbuild.store.cache import cache_folder
from cfbuild.store.files import sha256_text
from cfbuild.store.jsonl import read_json, write_json

Loaded = TypeVar("Loaded")
MADE_OF = "made_of.json"
"""The file in an artefact's folder that lists all that affects it; a folder without it is not finished."""
TEXTS = "texts.json"
"""The file in the folder of an artefact that is texts."""
UNKNOWN = "unknown"
"""The revision of a model whose source does not name its weights."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Artefact:
    """A result to keep: its kind (such as "contexts"), and everything that affects it as JSON values."""

    kind: str
    made_of: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        """Return the artefact's folder in the cache, made or not."""
        digest = sha256_text(json.dumps(self.made_of, sort_keys=True, allow_nan=False))
        return cache_folder() / self.kind / digest[:32]

    @property
    def is_made(self) -> bool:
        """Return True if the artefact is in the cache, whole."""
        return (self.folder / MADE_OF).is_file()

    def get(self, make: Callable[[Path], None], read: Callable[[Path], Loaded]) -> Loaded:
        """Return the value that `read` takes from the artefact's folder; a folder that is not there `make` fills first.

        A folder for which `read` raises ModelError is made again. The folder is put in place whole.
        """
        if self.is_made:
            try:
                return read(self.folder)
            except ModelError as error:
                _log.warning("a cached %s is computed again: %s", self.kind, error)
                shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=self.folder.parent, prefix=".make-"))
        try:
            make(staging)
            write_json(staging / MADE_OF, dict(self.made_of))
            try:
                staging.rename(self.folder)
            except OSError:  # another process was first, and made the same
                if not self.is_made:
                    raise
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return read(self.folder)


def weights_identity(lm: LanguageModel) -> dict[str, str]:
    """Return what names a model's exact weights: the revision, or a digest where it has none, and the number format."""
    revision = lm.revision if lm.revision != UNKNOWN else f"weights:{_digest(lm)}"
    return {"revision": revision, "dtype": str(lm.dtype).removeprefix("torch.")}


def kept_texts(
    lm: LanguageModel, kind: str, settings: Mapping[str, Any], write: Callable[[], Sequence[str]]
) -> tuple[str, ...]:
    """Return the texts of `write`, kept by model, `kind` of texts, type of device, torch version and `settings`."""
    made_of = {**weights_identity(lm), "device": lm.device.type, "torch": torch.__version__, **settings}
    return Artefact(kind, made_of).get(lambda folder: write_json(folder / TEXTS, list(write())), _read_texts)


def _read_texts(folder: Path) -> tuple[str, ...]:
    try:
        texts = read_json(folder / TEXTS)
    except (DataError, OSError) as error:
        raise ModelError(str(error)) from error
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ModelError(f"{folder / TEXTS}: is no list of texts")
    return tuple(texts)


def _digest(lm: LanguageModel) -> str:
    digest = hashlib.sha256()
    for name, weight in lm.model.state_dict().items():
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}\n".encode())
        digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:32]
