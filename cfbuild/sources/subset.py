"""A seeded order of subjects that a SPARQL endpoint can follow too, so that a sample needs no whole relation.

A subject's hash is the MD5 of its IRI, which SPARQL 1.1 computes as well, and which compares as text. The order starts
at a hash drawn from the seed and runs once around, so the first N subjects are those of a range of hashes. The sample
is the same whatever the width of the ranges, the size of the pages, or whether everything was fetched.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable

from cfbuild.data import Fact, id_number

DIGITS = 8
"""The hex digits of a hash that ranges are compared by."""
HASHES = 16**DIGITS

ENTITY = "http://www.wikidata.org/entity/"

Pair = tuple[int, int]
"""Subject and object numbers: Q90 is 90."""
NOBODY_KNOWS = 0
"""The number of an unknown object, as `id_number` gives it."""

Span = tuple[int, int]
"""A range of hashes, from the first number to before the second, both in 0 to HASHES."""


class SampleOrder:
    """The order of a relation's subjects under a seed."""

    def __init__(self, seed: int, relation: str) -> None:
        self.start = random.Random(f"{seed}:{relation}").randrange(HASHES)

    def place(self, subject: int) -> tuple[int, str]:
        """Return a key that sorts the item Q`subject` into the order."""
        digest = hashlib.md5(f"{ENTITY}Q{subject}".encode(), usedforsecurity=False).hexdigest()
        return (int(digest[:DIGITS], 16) - self.start) % HASHES, digest

    def spans(self, first: int, last: int) -> list[Span]:
        """Return the hashes of the places from `first` to before `last`: a range, or two if they run over the end."""
        low, high = first + self.start, min(last, HASHES) + self.start
        around = [(low, min(high, HASHES)), (max(low, HASHES) - HASHES, high - HASHES)]
        return [span for span in around if span[0] < span[1]]


class Sample:
    """A sample of at most `limit` facts: whole subjects in order, without those whose facts no longer fit.

    A subject comes with all its objects or not at all, so that it stays visible if another object is true of it. One
    of which only unknown objects are told does not count.
    """

    def __init__(self, order: SampleOrder, limit: int) -> None:
        self.limit = limit
        self.pairs: set[Pair] = set()
        self._order = order

    @property
    def full(self) -> bool:
        return len(self.pairs) >= self.limit

    def add(self, pairs: Iterable[Pair]) -> None:
        """Add the pairs that fit; all must come after those added before in the order."""
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
    """Return the seeded sample of at most `limit` of the facts, in the order of their ids; None for all of them."""
    by_pair = {(id_number(fact.subject), id_number(fact.object)): fact for fact in facts}
    if limit is None:
        return [by_pair[pair] for pair in sorted(by_pair)]
    sample = Sample(SampleOrder(seed, relation), limit)
    sample.add(by_pair)
    return [by_pair[pair] for pair in sorted(sample.pairs)]
