"""A seeded order of subjects that a SPARQL endpoint can follow too, so that a sample needs no whole relation.

A subject's place is the MD5 of its IRI (which SPARQL 1.1 computes as well) with its hex digits relabelled by
permutations drawn from the seed. Whoever wants the first N subjects asks for the hash prefixes that come first; the
sample is the same whatever the length of the prefixes, the size of the pages, or whether everything was fetched.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator
from itertools import product

from cfbuild.data import Fact

DIGITS = "0123456789abcdef"
DEPTH = 8
"""Digits that are relabelled; 16**8 places are more than there are items."""

ENTITY = "http://www.wikidata.org/entity/"

Pair = tuple[int, int]
"""Subject and object numbers: Q90 is 90."""


class SampleOrder:
    """The order of one relation's subjects under one seed."""

    def __init__(self, seed: int, relation: str) -> None:
        self._orders = [_shuffled(f"{seed}:{relation}:{level}") for level in range(DEPTH)]
        self._tables = [str.maketrans(order, DIGITS) for order in self._orders]

    def place(self, subject: int) -> str:
        """Where Q`subject` comes: a string that sorts by the order."""
        digest = hashlib.md5(f"{ENTITY}Q{subject}".encode(), usedforsecurity=False).hexdigest()
        head = "".join(digest[level].translate(table) for level, table in enumerate(self._tables))
        return head + digest[DEPTH:]

    def prefixes(self, depth: int) -> Iterator[str]:
        """Every prefix of `depth` hex digits of the plain MD5, first place first."""
        return ("".join(digits) for digits in product(*self._orders[:depth]))


def _shuffled(key: str) -> str:
    digits = list(DIGITS)
    random.Random(key).shuffle(digits)
    return "".join(digits)


class Sample:
    """Up to `limit` facts: whole subjects in order, leaving out those whose facts no longer fit.

    A subject comes with all its objects or not at all, because whether another object is also true of it must stay
    visible.
    """

    def __init__(self, order: SampleOrder, limit: int) -> None:
        self.limit = limit
        self.pairs: set[Pair] = set()
        self._order = order

    @property
    def full(self) -> bool:
        return len(self.pairs) >= self.limit

    def add(self, pairs: Iterable[Pair]) -> None:
        """Take what fits from pairs that all come after those added before."""
        subjects: dict[int, set[int]] = {}
        for subject, value in pairs:
            subjects.setdefault(subject, set()).add(value)
        for subject in sorted(subjects, key=self._order.place):
            if self.full:
                return
            if len(self.pairs) + len(subjects[subject]) <= self.limit:
                self.pairs.update((subject, value) for value in subjects[subject])


def sampled(facts: Iterable[Fact], relation: str, limit: int | None, seed: int) -> list[Fact]:
    """The seeded sample of facts that are at hand already, in the order of their ids; all of them without a limit."""
    by_pair = {(int(fact.subject[1:]), int(fact.object[1:])): fact for fact in facts}
    if limit is None:
        return [by_pair[pair] for pair in sorted(by_pair)]
    sample = Sample(SampleOrder(seed, relation), limit)
    sample.add(by_pair)
    return [by_pair[pair] for pair in sorted(sample.pairs)]
