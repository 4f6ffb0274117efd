"""The supplies of editors beside a model: contexts sampled from it, and the covariance of a layer's keys."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from cfbuild.data import Record, Reference
from cfbuild.edit import COVARIANCE_TOKENS
from cfbuild.edit.artefacts import Artefact, weights_identity
from cfbuild.edit.corpus import Corpus, of_texts, open_corpus
from cfbuild.edit.covariance import Covariance, key_covariance, load_covariance
from cfbuild.errors import ConfigError, ModelError
from cfbuild.lm.model import LanguageModel
from cfbuild.lm.sample import CONTEXT_LENGTHS, sample_contexts
from cfbuild.progress import Progress, silent
from cfbuild.store.files import sha256_file
from cfbuild.store.jsonl import read_json, write_json

BUILD, NONE = "build", "none"
"""Covariances that are no file and no dataset: over the build's own true statements; C = I."""
CONTEXTS = "contexts.json"
CONTEXTS_IN_ALL = sum(count for _, count in CONTEXT_LENGTHS)


@dataclass(frozen=True)
class ModelSupplies:
    """Supplies for one model.

    `corpus` gives the build's own texts; `covariance_of` names what C is computed over: `build`, `none`, an .npz file
    with C, a text file or `hub:NAME`; `tokens` is the number of its tokens that are used; `seed` seeds the contexts.
    """

    lm: LanguageModel
    corpus: Callable[[], Corpus]
    covariance_of: str = BUILD
    tokens: int = COVARIANCE_TOKENS
    seed: int = 0
    progress: Progress = silent

    def contexts(self) -> tuple[str, ...]:
        """Return the texts that ROME puts in front of a prompt.

        They are sampled once for a model, kind of device, torch version and seed.
        """
        made_of = {
            **weights_identity(self.lm),
            "device": self.lm.device.type,
            "torch": torch.__version__,
            "seed": self.seed,
            "lengths": CONTEXT_LENGTHS,
        }

        def make(folder: Path) -> None:
            contexts = sample_contexts(
                self.lm, self.seed, lambda count: self.progress("contexts", count, CONTEXTS_IN_ALL)
            )
            write_json(folder / CONTEXTS, list(contexts))

        return Artefact("contexts", made_of).get(make, _read_contexts)

    def covariance(self, layer: int) -> Covariance | None:
        """Return C of a layer's keys, None for `none`. Raises ConfigError or ModelError for what cannot be read."""
        if self.covariance_of == NONE:
            return None
        if self.covariance_of.endswith(".npz"):
            return load_covariance(Path(self.covariance_of).expanduser(), self.lm.key_width(layer))
        corpus = self.corpus() if self.covariance_of == BUILD else open_corpus(self.covariance_of)
        return key_covariance(self.lm, layer, corpus, self.tokens, self.progress)


def _read_contexts(folder: Path) -> tuple[str, ...]:
    contexts = read_json(folder / CONTEXTS)
    if not isinstance(contexts, list) or not all(isinstance(text, str) for text in contexts):
        raise ModelError(f"{folder / CONTEXTS}: expected a list of texts")
    return tuple(contexts)


def covariance_name(spec: str) -> str:
    """Return the name of what C is computed over, without a path of this machine; it changes when the file does.

    Raises ConfigError for a file that is not there.
    """
    path = Path(spec).expanduser()
    if path.is_file():
        return f"{path.name}@{sha256_file(path)[:16]}"
    if spec.endswith(".npz"):
        raise ConfigError(f"covariance {spec}: no such file")
    return spec if spec in (BUILD, NONE) else open_corpus(spec).name


def build_corpus(records: Iterable[Record], references: Sequence[Reference]) -> Corpus:
    """Return the true statements of a build itself, its references and generation prompts as a corpus.

    Each text is in it once, in an order that mixes relations.
    """
    texts = {reference.text for reference in references}
    for record in records:
        true, new = record.target_true.label, record.target_new.label
        texts |= {f"{record.rewrite} {true}."} | {f"{one.text} {true}." for one in record.paraphrases}
        texts |= {f"{one.text} {true}." for one in record.neighborhood}
        texts |= {f"{one.text} {new}." for one in record.attribute}
        texts |= set(record.generation)
    ordered = sorted(texts)
    random.Random("build corpus").shuffle(ordered)
    return of_texts("build", ordered)
