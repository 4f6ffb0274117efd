"""Texts to compute statistics over: of a text file, of a dataset of the Hub, or given by the caller."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cfbuild.errors import ConfigError, ModelError
from cfbuild.store.files import sha256_file, sha256_text

HUB_PREFIX = "hub:"
"""The start of a corpus's name that is a dataset of the Hub."""
LONGEST_PARAGRAPH = 1 << 20
"""Characters after which a paragraph is cut, because a whole file may be one line."""
TEXT_COLUMN = "text"
"""The column of a dataset that is read."""


@dataclass(frozen=True)
class Corpus:
    """Texts, and a name that changes whenever they do; `texts` returns them from the first on, each time."""

    name: str
    texts: Callable[[], Iterable[str]]


def of_texts(name: str, texts: Iterable[str]) -> Corpus:
    """Return a corpus of the given texts, named by `name` and their digest."""
    all_texts = tuple(texts)
    return Corpus(f"{name}:{sha256_text(chr(0).join(all_texts))[:16]}", lambda: all_texts)


def open_corpus(source: str) -> Corpus:
    """Return the corpus of a text file (one text a paragraph) or of a dataset's column `text`.

    source: a path, or `hub:NAME[:CONFIG[:SPLIT]]`. Raises ConfigError for anything else.
    """
    if source.startswith(HUB_PREFIX):
        parts = source[len(HUB_PREFIX) :].split(":")
        if not parts[0] or len(parts) > 3:
            raise ConfigError(f"corpus {source!r} is not of the form {HUB_PREFIX}NAME[:CONFIG[:SPLIT]]")
        return Corpus(f"{source}@{_dataset_version(*parts)}", partial(_dataset_texts, *parts))
    path = Path(source).expanduser()
    if not path.is_file():
        raise ConfigError(
            f"corpus {source!r} is no file; expected a text file, {HUB_PREFIX}NAME for a dataset of the Hub, an .npz "
            "file with a covariance, build, or none"
        )
    return Corpus(f"text:{sha256_file(path)[:16]}", partial(_paragraphs, path))


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
    """Return what changes whenever a dataset does: its commit on the Hub, or a digest of its files."""
    from datasets import load_dataset_builder

    try:
        return str(load_dataset_builder(name, config or None).hash)[:16]
    except (OSError, ValueError, RuntimeError) as error:
        raise _unreadable(name, error) from error


def _unreadable(name: str, error: Exception) -> ModelError:
    return ModelError(f"dataset {name}: cannot be read ({(str(error) or type(error).__name__).splitlines()[0]})")


def _dataset_texts(name: str, config: str | None = None, split: str = "train") -> Iterator[str]:
    """Yield the texts of a dataset as they arrive. Raises ModelError if it cannot be read or has no texts."""
    from datasets import load_dataset

    try:
        for row in load_dataset(name, config or None, split=split, streaming=True):
            yield row[TEXT_COLUMN]
    except KeyError as error:
        raise ModelError(f"dataset {name}: has no column {TEXT_COLUMN!r}; give another --covariance") from error
    except (OSError, ValueError, RuntimeError) as error:
        raise _unreadable(name, error) from error
