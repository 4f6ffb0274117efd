"""Measures of generated texts: n-gram entropy (GE), distinct n-grams, and likeness to reference texts (RS)."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cfbuild.data import Record, Reference
from cfbuild.score.in_use import ObjectNames

ENTROPY_WEIGHTS = {2: 2 / 3, 3: 4 / 3}
"""Weights of the bigram and trigram entropies in GE, whose mean is taken (released code)."""


WORD = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")
"""A word token of GE: letters and digits with inner apostrophes, or one mark."""


class ReferenceTexts:
    """Reference texts by (relation, object), and the TF-IDF space that all of them span."""

    def __init__(self, references: Iterable[Reference]) -> None:
        texts: dict[tuple[str, str], list[str]] = defaultdict(list)
        for reference in references:
            texts[reference.relation, reference.object].append(reference.text)
        self._joined = {key: " ".join(object_texts) for key, object_texts in texts.items()}
        self._vectorizer = _fitted([text for object_texts in texts.values() for text in object_texts])

    def similarity(self, relation: str, object_id: str, generations: Sequence[str]) -> float | None:
        """Return RS: the cosine of `generations` and the references of the o* `object_id`; None without any."""
        reference = self._joined.get((relation, object_id))
        if reference is None or not generations:
            return None
        vectors = self._vectorizer.transform([" ".join(generations), reference])  # rows have unit length
        return float((vectors[0] @ vectors[1].T).toarray()[0, 0])


def tfidf_statistics(texts: Sequence[str]) -> tuple[dict[str, int], np.ndarray]:
    """Return the column of each word of texts in their TF-IDF space, and each column's inverse document frequency."""
    fitted = _fitted(texts)
    return {word: int(place) for word, place in fitted.vocabulary_.items()}, np.asarray(fitted.idf_, dtype=np.float64)


def _fitted(texts: Sequence[str]) -> Any:
    """Return scikit-learn's vectorizer fitted to texts; None without a text."""
    if not texts:
        return None
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer().fit(texts)


@dataclass(frozen=True, slots=True)
class Writing:
    """The settings of generated texts and answers.

    Texts are generated if there are `references` to compare them with, for the records of `case_ids` (None: all), by
    draws that follow from `seed`. Answers are written if there are `names` to match them by.
    """

    references: ReferenceTexts | None = None
    seed: int = 0
    names: ObjectNames | None = None
    case_ids: frozenset[int] | None = None

    def has_texts(self, record: Record) -> bool:
        """Return True if texts are written for a record."""
        return self.references is not None and (self.case_ids is None or record.case_id in self.case_ids)


def distinct_ngrams(texts: Sequence[str], size: int) -> float | None:
    """Return distinct-n of the texts together (Li et al. 2016, section 5.2): distinct n-grams divided by the words.

    texts: generated texts without their prompts. size: n. None where there is no word.
    """
    words = [WORD.findall(text) for text in texts]
    total = sum(map(len, words))
    grams = {gram for text in words for gram in zip(*(text[start:] for start in range(size)), strict=False)}
    return len(grams) / total if total else None


def ngram_entropy_bits(text: str) -> float:
    """Return GE of one text: the weighted mean of its bigram and trigram entropies in bits."""
    words = WORD.findall(text)
    total = 0.0
    for size, weight in ENTROPY_WEIGHTS.items():
        counts = Counter(zip(*(words[start:] for start in range(size)), strict=False))
        share = np.array(list(counts.values()), dtype=float) / max(1, counts.total())
        total += weight * float(-(share * np.log2(share)).sum())
    return total / len(ENTROPY_WEIGHTS)
