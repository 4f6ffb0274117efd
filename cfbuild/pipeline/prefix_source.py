"""The sources of the sentences that `cfbuild generate` puts before paraphrases: files, the build, a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cfbuild.errors import ConfigError, DataError
from cfbuild.records.prefixes import BUILTIN, MODEL, NONE, REFERENCES, Prefixes, Sampler
from cfbuild.store import codec, files, jsonl
from cfbuild.store.folder import BuildFolder
from cfbuild.templates.sentences import distractor_prefixes
from cfbuild.text.languages import LANGUAGES, language

SAMPLED = "sentences.txt"
"""The file that keeps a model's texts while records are made, so that they are not sampled again."""


@dataclass(frozen=True, slots=True)
class PrefixSource:
    """A source of sentences for prefixes.

    source: builtin, references, model, none, or the path of a text file.
    code: the build's language.
    sampler: writes the texts of the source model.
    """

    folder: BuildFolder
    source: str
    code: str
    seed: int
    sampler: Sampler | None = None

    @property
    def config(self) -> dict[str, Any]:
        """Everything that the sentences depend on, for the manifest.

        Raises ConfigError for a source that cannot be used.
        """
        if self.source == NONE:
            return {"source": NONE}
        if self.source == BUILTIN:
            if language(self.code) is not LANGUAGES["en"]:
                raise ConfigError(
                    f"the bundled distractor sentences are in English, the build is in {self.code!r}; "
                    "choose --prefixes none, references, or a file"
                )
            return {"source": BUILTIN, "sha256": files.sha256_text("\n".join(distractor_prefixes()))}
        if self.source == MODEL:
            if self.sampler is None:
                raise ConfigError("--prefixes model needs a model that writes the texts; name one by --model")
            return {"source": MODEL, **self.sampler.signature}
        path = self._file()
        if self.source == REFERENCES:
            return {"source": REFERENCES, "sha256": files.sha256_file(path)}
        # A file's folder is this machine's; the digest identifies the content.
        return {"source": "file", "name": path.name, "sha256": files.sha256_file(path)}

    def prefixes(self, progress: Path) -> Prefixes:
        """Return the sentences. Raises DataError if the texts cannot be read or hold no usable sentence.

        progress: the folder of unfinished work, which keeps sampled texts.
        """
        if self.source in (NONE, BUILTIN):
            return Prefixes.builtin() if self.source == BUILTIN else Prefixes()
        prefixes = Prefixes.cut(self._texts(progress), self.code, self.seed)
        if not prefixes.sentences:
            raise DataError(f"the texts of --prefixes {self.source} hold no whole sentence of 5 to 25 words to use")
        return prefixes

    def _texts(self, progress: Path) -> Sequence[str]:
        if self.source == REFERENCES:
            return [reference.text for reference in jsonl.read_values(self._file(), codec.decode_reference)]
        if self.source != MODEL:
            return [_read(self._file())]
        kept = progress / SAMPLED
        if not kept.exists():
            # Line breaks end sentences anyway; a text a line keeps the texts apart when they are read again.
            texts = [" ".join(text.split()) for text in self.sampler.texts()] if self.sampler else []
            files.write_atomic(kept, (f"{text}\n" for text in texts))
        return [_read(kept)]

    def _file(self) -> Path:
        """Return the file of the texts. Raises ConfigError if there is none."""
        if self.source != REFERENCES:
            path = Path(self.source).expanduser()
            if not path.is_file():
                raise ConfigError(
                    f"prefixes {self.source!r}: expected builtin, references, model, none, or a text file"
                )
            return path
        path = self.folder.path("references.jsonl")
        texts = jsonl.read_values(path, codec.decode_reference) if path.is_file() else iter(())
        if not any(reference.title for reference in texts):
            raise ConfigError("the build has no texts of Wikipedia; run `cfbuild fetch --references` first")
        return path


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text ({error})") from error
