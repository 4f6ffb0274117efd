"""Seeded samples of a relation's facts, for which a SPARQL endpoint need not return the whole relation.

Subjects are ordered by hash, the MD5 of their IRI, which SPARQL 1.1 can compute too. The order starts at a hash drawn
from the seed and wraps around, so the first N subjects are those of a range of hashes. The sample is the same whatever
the width of the ranges and the size of the pages.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable

from cfbuild.data import Fact, id_number

DIGITS = 8
"""The first hex digits of a hash, which ranges are compared by."""
HASHES = 16**DIGITS
"""The number of hashes."""

ENTITY = "http://www.wikidata.org/entity/"

Pair = tuple[int, int]
"""Subject and object as numbers: (142, 90) is Q142 and Q90. The object 0 is one that nobody knows (`id_number`)."""

Span = tuple[int, int]
"""A range of hashes: from the first number to before the second, each from 0 to HASHES."""


class SampleOrder:
    """The order of a relation's subjects under a seed."""

    def __init__(self, seed: int, relation: str) -> None:
        self.start = random.Random(f"{seed}:{relation}").randrange(HASHES)

    def place(self, subject: int) -> tuple[int, str]:
        """Return the sort key of a subject, given as its number."""
        digest = hashlib.md5(f"{ENTITY}Q{subject}".encode(), usedforsecurity=False).hexdigest()
        return (int(digest[:DIGITS], 16) - self.start) % HASHES, digest

    def spans(self, first: int, last: int) -> list[Span]:
        """Return the range of hashes of the places from `first` to before `last`: two spans if they wrap around."""
        low, high = first + self.start, min(last, HASHES) + self.start
        spans = [(low, min(high, HASHES)), (max(low, HASHES) - HASHES, high - HASHES)]
        return [span for span in spans if span[0] < span[1]]


class Sample:
    """A sample of at most `limit` facts of the first subjects in `order`.

    A subject comes with all of its objects, so that it stays visible which are true of it, or not at all: one with more
    facts than still fit is left out, and so is one with unknown objects alone.
    """

    def __init__(self, order: SampleOrder, limit: int) -> None:
        self.limit = limit
        self.pairs: set[Pair] = set()
        self._order = order

    @property
    def full(self) -> bool:
        """Return True if the sample has `limit` facts."""
        return len(self.pairs) >= self.limit

    def add(self, pairs: Iterable[Pair]) -> None:
        """Add the pairs that fit. Their subjects must come after all that were added before."""
        subjects: dict[int, set[int]] = {}
        for subject, value in pairs:
            subjects.setdefault(subject, set()).add(value)
        for subject in sorted(subjects, key=self._order.place):
            if self.full:
                return
            if not any(subjects[subject]):
                continue
            if len(self.pairs) + len(subjects[subject]) <= self.limit:
                self.pairs.update((subject, value) for value in subjects[subject])


def sampled(facts: Iterable[Fact], relation: str, limit: int | None, seed: int) -> list[Fact]:
    """Return the seeded sample of at most `limit` facts (None: all), in the order of their ids."""
    by_pair = {(id_number(fact.subject), id_number(fact.object)): fact for fact in facts}
    if limit is None:
        return [by_pair[pair] for pair in sorted(by_pair)]
    sample = Sample(SampleOrder(seed, relation), limit)
    sample.add(by_pair)
    return [by_pair[pair] for pair in sorted(sample.pairs)]
