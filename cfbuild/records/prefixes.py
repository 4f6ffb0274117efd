"""Where `cfbuild generate` gets the sentences before paraphrases from, and which of them a relation may have."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cfbuild.errors import ConfigError, DataError
from cfbuild.store import codec, files, jsonl
from cfbuild.store.folder import BuildFolder
from cfbuild.templates.sentences import Mentions, cut_sentences, distractor_prefixes, without_names

BUILTIN, NONE, REFERENCES, MODEL = "builtin", "none", "references", "model"
SAMPLED = "sentences.txt"
"""Where sentences that a model wrote lie while records are made: sampling is not repeated."""

_log = logging.getLogger(__name__)

Names = Callable[[str], Sequence[str]]
"""The names of everything that is an object of a relation."""


@dataclass(frozen=True, slots=True)
class Sampler:
    """A model that writes texts: everything they depend on, and the texts."""

    signature: Mapping[str, Any]
    texts: Callable[[], Sequence[str]]


@dataclass(frozen=True, slots=True)
class Prefixes:
    """A choice of sentences: `config` is what they depend on, `sentences` makes them, `of` those for a relation."""

    folder: BuildFolder
    source: str
    language: str
    seed: int
    sampler: Sampler | None = None

    @property
    def config(self) -> dict[str, Any]:
        """What the sentences depend on, for the manifest. Raises ConfigError for a source that cannot be used."""
        if self.source == NONE:
            return {"source": NONE}
        if self.source == BUILTIN:
            if self.language != "en":
                raise ConfigError(
                    f"the bundled distractor sentences are in English, the build is in {self.language!r}; "
                    "choose --prefixes none, references, or a file"
                )
            return {"source": BUILTIN, "sha256": files.sha256_text("\n".join(distractor_prefixes()))}
        if self.source == MODEL:
            if self.sampler is None:
                raise ConfigError("--prefixes model asks for a model to write them")
            return {"source": MODEL, **self.sampler.signature}
        path = self._file()
        if self.source == REFERENCES:
            return {"source": REFERENCES, "sha256": files.sha256_file(path)}
        # A file's folder is this machine's; what the file holds, its digest tells.
        return {"source": "file", "name": path.name, "sha256": files.sha256_file(path)}

    def of(self, progress: Path, names: Names) -> Callable[[str], Sequence[str]]:
        """Relation -> the sentences that name none of its objects. Raises DataError if there are no sentences at all.

        `progress` is where sampled texts are kept while the verb works.
        """
        sentences = self._sentences(progress)
        mentions = Mentions(sentences, self.language) if self.source not in (NONE, BUILTIN) else None
        found: dict[str, tuple[str, ...]] = {}

        def of(relation: str) -> Sequence[str]:
            if relation not in found:
                unwanted = names(relation)
                some = mentions.without(unwanted) if mentions else without_names(sentences, unwanted)
                if sentences and not some:
                    _log.warning("%s: each of %d sentences names one of its objects", relation, len(sentences))
                found[relation] = some
            return found[relation]

        return of

    def _sentences(self, progress: Path) -> tuple[str, ...]:
        if self.source in (NONE, BUILTIN):
            return distractor_prefixes() if self.source == BUILTIN else ()
        sentences = cut_sentences(self._texts(progress), self.language, self.seed)
        if not sentences:
            raise DataError(f"the texts of --prefixes {self.source} hold no whole sentence of 5 to 25 words to use")
        return sentences

    def _texts(self, progress: Path) -> Sequence[str]:
        if self.source == REFERENCES:
            return [one.text for one in jsonl.read_values(self._file(), codec.decode_reference)]
        if self.source != MODEL:
            return [_read(self._file())]
        kept = progress / SAMPLED
        if not kept.exists():
            # Line breaks end sentences anyway; a text a line comes back as it was.
            texts = [" ".join(one.split()) for one in self.sampler.texts()] if self.sampler else []
            files.write_atomic(kept, (f"{one}\n" for one in texts))
        return [_read(kept)]

    def _file(self) -> Path:
        if self.source != REFERENCES:
            path = Path(self.source).expanduser()
            if not path.is_file():
                raise ConfigError(
                    f"prefixes {self.source!r}: expected builtin, references, model, none, or a text file"
                )
            return path
        path = self.folder.path("references.jsonl")
        texts = jsonl.read_values(path, codec.decode_reference) if path.is_file() else iter(())
        if not any(one.title for one in texts):
            raise ConfigError("the build has no texts of Wikipedia; run `cfbuild fetch` with --references first")
        return path


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text ({error})") from error
