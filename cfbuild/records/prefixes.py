"""The sentences that may stand before a paraphrase, and those of them that a relation may have."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cfbuild.templates.sentences import Mentions, cut_sentences, distractor_prefixes, without_names

BUILTIN, NONE, REFERENCES, MODEL = "builtin", "none", "references", "model"
"""The names of sources of sentences; any other is a text file's."""

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
    """Sentences that may stand before a paraphrase, in `language`; none means that paraphrases are printed clean.

    `indexed` tells how names are found in them: by an index of tokens, which pays for many sentences, or one by one.
    """

    sentences: tuple[str, ...] = ()
    language: str = "en"
    indexed: bool = False

    @classmethod
    def builtin(cls) -> Prefixes:
        """Return the bundled sentences, which are English and name nothing."""
        return cls(distractor_prefixes())

    @classmethod
    def cut(cls, texts: Iterable[str], language: str = "en", seed: int = 0) -> Prefixes:
        """Return the sentences of `texts` that can stand alone, a seeded choice where there are very many."""
        return cls(cut_sentences(texts, language, seed), language, indexed=True)

    def by_relation(self, names: Names) -> Callable[[str], Sequence[str]]:
        """Return the function from a relation to the sentences that name none of its objects."""
        mentions = Mentions(self.sentences, self.language) if self.indexed else None
        found: dict[str, tuple[str, ...]] = {}

        def of(relation: str) -> Sequence[str]:
            if relation not in found:
                unwanted = names(relation)
                silent = mentions.without(unwanted) if mentions else without_names(self.sentences, unwanted)
                if self.sentences and not silent:
                    _log.warning("%s: each of %d sentences names one of its objects", relation, len(self.sentences))
                found[relation] = silent
            return found[relation]

        return of
