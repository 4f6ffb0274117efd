"""Texts to compute statistics over: a text file, a dataset of the Hub, or what the caller has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cfbuild.errors import ConfigError, ModelError
from cfbuild.store.files import sha256_file, sha256_text

HUB_PREFIX = "hub:"
LONGEST_PARAGRAPH = 1 << 20
"""Characters after which a paragraph is cut: a file may be one line."""
TEXT_COLUMN = "text"


@dataclass(frozen=True)
class Corpus:
    """Texts, and a name that changes whenever they do."""

    name: str
    texts: Iterable[str]


def of_texts(name: str, texts: Iterable[str]) -> Corpus:
    """Return a corpus of texts at hand, named by `name` and their digest."""
    kept = tuple(texts)
    return Corpus(f"{name}:{sha256_text(chr(0).join(kept))[:16]}", kept)


def open_corpus(spec: str) -> Corpus:
    """Return the corpus of a text file (one text a paragraph) or a dataset: `hub:NAME[:CONFIG[:SPLIT]]`, column `text`.

    Raises ConfigError for anything else.
    """
    if spec.startswith(HUB_PREFIX):
        parts = spec[len(HUB_PREFIX) :].split(":")
        if not parts[0] or len(parts) > 3:
            raise ConfigError(f"corpus {spec!r} is not {HUB_PREFIX}NAME, {HUB_PREFIX}NAME:CONFIG or with :SPLIT")
        return Corpus(f"{spec}@{_dataset_version(*parts)}", _dataset_texts(*parts))
    path = Path(spec).expanduser()
    if not path.is_file():
        raise ConfigError(
            f"corpus {spec!r} is no file; expected a text file, {HUB_PREFIX}NAME for a dataset of the Hub, an .npz "
            "file with a covariance, build, or none"
        )
    return Corpus(f"text:{sha256_file(path)[:16]}", _paragraphs(path))


def _paragraphs(path: Path) -> Iterator[str]:
    paragraph: list[str] = []
    with path.open(encoding="utf-8-sig", errors="strict") as stream:
        try:
            while line := stream.readline(LONGEST_PARAGRAPH):
                if line.strip():
                    paragraph.append(line.strip())
                if paragraph and (not line.strip() or sum(map(len, paragraph)) >= LONGEST_PARAGRAPH):
                    yield " ".join(paragraph)
                    paragraph = []
        except UnicodeDecodeError as error:
            raise ModelError(f"{path}: is not UTF-8 text (byte {error.start} of a block)") from error
    if paragraph:
        yield " ".join(paragraph)


def _dataset_version(name: str, config: str | None = None, split: str = "train") -> str:
    """Return what tells one state of a dataset from another: its commit on the Hub, or a digest of its files."""
    from datasets import load_dataset_builder

    try:
        return str(load_dataset_builder(name, config or None).hash)[:16]
    except (OSError, ValueError, RuntimeError) as error:
        raise _unreadable(name, error) from error


def _unreadable(name: str, error: Exception) -> ModelError:
    return ModelError(f"dataset {name}: cannot be read ({(str(error) or type(error).__name__).splitlines()[0]})")


def _dataset_texts(name: str, config: str | None = None, split: str = "train") -> Iterator[str]:
    """Yield the texts of a dataset as they are streamed. Raises ModelError if it cannot be read or has no texts."""
    from datasets import load_dataset

    try:
        for row in load_dataset(name, config or None, split=split, streaming=True):
            yield row[TEXT_COLUMN]
    except KeyError as error:
        raise ModelError(f"dataset {name}: has no column {TEXT_COLUMN!r}") from error
    except (OSError, ValueError, RuntimeError) as error:
        raise _unreadable(name, error) from error
