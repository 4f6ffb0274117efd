"""Prefixes: the sentences that may stand before a paraphrase, and the choice of those that suit a relation."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cfbuild.templates.sentences import Mentions, cut_sentences, distractor_prefixes, without_names
from cfbuild.text.languages import language as wording_of

BUILTIN, NONE, REFERENCES, MODEL = "builtin", "none", "references", "model"
"""The names of sources of sentences; any other name is a text file's path."""

_log = logging.getLogger(__name__)

Names = Callable[[str], Sequence[str]]
"""A function from a relation to the names of all of its objects."""


@dataclass(frozen=True, slots=True)
class Sampler:
    """A model that writes texts: `signature` holds everything that the texts depend on, `texts` returns them."""

    signature: Mapping[str, Any]
    texts: Callable[[], Sequence[str]]


@dataclass(frozen=True, slots=True)
class Prefixes:
    """Sentences that may stand before a paraphrase, in `language`; without any, paraphrases have no prefix.

    indexed: True to find names by an index of words, faster for many sentences; False to search each sentence.
    """

    sentences: tuple[str, ...] = ()
    language: str = "en"
    indexed: bool = False

    @classmethod
    def builtin(cls) -> Prefixes:
        """Return the bundled sentences, which are English and contain no names."""
        return cls(distractor_prefixes())

    @classmethod
    def cut(cls, texts: Iterable[str], language: str = "en", seed: int = 0) -> Prefixes:
        """Return the sentences of `texts` that make sense alone, or a seeded choice of very many."""
        # The index is of words, which scripts without spaces do not separate.
        return cls(cut_sentences(texts, language, seed), language, indexed=wording_of(language).sentences is None)

    def by_relation(self, names: Names) -> Callable[[str], Sequence[str]]:
        """Return the function from a relation to the sentences that name none of its objects."""
        mentions = Mentions(self.sentences, self.language) if self.indexed else None
        found: dict[str, tuple[str, ...]] = {}

        def of(relation: str) -> Sequence[str]:
            if relation not in found:
                objects = names(relation)
                silent = mentions.without(objects) if mentions else without_names(self.sentences, objects)
                if self.sentences and not silent:
                    _log.warning(
                        "%s: each of %d sentences names one of its objects, so its paraphrases have no prefix",
                        relation,
                        len(self.sentences),
                    )
                found[relation] = silent
            return found[relation]

        return of
