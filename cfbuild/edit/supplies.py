"""The supplies of editors: contexts sampled from the model, covariances of keys, and trained networks."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import lru_cache
from pathlib import Path

from cfbuild.data import Record, Reference
from cfbuild.edit import COVARIANCE_TOKENS, TOKENS_PER_WIDTH, TRAINED
from cfbuild.edit.artefacts import kept_texts
from cfbuild.edit.corpus import Corpus, of_texts, open_corpus
from cfbuild.edit.covariance import Covariance, gather_covariances, key_covariances, load_covariance
from cfbuild.edit.trained.artefact import TrainedNetwork, load_network, network_digest
from cfbuild.errors import ConfigError
from cfbuild.lm.model import LanguageModel
from cfbuild.lm.sample import OPENINGS, sample_contexts
from cfbuild.progress import Progress, silent
from cfbuild.store.files import sha256_file
from cfbuild.text.scripts import stated

BUILD, NONE = "build", "none"
"""Values of --covariance that are no file and no dataset: C over the build's own true statements; C = I."""


@dataclass(frozen=True)
class ModelSupplies:
    """Supplies for one model, each made when it is first needed.

    `corpus` returns the build's own texts. `covariance_of` says what C is computed over: `build`, `none`, an .npz file
    with C, a text file or `hub:NAME`. `tokens` is how many tokens of it are used (None: enough for the width of the
    keys). `seed` seeds the contexts. `networks` is the folder of trained networks.
    """

    lm: LanguageModel
    corpus: Callable[[], Corpus]
    covariance_of: str = BUILD
    tokens: int | None = None
    seed: int = 0
    networks: Path = Path("build", TRAINED)
    progress: Progress = silent

    def contexts(self, paper: str) -> tuple[str, ...]:
        """Return the texts that a paper, "rome" or "memit", puts in front of a prompt."""
        openings = OPENINGS[paper]
        total = sum(opening.count for opening in openings)

        def write() -> tuple[str, ...]:
            return sample_contexts(self.lm, self.seed, openings, lambda count: self.progress("contexts", count, total))

        settings = {"seed": self.seed, "openings": [list(astuple(opening)) for opening in openings]}
        return kept_texts(self.lm, "contexts", settings, write)

    def covariances(self, layers: Sequence[int]) -> Mapping[int, Covariance | None]:
        """Return C of each layer's keys, None where the user chose none (the identity).

        Raises ConfigError or ModelError for a corpus or a file that cannot be read, and for a file with the C of a
        single layer where there are several.
        """
        if self.covariance_of == NONE:
            return dict.fromkeys(layers)
        if self.covariance_of.endswith(".npz"):
            layer = self._only(layers)
            return {layer: load_covariance(Path(self.covariance_of).expanduser(), self.lm.key_width(layer))}
        return dict(key_covariances(self.lm, layers, self._corpus(), self._tokens(layers), self.progress))

    def gather(self, layers: Sequence[int]) -> None:
        """Compute C of these layers at once, for `covariances` to find each in the cache. Raises as that does."""
        if self.covariance_of.endswith(".npz"):
            self._only(layers)
        elif self.covariance_of != NONE:
            gather_covariances(self.lm, layers, self._corpus(), self._tokens(layers), self.progress)

    def trained(self, name: str, kind: str, folder: str | None) -> TrainedNetwork:
        """Return the network of a `kind` in `folder`, else that of the editor `name`. Raises as `load_network` does."""
        return load_network(_trained_folder(self.networks, name, folder), name, kind, self.lm)

    def _corpus(self) -> Corpus:
        return self.corpus() if self.covariance_of == BUILD else open_corpus(self.covariance_of)

    def _tokens(self, layers: Sequence[int]) -> int:
        """Return the number of tokens for C: as set, else enough for the widest keys."""
        return self.tokens or max(COVARIANCE_TOKENS, *(TOKENS_PER_WIDTH * self.lm.key_width(layer) for layer in layers))

    def _only(self, layers: Sequence[int]) -> int:
        if len(layers) > 1:
            raise ConfigError(
                f"covariance {self.covariance_of}: a file holds C of one layer, and the editor changes the layers "
                f"{', '.join(map(str, layers))}; give a text file, hub:NAME or build"
            )
        return layers[0]


class LastSupplies:
    """Supplies that keep the latest contexts and covariances, for editors of one layer made one after another."""

    def __init__(self, supplies: ModelSupplies) -> None:
        self.contexts = lru_cache(maxsize=1)(supplies.contexts)
        self.trained = supplies.trained
        self._of_layers = lru_cache(maxsize=1)(supplies.covariances)

    def covariances(self, layers: Sequence[int]) -> Mapping[int, Covariance | None]:
        """Return C of each layer's keys, None where the user chose none."""
        return self._of_layers(tuple(layers))


def trained_digest(networks: Path, name: str, folder: str | None) -> str:
    """Return the digest of the network in `folder`, else of that of the editor `name` in the folder `networks`.

    Raises ConfigError, with the command that trains it, if there is none.
    """
    return network_digest(_trained_folder(networks, name, folder), name)


def _trained_folder(networks: Path, name: str, folder: str | None) -> Path:
    return Path(folder).expanduser() if folder else networks / name


def covariance_name(source: str) -> str:
    """Return the name of what C is computed over, without a path of this machine; it changes when the file does.

    source: a value of --covariance. Raises ConfigError for a file that does not exist.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return f"{path.name}@{sha256_file(path)[:16]}"
    if source.endswith(".npz"):
        raise ConfigError(f"covariance {source}: no such file; give one with C, or another --covariance")
    return source if source in (BUILD, NONE) else open_corpus(source).name


def build_corpus(records: Iterable[Record], references: Sequence[Reference]) -> Corpus:
    """Return a build's true statements, reference texts and generation prompts, each once, mixed, as a corpus."""
    texts = {reference.text for reference in references}
    for record in records:
        true, new = record.target_true.label, record.target_new.label
        texts |= {stated(record.rewrite, true)} | {stated(prompt.text, true) for prompt in record.paraphrases}
        texts |= {stated(prompt.text, true) for prompt in record.neighborhood}
        texts |= {stated(prompt.text, new) for prompt in record.attribute}
        texts |= set(record.generation)
    ordered = sorted(texts)
    random.Random("build corpus").shuffle(ordered)
    return of_texts("build", ordered)
